"""completer: what IPython's completer finds for one completion. An interrupt ends it, and its jedi runs nobody's code.

IPython prints what a matcher raises, a KeyboardInterrupt too, and asks the next matcher, which may hang again; here
the first one ends them all. And jedi, whose part it is to read code, looks at the objects that it meets there: it runs
properties, fetches attributes, iterates, compares. Here it sees only what answers with Python's own code or with C
(`_is_quiet`), and of the rest no more than that it is there. It does what it wants if `IPCompleter.evaluation` says so.
"""

import sys
from collections.abc import Callable, Iterable
from copy import copy
from functools import cache, wraps
from types import FunctionType, ModuleType
from typing import Any

from IPython.core import completer as ipythons

from ipymini.protocol.messages import Content

_UNKNOWN = object()
_SIMPLE = (type(None), bool, int, float, complex, str, bytes, type)  # their operators and their repr are Python's

# What jedi would call or fetch as it looks at an object that has it.
_HOOKS = {"__getattr__", "__getattribute__", "__dir__", "__class__", "__dict__", "__iter__", "__len__", "__bool__"}
_HOOKS |= {"__doc__", "__module__", "__name__", "__qualname__", "__wrapped__", "__signature__", "__annotations__"}
_HOOKS |= {"__objclass__", "__file__", "__path__", "keys", "values"}

# As no class and no metaclass can change them.
_bases_of = type.__dict__["__mro__"].__get__
_names_of = type.__dict__["__dict__"].__get__
_module_of = type.__dict__["__module__"].__get__
_names_of_module = _names_of(ModuleType)["__dict__"].__get__


class Careful:
    """A mixin of IPCompleter, for one completion on one thread."""

    is_over = False  # an interrupt has struck

    @property
    def matchers(self) -> list[Any]:
        """IPython's matchers, none of which runs after an interrupt."""
        return [self._unless_over(matcher) for matcher in super().matchers]  # type: ignore[misc]

    def _unless_over(self, matcher: Any) -> Callable[[Any], Any]:
        @wraps(matcher)
        def match(context: Any) -> Any:
            if not self.is_over:
                try:
                    return matcher(context)
                except KeyboardInterrupt:
                    self.is_over = True
            return [] if getattr(matcher, "matcher_api_version", 1) == 1 else {"completions": []}

        return match

    def _jedi_matches(self: Any, cursor_column: int, cursor_line: int, text: str) -> Iterable[Any]:
        if self.evaluation in ("unsafe", "dangerous"):
            return super()._jedi_matches(cursor_column=cursor_column, cursor_line=cursor_line, text=text)  # type: ignore[misc]
        lines = text.split("\n")[: cursor_line + 1]
        lines[-1] = lines[-1][:cursor_column]
        jedi = getattr(ipythons, "_get_jedi", lambda: __import__("jedi"))()  # configured, in later versions
        may_look = self.evaluation not in ("forbidden", "minimal")
        namespaces = [self.namespace, self.global_namespace or {}] if may_look else [{}]
        interpreter = jedi.Interpreter("\n".join(lines), namespaces)
        state = interpreter._inference_state
        state.allow_unsafe_executions = state.allow_descriptor_getattr = False  # of jedi 0.19 and 0.18
        state.compiled_subprocess = _process()(state)
        try:
            found = interpreter.complete(line=cursor_line + 1, column=cursor_column)
        except Exception:  # jedi's own: there is no code that it cannot fail at
            return []
        hidden = {2: ("_",), 1: ("__",)}.get(self.omit__names, ()) if lines[-1].endswith(".") else ()
        return [one for one in found if not (hidden and one.name.startswith(hidden))]


@cache
def _careful(kind: Any) -> Any:
    return type("IPCompleter", (Careful, kind), {})


