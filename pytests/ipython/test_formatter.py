"""Our display formatter gives the same answer as IPython's, which asks every formatter. No kernel."""

import collections
import datetime
import decimal
import enum
import fractions
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.formatters import BaseFormatter, DisplayFormatter
from IPython.display import HTML, JSON, Code, Image, Latex, Markdown
from traitlets import ObjectName, Unicode

from ipymini.ipython.formatter import Formatter

shown: list[object] = []  # by `_ipython_display_`


class Html:
    def _repr_html_(self) -> str:
        return "<b>"


class Sub(Html):
    pass


class Without(Html):
    _repr_html_ = None  # type: ignore[assignment]


class Png:
    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return b"png", {"width": 1}


class Nothing:
    def _repr_html_(self) -> None: ...


class Several:
    def _repr_html_(self) -> str:
        return "<b>"

    def _repr_latex_(self) -> str:
        return "$1$"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("pretty")


class Bundle:
    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"text/x": f"{include} {exclude}", "text/plain": "p"}, {"text/x": {"a": 1}}


class BareBundle:
    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        return {"text/html": "<i>"}


class NoBundle:
    def _repr_mimebundle_(self, **options: Any) -> None: ...


class Own:
    def _ipython_display_(self) -> None:
        shown.append(self)


class NotItsOwn:
    def _ipython_display_(self) -> None:
        raise NotImplementedError


class Dynamic:
    def __getattr__(self, name: str) -> Any:
        if name == "_repr_html_":
            return lambda: "dynamic"
        raise AttributeError(name)


class All:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: "all"


class Gets:
    def __getattribute__(self, name: str) -> Any:
        return (lambda: "got") if name == "_repr_html_" else object.__getattribute__(self, name)


class Meta(type):
    def _repr_html_(cls) -> str:
        return "meta"


class OfMeta(metaclass=Meta):
    pass


class DynamicMeta(type):
    def __getattr__(cls, name: str) -> Any:
        if name == "_repr_html_":
            return lambda self: "of the class"
        raise AttributeError(name)


class OfDynamicMeta(metaclass=DynamicMeta):
    pass


class Slots:
    __slots__ = ("_repr_html_",)


class Int(int):
    def _repr_latex_(self) -> str:
        return "$1$"


class Proxy:
    """Says that it is another: mocks and lazy objects do."""

    __class__ = property(lambda self: Html)  # type: ignore[assignment]

    def _repr_markdown_(self) -> str:
        return "proxy"


class Property:
    @property
    def _repr_html_(self) -> Callable[[], str]:
        return lambda: "by a property"


class Static:
    @staticmethod
    def _repr_html_() -> str:
        return "static"


class Line:
    """A bare object with an attribute of its own."""

    def __repr__(self) -> str:
        return "line"


def with_attribute(**attributes: Any) -> Line:
    line = Line()
    line.__dict__.update(attributes)
    return line


class Colour(enum.Enum):
    RED = 1


OBJECTS: dict[str, Any] = {
    "int": 1, "bool": True, "float": 1.5, "complex": 1j, "None": None, "str": "text", "bytes": b"b", "list": [1, [2]],
    "tuple": (1,), "dict": {"a": 1}, "set": {1}, "frozenset": frozenset((1,)), "bytearray": bytearray(b"a"),
    "range": range(3), "slice": slice(1), "ellipsis": ..., "NotImplemented": NotImplemented, "function": len,
    "lambda": abs, "module": pathlib, "type": int, "exception": ValueError("x"), "generic": list[int],
    "named tuple": collections.namedtuple("Point", "x y")(1, 2), "ordered": collections.OrderedDict(a=1),
    "counter": collections.Counter("aab"), "default": collections.defaultdict(int, a=1), "deque": collections.deque([1]),
    "date": datetime.date(2020, 1, 2), "decimal": decimal.Decimal("1.5"), "fraction": fractions.Fraction(1, 2),
    "path": pathlib.PurePosixPath("a"), "enum": Colour.RED, "enum class": Colour,
    "HTML": HTML("<i>"), "JSON": JSON({"a": 1}), "Markdown": Markdown("*a*"), "Latex": Latex("$a$"),
    "Image": Image(b"\x89PNG\r\n\x1a\n", format="png", width=3), "Code": Code("x = 1", language="python"),
    **{one.__name__: one() for one in (
        Html, Sub, Without, Png, Nothing, Several, Bundle, BareBundle, NoBundle, Own, NotItsOwn, Dynamic, All, Gets, OfMeta,
        OfDynamicMeta, Int, Proxy, Property, Static, Line,
    )},
    **{f"class {one.__name__}": one for one in (Html, Bundle, Own, Meta, OfMeta, DynamicMeta, OfDynamicMeta)},
    "instance's html": with_attribute(_repr_html_=lambda: "mine"), "instance's bundle": with_attribute(
        _repr_mimebundle_=lambda **options: {"text/html": "mine"}),
    "instance's display": with_attribute(_ipython_display_=lambda: shown.append("mine")),
    "instance's None": with_attribute(_repr_html_=None), "empty slots": Slots(),
}  # fmt: skip
SLOTS = OBJECTS["filled slots"] = Slots()
SLOTS._repr_html_ = lambda: "in a slot"  # type: ignore[attr-defined]

