"""bridge: the kernel's view of IPython: execute, complete, inspect, is_complete, history. Sends no replies.

Made on the thread that will run the main lane. What it returns are contents of replies; what cells say on their
way goes out through iopub. Importing this module imports IPython, which takes longer than all else at start.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.profiledir import ProfileDir

from ipymini import cellfile, completion, context, options
from ipymini.comms import Comms
from ipymini.iopub import IOPub
from ipymini.lane import door
from ipymini.messages import Content
from ipymini.shell import ZMQInteractiveShell, safe_text
from ipymini.stdin import Stdin

log = logging.getLogger("ipymini.bridge")


class Bridge:
    """IPython as the handlers see it. Its methods run on the lane that a request addresses, or on the language lane."""

    def __init__(
        self,
        *,
        iopub: IOPub,
        stdin: Stdin,
        argv: Iterable[str] = (),
        connection_file: str | None = None,
        user_ns: dict[str, Any] | None = None,
        user_module: Any = None,
        kernel: Any = None,
    ):
        self._iopub = iopub
        self._pid = os.getpid()
        stdin.unsupported = StdinNotImplementedError
        given = options.from_argv(argv)
        config = given if given.IPKernelApp.get("ignore_profile") else options.with_files(given)
        config.IPKernelApp.connection_file = connection_file or ""
        profile = options.profile_path(config)
        self.shell = ZMQInteractiveShell.instance(
            iopub=iopub,
            config=config,
            ipython_dir=str(options.ipython_dir(config)),
            profile_dir=ProfileDir(location=str(profile)),
            user_ns=user_ns,
            user_module=user_module,
            kernel=kernel,
        )
        self.shell.on_exit = kernel.ask_exit if kernel is not None else lambda: None
        self.shell.set_interactive = True
        self.comms = Comms(iopub)
        self._prepare(config)

    # ---- at start --------------------------------------------------------------------

    def _prepare(self, config: Any) -> None:
        """Run what the profile and the options want run before the first cell. Errors are shown, and we go on."""
        shell, app = self.shell, config.IPKernelApp
        if "" not in sys.path:
            sys.path.insert(0, "")
        if session := os.environ.get("JPY_SESSION_NAME"):
            shell.user_ns["__session__"] = session
        for name in (*app.get("extensions", []), *app.get("extra_extensions", []), *config.InteractiveShellApp.get("extensions", [])):
            self._try(lambda name=name: shell.extension_manager.load_extension(name))  # type: ignore[misc]
        self._register_store()
        for kind, enable in (("matplotlib", shell.enable_matplotlib), ("pylab", shell.enable_pylab), ("gui", shell.enable_gui)):
            if wanted := app.get(kind):
                self._try(lambda enable=enable, wanted=wanted: enable(None if wanted == "auto" else wanted))  # type: ignore[misc]
        for file in self._startup_files(config):
            run = shell.safe_execfile_ipy if file.suffix in (".ipy", ".ipynb") else self._run_file
            self._try(lambda run=run, file=file: run(str(file)))  # type: ignore[misc]
        for line in (*app.get("exec_lines", []), *config.InteractiveShellApp.get("exec_lines", [])):
            self._try(lambda line=line: shell.run_cell(line, store_history=False))  # type: ignore[misc]
        for name in (*app.get("exec_files", []), *config.InteractiveShellApp.get("exec_files", [])):
            self._try(lambda name=name: self._run_file(name))  # type: ignore[misc]
        shell.user_ns_hidden.update({name: value for name, value in shell.user_ns.items() if name not in shell.user_ns_hidden})
        if code := app.get("code_to_run"):
            self._try(lambda: shell.run_cell(code, store_history=False))
        if module := app.get("module_to_run"):
            self._try(lambda: shell.safe_run_module(module, shell.user_ns))

    def _run_file(self, name: str) -> None:
        self.shell.safe_execfile(str(Path(name).expanduser()), self.shell.user_ns, shell_futures=True)

    def _startup_files(self, config: Any) -> list[Path]:
        files = []
        python_startup = os.environ.get("PYTHONSTARTUP")
        if python_startup and config.IPKernelApp.get("exec_PYTHONSTARTUP", True) and Path(python_startup).exists():
            files.append(Path(python_startup))
        folder = Path(self.shell.profile_dir.startup_dir)
        return files + sorted(file for file in folder.glob("*") if file.suffix in (".py", ".ipy"))

    def _try(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Exception:
            log.exception("a step of the start-up failed")
            self.shell.showtraceback()

    def _register_store(self) -> None:
        """Make %store known without loading it: magics of this kind load at their first use."""
        self.shell.magics_manager.register_lazy("store", "IPython.extensions.storemagic")

    # ---- cells --------------------------------------------------------------------------

    async def execute(
        self,
        code: str,
        *,
        silent: bool,
        store_history: bool,
        user_expressions: dict[str, str],
        allow_stdin: bool,
        cell_id: str | None,
        cell_meta: dict[str, Any] | None,
        interruptible: Callable[[], AbstractContextManager[Any]],
        interrupted: Callable[[], bool],
    ) -> Content:
        """Run a cell and return the reply's content. Spec: "Execute". Never raises what the cell raises."""
        shell, state = self.shell, self.shell.run_state
        number = shell.execution_count
        state.cell_number, state.code, state.was_interrupted = number, code, interrupted
        state.traceback, state.display_error = [], None
        if not silent:
            self._iopub.execute_input(code, number)
        try:
            with interruptible():
                error = await self._run(code, silent, store_history, cell_id, cell_meta)
                failed = self._failure(error)
                expressions = {} if failed or not user_expressions else shell.user_expressions(user_expressions)
        except BaseException as escaped:  # an interrupt that struck IPython's own code, not the cell's
            escaped = shell._meant(escaped)
            shell.showtraceback((type(escaped), escaped, escaped.__traceback__))
            failed, expressions = self._failure(escaped), {}
        self._end_child()
        payload = shell.payload_manager.read_payload()
        shell.payload_manager.clear_payload()
        state.exec_result = None
        if failed:
            return {**failed, "execution_count": number, "user_expressions": {}, "payload": payload}
        return {"status": "ok", "execution_count": number, "user_expressions": expressions, "payload": payload}

    @door
    async def _run(self, code: str, silent: bool, store_history: bool, cell_id: str | None, cell_meta: dict[str, Any] | None) -> BaseException | None:
        """Run the cell's code; a cell without top-level await never suspends here. Return what it raised."""
        shell = self.shell
        problem = None
        try:
            transformed = shell.transform_cell(code)
        except Exception:
            transformed, problem = code, sys.exc_info()
        result = None
        try:
            result = await shell.run_cell_async(
                code,
                store_history=store_history,
                silent=silent,
                transformed_cell=transformed,
                preprocessing_exc_tuple=problem,
                cell_id=cell_id,
                cell_meta=cell_meta,
            )
        finally:
            if code and not code.isspace():
                shell.events.trigger("post_execute")
                if not silent:
                    shell.events.trigger("post_run_cell", result)
        return result.error_before_exec or result.error_in_exec

    def _failure(self, error: BaseException | None) -> Content | None:
        """Return the error fields of the reply, or None if all went well."""
        state = self.shell.run_state
        if error is not None:
            ename, evalue = type(error).__name__, safe_text(error)
        elif state.display_error is not None:
            ename, evalue = state.display_error
        else:
            return None
        engine = {"engine_uuid": self._iopub.ident, "engine_id": -1, "method": "execute"}
        return {"status": "error", "ename": ename, "evalue": evalue, "traceback": state.traceback, "engine_info": engine}

    def _end_child(self) -> None:
        """End a forked child that has returned from the cell: the kernel is its parent, not it."""
        if os.getpid() != self._pid:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    # ---- language ---------------------------------------------------------------------------

    def complete(self, code: str, cursor_pos: int) -> Content:
        """What could stand at the cursor. Any thread."""
        return completion.complete(self.shell, code, cursor_pos)

    def inspect(self, code: str, cursor_pos: int, *, detail_level: int = 0, omit_sections: Iterable[str] = ()) -> Content:
        """Documentation for the object at the cursor. Any thread."""
        return completion.inspect(self.shell, code, cursor_pos, detail_level, omit_sections)

    def is_complete(self, code: str) -> Content:
        """Whether the code can run as it is: complete, incomplete (with an indent), invalid or unknown. Any thread."""
        status, spaces = self.shell.input_transformer_manager.check_complete(code)
        content: Content = {"status": status}
        if status == "incomplete":
            content["indent"] = " " * (spaces or 0)
        return content

    def history(self, hist_access_type: str = "", *, raw: bool = True, output: bool = False, **wanted: Any) -> Content:
        """Earlier inputs: `tail`, `range` or `search`. Spec: "History". An unknown type finds nothing. Any thread."""
        manager = self.shell.history_manager
        rows: Iterable[Any] = ()
        if hist_access_type == "tail":
            rows = manager.get_tail(wanted.get("n") or 10, raw=raw, output=output, include_latest=True)
        elif hist_access_type == "range":
            rows = manager.get_range(wanted.get("session", 0), wanted.get("start", 1), wanted.get("stop"), raw=raw, output=output)
        elif hist_access_type == "search" and wanted.get("pattern"):
            rows = manager.search(wanted["pattern"], raw=raw, output=output, n=wanted.get("n"), unique=wanted.get("unique", False))
        return {"status": "ok", "history": [list(row) for row in rows]}

    def prime(self) -> None:
        """Make the first completion and the first traceback quick. Takes a second; in the background, at an idle time."""
        with context.handling(None):
            completion.prime(self.shell)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            self.shell.InteractiveTB.structured_traceback(*sys.exc_info())

    # ---- comms, subshells, the end --------------------------------------------------------------

    def comm_info(self, target_name: str | None = None) -> Content:
        """The open comms. Any thread."""
        return self.comms.info(target_name)

    def open_subshell(self, subshell_id: str) -> None:
        """Give a subshell its run state."""
        self.shell.open_subshell(subshell_id)

    def close_subshell(self, subshell_id: str) -> None:
        """Forget a subshell's run state."""
        self.shell.close_subshell(subshell_id)

    @staticmethod
    def cell_file(code: str) -> str:
        """Return the file name that a cell with this code is compiled under."""
        return cellfile.name(code)

    def shutdown(self) -> None:
        """Write the history, and give back what we replaced."""
        self.shell.history_manager.stop()
        self.comms.unbind()
