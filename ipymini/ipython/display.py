"""display: values to execute_result, display_data and clear_output messages. Formats with IPython, sends with iopub.

One display hook and one publisher serve all lanes: what they need of a run they ask the shell for.
"""

import builtins
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from operator import call, setitem
from typing import Any
from uuid import uuid4

from IPython.core import history as ipython_history
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from traitlets import Any as AnyTrait
from traitlets import Bool, observe

from ipymini.execution import context
from ipymini.frontend import streams
from ipymini.protocol.messages import PROTOCOL_VERSION, SESSION, Content

Hook = Callable[[Content], Content | None]
LARGEST_KEPT = 1 << 16  # characters of a result, or of all that a cell prints, that `%notebook` may still want
PIECE, OUTPUT = 8, 500  # characters that another text, and another output, count beside their own: memory, too
CUT = "\n[%notebook keeps no more of what this cell has printed]\n"
_OUTPUT: Any = getattr(ipython_history, "HistoryOutput", None)  # IPython 9.0 has none, and keeps nothing


def _under(name: str) -> Any:
    """Make a property of the hook that is one of the run's `_`, `__`, `___`."""
    return property(
        lambda hook: hook.shell.run.unders[name], lambda hook, value: setitem(hook.shell.run.unders, name, value)
    )


class _OfThread(threading.local):
    """The hooks of each thread: functions that change or keep back what it displays."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []


class Speaker:
    """What the display hook and the publisher have in common: the message hooks, and whose message it is."""

    shell: Any
    topic = b""
    parent_header = property(lambda self: self.shell.get_parent())
    session = property(lambda self: self.shell.kernel.session)  # these two: jupyter_client in a cell
    pub_socket = property(lambda self: self.shell.kernel.iopub_socket)
    set_parent = set_thread_parent = staticmethod(context.pin_parent)
    reset_thread_parent: Any = staticmethod(call)

    def __init__(self, **traits: Any):
        self._thread = _OfThread()
        super().__init__(**traits)

    def register_hook(self, hook: Hook) -> None:
        """Call `hook` with every message that this thread displays. It returns the message to send, or None."""
        self._thread.hooks.append(hook)

    def unregister_hook(self, hook: Hook) -> bool:
        """Undo `register_hook`; return whether it had been registered."""
        is_there = hook in self._thread.hooks
        if is_there:
            self._thread.hooks.remove(hook)
        return is_there

    def _send_hooked(self, msg_type: str, content: Content, buffers: Any = ()) -> None:
        """Send what the hooks make of a message; they know jupyter_client's dicts."""
        parent = context.current()
        header = {
            "msg_id": uuid4().hex,
            "msg_type": msg_type,
            "username": "kernel",
            "session": SESSION,
            "date": datetime.now(UTC),
            "version": PROTOCOL_VERSION,
        }
        message: Content | None = {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": msg_type,
            "parent_header": parent.header if parent is not None else {},
            "metadata": {},
            "content": content,
        }
        for hook in list(self._thread.hooks):
            message = hook(message) if message is not None else None
        if message is not None:
            self.shell.iopub.send(message["header"]["msg_type"], message["content"], buffers=buffers)


