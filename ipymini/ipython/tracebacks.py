"""tracebacks: exceptions of user code to the lines of a traceback, and how the shell shows them. Runs no cell.

IPython's tracebacks, but without our own frames, and with the whole tree of an exception group. An exception's class
is user code, too: `name_of`, `trace_of`, `plain` and `as_text` do without it, or expect it to raise anything.
"""

import logging
import sys
import traceback
from collections.abc import Callable
from opcode import opmap
from types import TracebackType
from typing import Any

from IPython.core.error import UsageError

from ipymini.execution import context
from ipymini.execution.stacks import is_standard, shielded
from ipymini.protocol.messages import Content
from ipymini.protocol.originals import os

log = logging.getLogger("ipymini.ipython.shell")

_PDBS = ("bdb", "pdb", "cmd", "IPython.core.debugger")
_NOT_THE_USERS = ("ipymini.", "pydevd", "_pydev")  # modules

# These read what Python has stored, whatever the exception's class or metaclass defines under the same names.
name_of: Callable[[Any], str] = type.__dict__["__name__"].__get__
trace_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__


def render(
    formatter: Any, kind: Any, value: Any, trace: TracebackType | None, offset: int | None, exception_only: bool
) -> list[str]:
    """Return the lines that frontends show, in colour. `offset`: frames that IPython would leave out."""
    if exception_only:
        hint = "An exception has occurred, use %tb to see the full traceback.\n"
        return [hint, *formatter.get_exception_only(kind, value)]
    if hasattr(value, "_render_traceback_"):
        return [str(line) for line in value._render_traceback_()]
    users = users_part(trace)
    if kind is KeyboardInterrupt and not cut_ours(users):  # it struck before the cell's first line or after its last
        return list(formatter.get_exception_only(kind, value))
    users = users or trace
    if has_group(value):  # IPython cannot show the tree of a group
        return plain(kind, value, users)
    if users is not trace:
        offset = 0  # IPython would take its own frame away, which is gone
    return list(formatter.structured_traceback(kind, value, users, tb_offset=offset))


