"""The display formatter, which does not ask everybody, has the same answers as IPython's, which does."""

import datetime
import enum
import types

import pytest
from IPython.core.formatters import DisplayFormatter

from ipymini.ipython.formatter import Formatter


class Html:
    def _repr_html_(self):
        return "<b>html</b>"


class WithMetadata:
    def _repr_png_(self):
        return b"png", {"width": 1}


class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": "plain", "application/x": {"a": 1}}, {"application/x": {"b": 2}}


class Fails:
    def _repr_html_(self):
        raise RuntimeError("no html")

    def __repr__(self):
        return "fails"


class Says:
    """Answers to any name."""

    def __getattr__(self, name):
        if name == "_repr_html_":
            return lambda: "<i>asked</i>"
        raise AttributeError(name)

    def __repr__(self):
        return "says"


class Meta(type):
    def __getattr__(cls, name):
        if name == "_repr_html_":
            return lambda: "of the class"
        raise AttributeError(name)

    def __repr__(cls):
        return "made"


class Made(metaclass=Meta):
    def __repr__(self):
        return "a made one"


class Printed:
    def __repr__(self):
        return "printed"


class Lies:
    @property
    def __class__(self):
        return Html

    def __repr__(self):
        return "lies"


OBJECTS = {
    "a number": 1, "a text": "text\n", "a list": [1, [2, "x"]], "nothing": None, "a dict": {"a": {1, 2}},
    "a function": len, "a class": int, "a module": types, "a date": datetime.date(2020, 1, 2),
    "an enum": enum.Enum("Kind", "A").A, "an exception": ValueError("x"), "html": Html(), "a class with html": Html,
    "metadata": WithMetadata(), "a bundle": Bundle(), "html that fails": Fails(), "html for who asks": Says(),
    "an object of a metaclass": Made(), "a class of a metaclass": Made, "a registered type": Printed(),
    "html of its own": types.SimpleNamespace(_repr_html_=lambda: "own"), "an object that lies": Lies(),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("wanted", [{}, {"include": ["text/html"]}, {"exclude": ["text/plain"]}], ids=str)
def test_the_answer_is_that_of_ipythons_formatter(name, wanted):
    def answer(formatter):
        formatter.formatters["text/html"].for_type(Printed, lambda printed: "<u>registered</u>")
        return formatter.format(OBJECTS[name], **wanted)

    assert answer(Formatter()) == answer(DisplayFormatter())
