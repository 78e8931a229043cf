"""bridge: the kernel's view of IPython: execute, complete, inspect, is_complete, history. Sends no replies.

Every method returns the content of a reply, on the thread that calls it.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from IPython.utils.tokenutil import token_at_cursor
from traitlets import TraitError

from ipymini.execution import context
from ipymini.execution.stacks import door
from ipymini.ipython import comms, startup, tracebacks
from ipymini.ipython.completion import Completion
from ipymini.ipython.shell import ZMQInteractiveShell
from ipymini.ipython.subshell_state import Cell, Run
from ipymini.protocol.messages import Content
from ipymini.protocol.originals import __builtins__, os  # noqa: F401

# What this version of IPython wants to know of a cell.
_TAKES_META = "cell_meta" in ZMQInteractiveShell.run_cell_async.__code__.co_varnames
_INFO = ExecutionInfo.__init__.__code__.co_varnames


class Bridge:
    """One IPython shell, for the main shell and all subshells. To be made on the main thread."""

    def __init__(
        self,
        *,
        iopub: Any,
        stdin: Any = None,
        argv: list[str] | None = None,
        connection_file: str | None = None,
        user_ns: dict[str, Any] | None = None,
        user_module: Any = None,
        kernel: Any = None,
    ):
        """`argv`: options as ipykernel knows them. Start-up files run before this returns, outside of any request."""
        self.iopub = iopub
        start = _begin(argv or [], connection_file or "")
        restore_other_shell = _set_aside_other_shell()
        try:
            self.shell: ZMQInteractiveShell = ZMQInteractiveShell.instance(
                config=start.config,
                ipython_dir=start.directories.ipython_dir,
                profile_dir=start.directories.profile_dir,
                user_ns=user_ns,
                user_module=user_module,
                kernel=kernel,
                iopub=iopub,
            )
        except TraitError as error:
            raise startup.BadOption(f"an option or a configuration file is wrong: {error}") from error
        uninstall = self.shell.install()
        self.comms, uninstall_comms = comms.install(iopub.send, kernel)
        self._completion = Completion(self.shell)
        self._undo = [self._completion.uninstall, uninstall_comms, uninstall, restore_other_shell]
        if stdin is not None:
            from IPython.core.error import StdinNotImplementedError

            stdin.unsupported = StdinNotImplementedError
            stdin.meanwhile = self.shell.meanwhile
        start.run(self.shell)

    # ---- execute -----------------------------------------------------------------------

    async def execute(
        self,
        code: str,
        *,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        cell_id: str | None = None,
        cell_meta: Content | None = None,
        interruptible: Callable[[], AbstractContextManager[Any]] = nullcontext,
        interrupted: Callable[[], bool] = lambda: False,
        take_strike: Callable[[], bool] = lambda: False,
    ) -> Content:
        """Run a cell; return the content of execute_reply. Spec: "Execute".

        `interruptible()` surrounds user code and nothing else; `interrupted()` says whether an interrupt struck;
        `take_strike()`, when an exception ends the cell, whether one came while the debugger had stopped there.
        """
        shell, request = self.shell, context.current()
        run = shell.run
        is_stored = store_history and not silent
        cell = Cell(run.execution_count, is_stored, interrupted, take_strike)
        if not silent:
            self.iopub.execute_input(code, cell.number)
        if run.subshell_id is None and sys.displayhook is not shell.displayhook:
            sys.displayhook = shell.displayhook  # a cell has put its own there: that is for one cell
        if not shell.keep_last_error:
            shell.forget_last_error()
        options: Content = {"store_history": is_stored, "silent": silent, "cell_id": cell_id}
        if _TAKES_META:
            options["cell_meta"] = cell_meta
        run.cells[request] = cell
        try:
            try:
                with interruptible():
                    result, expressions = await self._run_cell(code, options, user_expressions or {})
            except (KeyboardInterrupt, asyncio.CancelledError) as error:
                # Before the cell's first line or after its last.
                result, expressions = self._escaped(code, options, error), {}
                if is_stored and run.execution_count == cell.number and not _is_blank(code):
                    run.execution_count += 1  # execute_input has used the number
            reply = self._reply(run, cell, result, expressions)
            if silent:
                reply["execution_count"] -= 1  # the last number that was used: qtconsole's first prompt is the next
            return reply
        finally:
            run.cells.pop(request, None)

    @door
    async def _run_cell(self, code: str, options: Content, user_expressions: dict[str, str]) -> tuple[Any, Content]:
        """Run everything of a cell that is the user's: transforms, events, code, expressions."""
        shell, process = self.shell, os.getpid()
        failed = None
        try:
            transformed = shell.transform_cell(code)
        except KeyboardInterrupt:
            raise
        except BaseException:  # of a transformer, which is the user's: run_cell_async shows it as the cell's error
            transformed, failed = code, sys.exc_info()
        try:
            result = await shell.run_cell_async(
                code, transformed_cell=transformed, preprocessing_exc_tuple=failed, **options
            )
        except BaseException as error:  # an interrupt inside IPython's own frames: the cell has failed
            result = self._escaped(code, options, error)
        if os.getpid() != process:
            _leave_child(result)
        if not _is_blank(code):
            shell.events.trigger("post_execute")
            if not options["silent"]:
                shell.events.trigger("post_run_cell", result)
        if user_expressions and result.success:
            return result, shell.user_expressions(user_expressions)
        return result, {}

    def _escaped(self, code: str, options: Content, error: BaseException) -> Any:
        """Show an error that got past IPython; return the result that it did not make.

        An interrupt that came after the cell had failed and shown its error changes nothing.
        """
        about = {"raw_cell": code, "shell_futures": True, "transformed_cell": code, **options}
        info = ExecutionInfo(**{name: value for name, value in about.items() if name in _INFO})  # type: ignore[no-untyped-call]
        result = ExecutionResult(info)  # type: ignore[no-untyped-call]
        cell = self.shell.cell
        before = getattr(cell.outermost, "error_in_exec", None)
        if before is not None and cell.shown[0] is before:
            result.error_in_exec = before
            return result
        result.error_in_exec = error = self.shell.as_interrupt(error)
        self.shell.last_execution_succeeded, self.shell.last_execution_result = False, result
        self.shell.showtraceback((type(error), error, tracebacks.trace_of(error)))
        return result

    def _reply(self, run: Run, cell: Cell, result: Any, expressions: Content) -> Content:
        error = result.error_before_exec or result.error_in_exec
        payload = run.payload_manager.read_payload()
        run.payload_manager.clear_payload()
        content: Content = {
            "status": "ok" if error is None else "error",
            "execution_count": cell.number,
            "user_expressions": expressions,
            "payload": payload,
        }
        if error is not None:
            shown, traceback = cell.shown
            content |= {
                "ename": tracebacks.name_of(type(error)),
                "evalue": tracebacks.as_text(error),
                "traceback": traceback if shown is not None else [],
                "engine_info": {"engine_uuid": self.iopub.ident, "engine_id": -1, "method": "execute"},
            }
        return content

    # ---- language ----------------------------------------------------------------------

    @door
    def complete(self, code: str, cursor_pos: int) -> Content:
        """Return the content of complete_reply. Any thread. Spec: "Completion"."""
        return self._completion.complete(code, cursor_pos)

    @door
    def inspect(self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()) -> Content:
        """Return the content of inspect_reply. Any thread. Spec: "Introspection"."""
        name = token_at_cursor(code, cursor_pos)
        found: Content = {"status": "ok", "found": False, "data": {}, "metadata": {}}
        if not name:
            return found
        try:
            bundle: Content = self.shell.object_inspect_mime(  # type: ignore[no-untyped-call]
                name, detail_level=1 if detail_level else 0, omit_sections=omit_sections
            )
        except KeyError:
            return found
        if not self.shell.enable_html_pager:
            bundle.pop("text/html", None)
        return {**found, "found": True, "data": bundle}

    @door
    def is_complete(self, code: str) -> Content:
        """Return the content of is_complete_reply. Any thread. Spec: "Code completeness"."""
        status, indent = self.shell.check_complete(code)
        return {"status": status, "indent": indent} if status == "incomplete" else {"status": status}

    def history(
        self,
        hist_access_type: str = "tail",
        output: bool = False,
        raw: bool = True,
        session: int = 0,
        start: int = 0,
        stop: int | None = None,
        n: int | None = None,
        pattern: str | None = None,
        unique: bool = False,
        **unknown: Any,
    ) -> Content:
        """Return the content of history_reply. Any thread. Spec: "History"."""
        history = self.shell.history_manager
        rows: Any = []
        if hist_access_type == "tail":
            rows = history.get_tail(n, raw=raw, output=output, include_latest=True)
        elif hist_access_type == "range":
            rows = history.get_range(session or 0, start or 0, stop, raw=raw, output=output)
            if session and session > 0:  # IPython calls the running session 0, also if it was asked for by its number
                rows = ((session, *row[1:]) for row in rows)
        elif hist_access_type == "search" and pattern is not None:
            rows = history.search(pattern, raw=raw, output=output, n=n, unique=unique)
        return {"status": "ok", "history": [list(row) for row in rows]}

    def comm_info(self, target_name: str | None = None) -> Content:
        """Return the content of comm_info_reply. Any thread. Spec: "Comm info"."""
        return self.comms.info(target_name)

    # ---- life --------------------------------------------------------------------------

    def prime(self) -> None:
        """Import what the first traceback and the first completion need. On a thread that has time."""
        with context.handling(None):
            try:
                raise KeyError("primed")
            except KeyError as error:
                self.shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
            self.inspect("print", 5)
            self._completion.prime()

    def open_subshell(self, subshell_id: str) -> None:
        """Make the run state of a subshell. Any thread."""
        self.shell.open_run(subshell_id)

    def close_subshell(self, subshell_id: str) -> None:
        """Forget the run state of a subshell. Any thread."""
        self.shell.close_run(subshell_id)

    def shutdown(self) -> None:
        """Write the history. The shell still works afterwards: the user's exit functions may need it."""
        self.shell.close_history()

    def uninstall(self) -> None:
        """Undo what the shell has set in Python itself. The last thing to do."""
        for undo in self._undo:
            undo()


def _begin(argv: list[str], connection_file: str) -> Any:
    """Read options and configuration. Only if there is any, IPython's application is imported for it."""
    if plain := startup.PlainStart.begin(argv, connection_file):
        return plain
    from ipymini.ipython.application import IPKernelApp

    return IPKernelApp.of_this_process().configure(argv, connection_file)


def _set_aside_other_shell() -> Callable[[], None]:
    """Take the place of an IPython that this process has already: embedded in one, say. Return the undo."""
    other: Any = InteractiveShell._instance
    if other is None or isinstance(other, ZMQInteractiveShell):
        return lambda: None
    type(other).clear_instance()

    def restore() -> None:
        for kind in type(other)._walk_mro():
            kind._instance = other

    return restore


def _is_blank(code: str) -> bool:
    return not code or code.isspace()


def _leave_child(result: Any) -> None:
    """End this process: a cell has forked it, and it must not go on as a second kernel."""
    error = result.error_in_exec
    code = error.code if isinstance(error, SystemExit) else (1 if error is not None else 0)
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit((code or 0) & 0xFF)
