"""formatter: an object to a mime bundle, by IPython's formatters. Sends nothing.

Ten formatters at 3 us each say "no" to nearly every object. Here those that cannot apply are not asked.
"""

from typing import Any

from IPython.core import formatters
from IPython.core.formatters import BaseFormatter, DisplayFormatter

from ipymini.protocol.messages import Content

_STOCK = frozenset(
    kind
    for kind in vars(formatters).values()
    if isinstance(kind, type) and issubclass(kind, BaseFormatter) and kind is not formatters.PlainTextFormatter
)
# Types written in C have wrappers of their own around the one that looks into `type` and `__dict__`.
_GENERIC = frozenset(
    kind.__getattribute__
    for kind in (object, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, Exception)
)
_PRINTERS = ("singleton_printers", "type_printers", "deferred_printers")


class Formatter(DisplayFormatter):
    """IPython's display formatter, which asks only the formatters that may apply.

    It remembers nothing, so nothing can get stale: the type is looked at anew each time, once for all formatters.
    """

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> tuple[Content, Content]:
        """Return (data, metadata) by mime type; the same as IPython's method."""
        kind = type(obj)
        if not _is_plain(obj, kind):
            return super().format(obj, include=include, exclude=exclude)
        mine = getattr(obj, "__dict__", None) or {}
        for formatter in (self.ipython_display_formatter, self.mimebundle_formatter):
            if _may_apply(formatter, kind, mine):
                return super().format(obj, include=include, exclude=exclude)
        data: Content = {}
        metadata: Content = {}
        for mime, formatter in self.formatters.items():
            if (include and mime not in include) or (exclude and mime in exclude):
                continue
            if not _may_apply(formatter, kind, mine):
                continue
            found, about = formatter(obj), None
            if isinstance(found, tuple) and len(found) == 2:
                found, about = found
            if found is not None:
                data[mime] = found
            if about is not None:
                metadata[mime] = about
        return data, metadata


def _is_plain(obj: Any, kind: type) -> bool:
    """Whether an object's attributes are where `type` and `__dict__` say, and nowhere else."""
    return (
        type(kind).__getattribute__ is type.__getattribute__
        and not hasattr(type(kind), "__getattr__")
        and kind.__getattribute__ in _GENERIC  # type: ignore[comparison-overlap]
        and not hasattr(kind, "__getattr__")
        and not issubclass(kind, type)
        and obj.__class__ is kind
    )


def _may_apply(formatter: Any, kind: type, mine: Content) -> bool:
    """Whether a formatter might do anything with an object of this type that has these attributes of its own."""
    if type(formatter) not in _STOCK:
        return True
    name = formatter.print_method
    if hasattr(kind, name) or name in mine:
        return True
    values = formatter._trait_values  # a third of the price of asking for the traits
    return any(values.get(printers) for printers in _PRINTERS)