OPTIONS: list[dict[str, Any]] = [
    {}, {"include": ["text/html"]}, {"include": {"text/plain", "image/png"}}, {"include": []}, {"include": ("x/no",)},
    {"exclude": ["text/plain"]}, {"exclude": {"text/html", "text/latex"}}, {"exclude": []},
    {"include": ["text/html", "text/plain"], "exclude": ["text/html"]},
]  # fmt: skip


UNCHANGED = (Formatter(), DisplayFormatter())


def same(obj: object, *formatters: DisplayFormatter, **options: Any) -> Any:
    """Return what ours and IPython's formatter say; it must be the same, and shown as often."""
    answers = []
    for one in formatters or UNCHANGED:
        shown.clear()
        answers.append((one.format(obj, **options), list(shown)))
    assert answers[0] == answers[1]
    return answers[0][0]


@pytest.mark.parametrize("name", OBJECTS)
def test_each_kind_of_object_looks_as_ipython_shows_it(name: str) -> None:
    for options in OPTIONS:
        same(OBJECTS[name], **options)


def test_the_table_has_each_way_of_showing_an_object() -> None:
    """What is the same must not be the same nothing."""
    said = {name: same(obj) for name, obj in OBJECTS.items()}
    assert said["Own"] == said["instance's display"] == ({}, {})
    assert said["Png"][1] == {"image/png": {"width": 1}}
    assert said["Bundle"] == ({"text/x": "None None", "text/plain": "p"}, {"text/x": {"a": 1}})
    htmls = {name: data["text/html"] for name, (data, _) in said.items() if "text/html" in data}
    del htmls["HTML"], htmls["Code"]  # pages of it
    assert htmls == {
        "Html": "<b>", "Sub": "<b>", "Several": "<b>", "BareBundle": "<i>", "Dynamic": "dynamic", "Gets": "got",
        "Property": "by a property", "Static": "static", "class OfMeta": "meta", "instance's html": "mine",
        "instance's bundle": "mine", "filled slots": "in a slot",
    }  # fmt: skip


@pytest.fixture
def both() -> tuple[DisplayFormatter, DisplayFormatter]:
    return Formatter(), DisplayFormatter()


HTML_OF: dict[str, tuple[Callable[[Any], object], Any, str]] = {
    "a type": (lambda html: html.for_type(int, lambda obj: "int"), 1, "int"),
    "a base class": (lambda html: html.for_type(object, lambda obj: "object"), [1], "object"),
    "a type by its name": (lambda html: html.for_type("decimal.Decimal", lambda obj: "later"), OBJECTS["decimal"], "later"),
    "a deferred type": (
        lambda html: html.for_type_by_name("fractions", "Fraction", lambda obj: "deferred"), OBJECTS["fraction"], "deferred",
    ),
    "one object": (lambda html: html.singleton_printers.update({id(SLOTS): lambda obj: "only"}), SLOTS, "only"),
}  # fmt: skip


@pytest.mark.parametrize("what", HTML_OF)
def test_what_is_registered_later_counts_at_once(both: Any, what: str) -> None:
    register, obj, html = HTML_OF[what]
    same(obj, *both)
    for one in both:
        register(one.formatters["text/html"])
    assert same(obj, *both)[0]["text/html"] == html
    for name in OBJECTS:
        same(OBJECTS[name], *both)


def test_a_method_that_a_class_gets_later_counts_at_once(both: Any) -> None:
    late = type("Late", (), {"__repr__": lambda self: "late"})
    same(late(), *both)
    late._repr_markdown_ = lambda self: "*late*"  # type: ignore[attr-defined]
    assert same(late(), *both) == ({"text/plain": "late", "text/markdown": "*late*"}, {})


def test_a_formatter_that_is_turned_off_says_nothing(both: Any) -> None:
    for one in both:
        one.formatters["text/html"].enabled = False
        one.ipython_display_formatter.enabled = False
        one.mimebundle_formatter.enabled = False
    for obj in OBJECTS.values():
        same(obj, *both)
    assert "text/html" not in same(Html(), *both)[0]


def test_only_the_active_types_are_asked(both: Any) -> None:
    for one in both:
        one.active_types = ["text/plain", "image/png"]
    for obj in OBJECTS.values():
        same(obj, *both)
    assert list(same(Several(), *both)[0]) == ["text/plain"]


class Odd(BaseFormatter):
    format_type = Unicode("x/odd")
    print_method = ObjectName("_repr_odd_")

    def __call__(self, obj: object) -> str | None:
        return "odd" if obj == 3 else None


def test_a_formatter_of_somebody_elses_is_always_asked(both: Any) -> None:
    for one in both:
        one.formatters["x/odd"] = Odd()
    assert same(3, *both) == ({"text/plain": "3", "x/odd": "odd"}, {})
    for obj in OBJECTS.values():
        same(obj, *both)
