"""subshell_state: the state of a series of cells, one for the main shell and for each subshell. Holds no configuration.

There is one IPython shell object for all. What is configuration (formatters, magics, hooks, events, extensions)
is shared because there is one object; what belongs to a run (count, history, `Out`, payloads, last error) is a
field here, and a property of the shell that finds the `Run` of the request that caused what runs now.

In the namespace that all runs share, `In`, `Out`, `_`, `_i`, `_3` and their kin are the main shell's. The cells
of a subshell see their own under the same names: `Overlay` stands in as the locals of their code. Inside a
function (or a comprehension, before Python 3.12) these names are globals, and so the main shell's.
"""

import builtins
import re
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from ipymini.protocol.messages import Request

_OWN = re.compile(r"In|Out|_{1,3}|_i{1,3}|_oh|_ih|_i?\d+").fullmatch


@dataclass(slots=True, eq=False)
class Cell:
    """One execute_request while its code runs. `number` is the count in its execute_input, its result and its reply."""

    number: int
    is_recorded: bool = True  # whether its result goes to `Out` and `_`
    was_interrupted: Callable[[], bool] = lambda: False
    take_strike: Callable[[], bool] = lambda: False  # whether an interrupt met the exception that ends the cell
    results: list[Any] = field(default_factory=list)  # ExecutionResults: the cell's, and those of nested run_cell calls
    outermost: Any = None  # the first of them: the cell's own
    shown: tuple[BaseException | None, list[str]] = (None, [])  # the last traceback shown, and whose it is
    kept: int = 0  # characters of its text that are kept for %notebook
    is_formatting: bool = False  # the display hook asks formatters: their errors are the cell's


@dataclass(slots=True, eq=False)
class Run:
    """Everything that each subshell has for itself. Its lane writes; the language lane reads."""

    subshell_id: str | None = None
    execution_count: int = 1
    history: Any = None
    payload_manager: Any = None
    display_pub: Any = None
    last_execution_succeeded: bool = True
    last_execution_result: Any = None
    unders: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("_", "__", "___"), ""))
    names: dict[str, Any] = field(default_factory=dict)  # where `_` and its kin are: the overlay's, or user_ns itself
    locals: MutableMapping[str, Any] = field(default_factory=dict)  # those of its cells: an overlay, or user_ns itself
    cells: dict[Request | None, Cell] = field(default_factory=dict)  # those that run now

    def name_history(self) -> None:
        """Put the lists of the history under their names."""
        history = self.history
        if history is not None:
            ins, outs = history.input_hist_parsed, history.output_hist
            self.names.update(In=ins, _ih=ins, Out=outs, _oh=outs)
        self.names.update(self.unders)


class Layered(dict[str, Any]):
    """A function's variables over the globals of its module, which go on living: the globals of embedded cells.

    With two dicts, one for globals and one for locals, functions and comprehensions of cells would not see what cells
    assign. CPython asks a subclass of dict for what is missing, also where a function looks for a global. What cells
    assign is written to `own`, too.
    """

    def __init__(self, own: dict[str, Any], module: dict[str, Any]):
        super().__init__(own)
        self._own, self._module = own, module
        self.setdefault("__name__", module.get("__name__"))  # of functions and classes; Python looks past `__missing__`

    def __missing__(self, name: str) -> Any:
        return self._module[name]

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._own.pop(name, None)


class Overlay(MutableMapping[str, Any]):
    """The shared namespace with a subshell's own `In`, `Out`, `_` and kin over it: the locals of its cells."""

    def __init__(self, own: dict[str, Any], shared: Callable[[], dict[str, Any]]):
        self._own, self._shared = own, shared

    def __getitem__(self, name: str) -> Any:
        try:
            return self._own[name]
        except KeyError:
            if _OWN(name) and not hasattr(builtins, name):
                # Not KeyError: then Python would look into the globals, which are the main shell's.
                raise NameError(f"name {name!r} is not defined", name=name) from None
        return self._shared()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        (self._own if _OWN(name) else self._shared())[name] = value

    def __delitem__(self, name: str) -> None:
        del (self._own if _OWN(name) else self._shared())[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or (name in self._shared() and not _OWN(str(name)))

    def __iter__(self) -> Iterator[str]:
        yield from [name for name in list(self._shared()) if not _OWN(name)]
        yield from list(self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)