def plain(kind: Any, value: Any, trace: TracebackType | None) -> list[str]:
    """Return the lines of Python's own traceback; of an exception that breaks it, only the frames and the name."""
    try:
        text = "".join(traceback.format_exception(kind, value, trace))
    except BaseException:
        frames = ["Traceback (most recent call last):\n", *traceback.format_tb(trace)] if trace is not None else []
        text = "".join(frames) + f"{name_of(kind)}: {as_text(value)}"
    return text.rstrip("\n").split("\n")


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the user's first frame on; None if there is none.

    Frames of the standard library before that one belong to who runs and compiles cells.
    """
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("IPython", "ipymini") and not is_standard(trace.tb_frame.f_code.co_filename):
            return trace
        trace = trace.tb_next
    return None


def cut_ours(trace: TracebackType | None) -> bool:
    """Cut off the frames behind the user's last one, where a KeyboardInterrupt struck; return whether there is one.

    Such are the kernel's, the debugger's, and one that was struck before it had a line: no formatter can show it.
    """
    users = None
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(_NOT_THE_USERS) and module not in _PDBS and trace.tb_lineno is not None:
            users = trace
        trace = trace.tb_next
    if users is not None:
        users.tb_next = None
    return users is not None


def has_group(error: BaseException | None) -> bool:
    """Whether an exception, or one in its chain, is an exception group."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseExceptionGroup):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def is_of_del(error: BaseException) -> bool:
    """Whether `del name` itself raised an error: CPython makes a NameError of whatever the namespace raises."""
    trace = trace_of(error)
    if not issubclass(type(error), NameError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == opmap["DELETE_NAME"]


def is_quit(error: BaseException) -> bool:
    """Whether an error says that the user has left a debugger: it is not shown."""
    bdb = sys.modules.get("bdb")
    return bdb is not None and issubclass(type(error), bdb.BdbQuit)


def as_text(error: BaseException) -> str:
    """Return `str(error)`, or a replacement if that raises."""
    try:
        return str(error)
    except BaseException:
        return "<an error whose text could not be made>"


class ShowsTracebacks:
    """The part of the shell that shows errors. On the thread where they were raised."""

    def showtraceback(
        self: Any,
        exc_tuple: Any = None,
        filename: str | None = None,
        tb_offset: int | None = None,
        exception_only: bool = False,
        running_compiled_code: bool = False,
    ) -> None:
        """Show the exception that is being handled, or `exc_tuple`; then, after %pdb, debug it."""
        if (
            self._show(exc_tuple, filename, tb_offset, exception_only, running_compiled_code)
            and self.call_pdb
            and not exception_only
        ):
            self.debugger(force=True)

    @shielded
    def _show(
        self: Any, exc_tuple: Any, filename: str | None, offset: int | None, exception_only: bool, running: bool
    ) -> bool:
        """Render and publish; return whether %pdb can debug it. No interrupt may strike here: it would show nothing."""
        try:
            kind, value, trace = self._get_exc_info(exc_tuple)
        except ValueError:
            print("No traceback available to show.", file=sys.stderr)
            return False
        try:
            if issubclass(kind, SyntaxError):
                self.showsyntaxerror(filename, running)
                return False
            if kind is UsageError:
                self.show_usage_error(value)
                return False
            stb = render(self.InteractiveTB, kind, value, trace, offset, exception_only)
        except BaseException as error:
            stb = [f"(IPython could not render this traceback: {name_of(type(error))})"]
            stb += plain(kind, value, users_part(trace) or trace)
        self._showtraceback(kind, value, stb)
        return True

    def _showtraceback(self: Any, etype: Any, evalue: Any, stb: list[str]) -> None:
        """Publish an error and remember it for the reply."""
        if os.getpid() != self._process:  # a forked child cannot publish
            print("\n".join(stb), file=sys.stderr)
            return
        cell = self.cell
        cell.shown = (evalue, stb)
        if cell.is_formatting and cell.results:
            cell.results[-1].error_in_exec = evalue
            self.last_execution_succeeded = False
        self.iopub.error(name_of(etype), as_text(evalue), stb)
        if context.current() is None:  # in a startup file, when perhaps no client is connected
            trace = "\n".join(plain(etype, evalue, trace_of(evalue)))
            log.error("an error that no request has caused:\n%s", trace)

    def _format_exception_for_storage(self: Any, exception: BaseException, *ignored: Any, **options: Any) -> Content:
        """Return what %notebook wants to know; IPython renders each traceback a second time for it."""
        shown, stb = self.cell.shown
        text = as_text(exception)
        name = name_of(type(exception))
        return {"ename": name, "evalue": text, "traceback": stb if shown is exception else []}

    def forget_last_error(self: Any) -> None:
        """Let go of the frames of the last error."""
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            sys.__dict__.pop(name, None)
        self.InteractiveTB.tb = None
        self.last_execution_result = None

    def excepthook(self: Any, etype: Any, value: Any, tb: TracebackType | None) -> None:
        """Show an error that a callback (of a GUI toolkit, say) has handed to `sys.excepthook`.

        A KeyboardInterrupt was meant for the cell that runs the toolkit's loop.
        """
        if self._pump is not None and issubclass(etype, KeyboardInterrupt) and self._pump.pass_on():
            return
        users = users_part(tb)
        if issubclass(etype, KeyboardInterrupt) and not cut_ours(users):
            users = tb = None
        if context.own() is None:
            print("\n".join(plain(etype, value, users or tb)), file=sys.stderr)
        else:
            self.showtraceback((etype, value, tb), tb_offset=0)

    def _user_obj_error(self: Any) -> Content:
        kind, value, _ = self._get_exc_info()
        about = {"ename": name_of(kind), "evalue": as_text(value)}
        return {"status": "error", **about, "traceback": plain(kind, value, None)}