def complete(completer: Any, code: str, cursor_pos: int, *, jedi: bool = False) -> list[Content]:
    """Return what IPython finds, each as complete_reply's metadata has it. Raises KeyboardInterrupt if one has struck.

    The completer is copied: completions may go on side by side. What has been registered with it is shared.
    """
    one = copy(completer)
    one.__class__ = _careful(completer.__class__)
    one.use_jedi = jedi
    found = list(ipythons.rectify_completions(code, one.completions(code, cursor_pos)))
    if one.is_over:
        raise KeyboardInterrupt
    # Without jedi IPython repeats the dot before an attribute.
    skip = 1 if found and all(each.text[:1] == "." == code[each.start : each.start + 1] for each in found) else 0
    return [
        {
            "start": each.start + skip,
            "end": each.end,
            "text": each.text[skip:],
            "type": each.type or "<unknown>",
            "signature": each.signature or "",
        }
        for each in found
    ]


def _is_quiet(obj: Any) -> bool:
    """Whether one can look at an object, and nothing runs but Python's own code and C."""
    kinds = [*_bases_of(type(obj)), *_bases_of(type(type(obj)))]
    return all(_is_pythons(_names_of(kind)[name]) for kind in kinds for name in _HOOKS & _names_of(kind).keys())


def _is_pythons(attribute: Any) -> bool:
    if type(attribute) is property:
        attribute = attribute.fget
    if type(attribute) is FunctionType:
        return str(attribute.__globals__.get("__name__")).partition(".")[0] in sys.stdlib_module_names
    return bool(_module_of(type(attribute)) == "builtins")


def _shown(obj: Any) -> Any:
    """Return what jedi gets to see of an object: itself, a module without its `__getattr__`, or nothing."""
    if ModuleType in _bases_of(type(obj)):
        names = _names_of_module(obj)
        if type(obj) is ModuleType and not {"__getattr__", "__dir__"} & names.keys():
            return obj
        still = ModuleType("")
        _names_of_module(still).update(names)
        for name in ("__getattr__", "__dir__"):
            _names_of_module(still).pop(name, None)
        return still
    return obj if _is_quiet(obj) else _UNKNOWN


@cache
def _process() -> Any:
    """Return the class of what jedi looks at objects through, in which that is done with care. Made late: jedi is slow.

    jedi calls it a process, as it may be another one; an Interpreter's is ours.
    """
    from jedi.inference.compiled.access import DirectObjectAccess
    from jedi.inference.compiled.subprocess import AccessHandle, InferenceStateSameProcess

    class Access(DirectObjectAccess):
        def getattr_paths(self, name: str, **default: Any) -> Any:
            try:
                value = getattr(self._obj, name)  # stored there, or a descriptor in C: else jedi does not ask
            except Exception:
                value = None
            if _shown(value) is _UNKNOWN:
                return [self._create_access(value)]
            return super().getattr_paths(name, **default)

        def execute_operation(self, other: Any, operator: str) -> Any:
            if type(self._obj) in _SIMPLE and type(other.access._obj) in _SIMPLE:
                return super().execute_operation(other, operator)
            raise TypeError  # as Python does where there is no such operator

        def negate(self) -> Any:
            return super().negate() if type(self._obj) in _SIMPLE else self._create_access_path(_UNKNOWN)

        def get_repr(self) -> str:
            return str(super().get_repr()) if type(self._obj) in _SIMPLE else object.__repr__(self._obj)

        def _get_signature(self) -> Any:
            signature = super()._get_signature()
            return signature.replace(
                parameters=[
                    one if type(one.default) in _SIMPLE else one.replace(default=...)  # its repr is shown
                    for one in signature.parameters.values()
                ]
            )

    class Process(InferenceStateSameProcess):
        def __init__(self, state: Any):
            super().__init__(state)
            self._kept: list[Any] = []  # their ids stay theirs

        def get_or_create_access_handle(self, obj: Any) -> Any:
            try:
                return self.get_access_handle(id(obj))
            except KeyError:
                self._kept.append(obj)
                handle = AccessHandle(self, Access(self._inference_state_weakref(), _shown(obj)), id(obj))
                self.set_access_handle(handle)
                return handle

    return Process