class ZMQShellDisplayHook(Speaker, DisplayHook):
    """`sys.displayhook`, one for all lanes."""

    shell: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.shell, "displayhook")

    def __call__(self, result: Any = None) -> None:
        """Publish the value of an expression statement, and remember it. Errors of formatters are the cell's."""
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        cell = self.shell.cell
        cell.is_formatting = True
        try:
            data, metadata = self.compute_format_data(result)
        finally:
            cell.is_formatting = False
        self.update_user_ns(result)
        self.fill_exec_result(result)
        if data:
            self.write_format_data(data, metadata)
            self.log_output(data)

    def write_format_data(self, format_dict: Content, md_dict: Content | None = None) -> None:
        """Publish an execute_result."""
        number = self.prompt_count
        if not self._thread.hooks:
            self.shell.iopub.execute_result(format_dict, md_dict or {}, number)
            return
        content = {"data": format_dict, "metadata": md_dict or {}, "execution_count": number}
        self._send_hooked("execute_result", content)

    # ---- what IPython keeps on the hook, and we on the run ------------------------

    @property
    def prompt_count(self) -> int:
        """The count in execute_input: the number of this cell also if nothing is stored."""
        return int(self.shell.cell.number)

    @property
    def exec_result(self) -> Any:
        """The ExecutionResult of the innermost run_cell call."""
        results = self.shell.cell.results
        return results[-1] if results else None

    @exec_result.setter
    def exec_result(self, result: Any) -> None:
        cell = self.shell.cell
        results = cell.results
        if result is not None:
            results.append(result)
            cell.outermost = cell.outermost or result
        elif results:
            results.pop()  # back to the one of the run_cell call around

    _, __, ___ = _under("_"), _under("__"), _under("___")

    def quiet(self) -> bool:
        """Return whether the code that runs ends in a semicolon."""
        result = self.exec_result
        info = result.info if result is not None else None
        code = str(getattr(info, "transformed_cell", None) or getattr(info, "raw_cell", ""))
        return ";" in code and bool(self.semicolon_at_end_of_expression(code))

    def check_for_underscore(self) -> None:
        """Remove our `_` if gettext has put its own into builtins."""
        run = self.shell.run
        if "_" in builtins.__dict__ and run.names.get("_") is run.unders["_"]:
            run.names.pop("_", None)

    def update_user_ns(self, result: Any) -> None:
        """Store a result as `_`, `_5` and `Out[5]` of the run, unless the user has assigned to `_`."""
        run, cell = self.shell.run, self.shell.cell
        outs, hidden = run.history.output_hist, self.shell.user_ns_hidden
        if not self.cache_size or result is outs or not cell.is_recorded:
            return
        if len(outs) >= self.cache_size and self.do_full_cache:
            self.cull_cache()
        names = run.names
        is_ours = all(
            name not in names or names[name] is old or (name in hidden and hidden[name] is names[name])
            for name, old in run.unders.items()
        )
        run.unders = {"_": result, "__": run.unders["_"], "___": run.unders["__"]}
        if is_ours and "_" not in builtins.__dict__:
            names.update(run.unders)
        if self.do_full_cache:
            names[f"_{cell.number}"] = result
            outs[cell.number] = result

    def log_output(self, format_dict: Content) -> None:
        """Keep a result's text for `%history -o`, and a small result for `%notebook`."""
        history, number = self.shell.run.history, self.prompt_count
        text = format_dict.get("text/plain")
        if sum(len(part) for part in format_dict.values() if isinstance(part, str | bytes)) <= LARGEST_KEPT:
            _keep(history, number, "execute_result", format_dict)
        if text is None:
            return
        if self.shell.logger.log_output:
            self.shell.logger.log_write(text, "output")
        if len(text) <= LARGEST_KEPT:
            history.output_hist_reprs[number] = text

    def cull_cache(self) -> None:
        """Forget the oldest fifth of the results: `cache_size` is reached."""
        run = self.shell.run
        outs = run.history.output_hist
        for number in sorted(outs)[: max(int(len(outs) * self.cull_fraction), 2)]:
            run.names.pop(f"_{number}", None)
            outs.pop(number, None)
            run.history.output_hist_reprs.pop(number, None)

    def flush(self) -> None:
        """Forget all results (`%reset out`)."""
        run = self.shell.run
        for number in range(1, run.execution_count + 1):
            self.shell.user_ns_hidden.pop(f"_{number}", None)
            run.names.pop(f"_{number}", None)
        run.history.output_hist.clear()
        run.unders = dict.fromkeys(run.unders, "")
        if "_" not in builtins.__dict__:
            run.names.update(run.unders)


def _keep(history: Any, number: int, kind: str, bundle: Content) -> None:
    """Keep an output for %notebook."""
    if _OUTPUT is not None:
        history.outputs[number].append(_OUTPUT(output_type=kind, bundle=bundle))


class ZMQDisplayPublisher(Speaker, DisplayPublisher):
    """What `display(...)` talks to."""

    store_display_history = Bool(
        False, help="Keep what is displayed and printed in the history, for %notebook. Memory grows with it."
    ).tag(config=True)
    shell = AnyTrait()
    topic = b"display_data"

    def __init__(self, shell: Any = None, **traits: Any):
        self._keep_no_text: Callable[[], None] = lambda: None
        super().__init__(shell=None, **traits)  # with a shell it would register two callbacks for each cell
        self.shell = shell

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.shell, "display_pub")

    @observe("store_display_history")
    def _store_changed(self, change: Any) -> None:
        self._keep_no_text()
        is_on = change.new and _OUTPUT is not None
        self._keep_no_text = streams.tee(self._keep_text) if is_on else lambda: None

    def _keep_text(self, request: Any, name: str, text: str) -> None:
        """Keep the beginning of what a cell prints while it runs. Any thread; takes no lock."""
        with context.handling(request):
            run = self.shell.run
        cell = run.cells.get(request)
        if cell is None or not cell.is_recorded or cell.kept > LARGEST_KEPT:
            return
        kind, outputs = "out_stream" if name == "stdout" else "err_stream", run.history.outputs[cell.number]
        if not outputs or outputs[-1].output_type != kind:
            _keep(run.history, cell.number, kind, {"stream": []})
            cell.kept = min(cell.kept + OUTPUT, LARGEST_KEPT)
        room = LARGEST_KEPT - PIECE - cell.kept
        if len(text) > room:
            text = text[: max(room, 0)] + CUT
        cell.kept += len(text) + PIECE
        outputs[-1].bundle["stream"].append(text)

    def publish(
        self,
        data: Content,
        metadata: Content | None = None,
        source: Any = None,
        *,
        transient: Content | None = None,
        update: bool = False,
        buffers: Any = (),
        **kwargs: Any,
    ) -> None:
        """Publish a mime bundle as display_data, or (`update`) as update_display_data. Any thread."""
        self._validate_data(data, metadata)
        if self.store_display_history and not update:
            _keep(self.shell.run.history, self.shell.cell.number, "display_data", data)
        if not self._thread.hooks:
            self.shell.iopub.display_data(data, metadata, transient, update=update, buffers=buffers or ())
            return
        kind = "update_display_data" if update else "display_data"
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        self._send_hooked(kind, content, buffers or ())

    def clear_output(self, wait: bool = False) -> None:
        """Publish clear_output: now, or (`wait`) when the next output comes."""
        if self._thread.hooks:
            self._send_hooked("clear_output", {"wait": wait})
        else:
            self.shell.iopub.clear_output(wait)
