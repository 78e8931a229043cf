"""display: IPython's display hook and display publisher, speaking through iopub. Formats nothing itself.

One hook and one publisher serve the main shell and all subshells: what belongs to a run (`_`, the result being
filled in) is looked up in the shell's run state each time.
"""

import threading
from collections.abc import Callable
from typing import Any

from IPython.core.display_trap import DisplayTrap
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import DisplayFormatter
from traitlets import Any as AnyTrait

from ipymini import context
from ipymini.iopub import IOPub

Hook = Callable[[dict[str, Any]], dict[str, Any] | None]


def _of_run(name: str) -> Any:
    """Return a property that lives in the run state of whoever asks."""
    return property(
        lambda self: getattr(self.shell.run_state, name), lambda self, value: setattr(self.shell.run_state, name, value)
    )


class Hooks(threading.local):
    """Functions of one thread that see each message first and may keep it (ipywidgets' Output, capture tools)."""

    def __init__(self) -> None:
        self.functions: list[Hook] = []

    def pass_through(self, msg_type: str, content: dict[str, Any]) -> dict[str, Any] | None:
        """Return the content to send, or None if a hook kept it."""
        if not self.functions:
            return content
        request = context.current()
        parent = request.header if request else {}
        message: dict[str, Any] | None = {
            "header": {"msg_type": msg_type},
            "msg_type": msg_type,
            "parent_header": parent,
            "metadata": {},
            "content": content,
        }
        for function in list(self.functions):
            message = function(message)  # type: ignore[arg-type]
            if message is None:
                return None
        assert message is not None
        return dict(message["content"])


class ZMQShellDisplayHook(DisplayHook):
    """`sys.displayhook`: the value of an expression becomes execute_result, at once, for the cell that made it."""

    exec_result = _of_run("exec_result")
    _ = _of_run("last")
    __ = _of_run("last_but_one")
    ___ = _of_run("last_but_two")
    _is_active = _of_run("hook_active")

    def __init__(self, *args: Any, **kwargs: Any):
        self._hooks = Hooks()
        super().__init__(*args, **kwargs)

    def quiet(self) -> bool:
        """Whether the running cell ends with a semicolon."""
        code = self.shell.run_state.code
        return ";" in code.rstrip().rpartition("\n")[2] and bool(self.semicolon_at_end_of_expression(code))

    def start_displayhook(self) -> None:
        """Begin a result: formatters that fail meanwhile make the cell's reply an error."""
        self._is_active = True

    def write_output_prompt(self) -> None:
        """Write nothing: execute_result carries the number."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Publish execute_result."""
        content = {"data": format_dict, "metadata": md_dict or {}, "execution_count": self.prompt_count}
        kept = self._hooks.pass_through("execute_result", content)
        if kept is not None:
            self.iopub.execute_result(kept["data"], kept["metadata"], kept["execution_count"])

    @property
    def iopub(self) -> IOPub:
        """The kernel's voice."""
        return self.shell.iopub  # type: ignore[no-any-return]

    @property
    def prompt_count(self) -> int:
        """The number of the running cell."""
        return int(self.shell.run_state.cell_number)

    def update_user_ns(self, result: Any) -> None:
        """Keep the result as `_`, `_N` and in `Out`: in the namespace, or in the subshell's own few names."""
        overlay = self.shell.run_state.overlay
        if overlay is None:
            super().update_user_ns(result)
            return
        if not self.cache_size or result is overlay.own["_oh"]:
            return
        overlay.own["___"], overlay.own["__"], overlay.own["_"] = overlay.own["__"], overlay.own["_"], result
        overlay.own["_oh"][self.prompt_count] = overlay.own[f"_{self.prompt_count}"] = result

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Remember the text for history, not the whole bundle: images would stay in memory for ever."""
        super().log_output({key: value for key, value in format_dict.items() if key == "text/plain"})

    def finish_displayhook(self) -> None:
        """End a result."""
        self._is_active = False

    def register_hook(self, hook: Hook) -> None:
        """Let a function of this thread see execute_result messages first."""
        self._hooks.functions.append(hook)

    def unregister_hook(self, hook: Hook) -> bool:
        """Take the function back; return whether it was there."""
        return _remove(self._hooks.functions, hook)


class ZMQDisplayPublisher(DisplayPublisher):
    """`display()`: display_data, update_display_data and clear_output."""

    session = AnyTrait(None)
    pub_socket = AnyTrait(None)
    parent_header = property(lambda self: self.shell.get_parent().get("header", {}))
    topic = b"display_data"

    def __init__(self, *args: Any, **kwargs: Any):
        self._hooks = Hooks()
        super().__init__(*args, **kwargs)

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        """Publish a mime bundle. Raises TypeError or ValueError, in the cell, if JSON cannot hold it."""
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        kept = self._hooks.pass_through("update_display_data" if update else "display_data", content)
        if kept is not None:
            self.shell.iopub.display_data(kept["data"], kept["metadata"], kept.get("transient"), update=update)

    def clear_output(self, wait: bool = False) -> None:
        """Clear the cell's output, now or when the next comes."""
        kept = self._hooks.pass_through("clear_output", {"wait": wait})
        if kept is not None:
            self.shell.iopub.clear_output(bool(kept["wait"]))

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Make what this thread displays belong to another message."""
        self.shell.set_parent(parent)

    def register_hook(self, hook: Hook) -> None:
        """Let a function of this thread see display messages first; it returns them, or None to keep them."""
        self._hooks.functions.append(hook)

    def unregister_hook(self, hook: Hook) -> bool:
        """Take the function back; return whether it was there."""
        return _remove(self._hooks.functions, hook)


def _remove(functions: list[Hook], hook: Hook) -> bool:
    if hook in functions:
        functions.remove(hook)
        return True
    return False


class RoutedDisplayTrap(DisplayTrap):
    """Sets `sys.displayhook` at the start of a cell and never takes it back: another shell's cell may be running."""

    def __enter__(self) -> "RoutedDisplayTrap":
        import sys

        state = self.hook.shell.run_state
        if state.depth == 0 and sys.displayhook is not self.hook:
            sys.displayhook = self.hook
        state.depth += 1
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        self.hook.shell.run_state.depth -= 1
        return False


class FastDisplayFormatter(DisplayFormatter):
    """IPython's formatter, which remembers which formatters have nothing to say about a type.

    Ten formatters that each find out that they do not apply cost a display of HTML most of its time. What is
    remembered is forgotten whenever a printer is registered or a formatter enabled.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._silent: dict[type, tuple[Any, frozenset[str]]] = {}

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (data, metadata) for an object, as DisplayFormatter.format does."""
        kind = type(obj)
        if include is not None or not _looks_simple(kind):
            return super().format(obj, include, exclude)
        stamp = self._stamp()
        known = self._silent.get(kind)
        if known is None or known[0] != stamp:
            silent = frozenset(name for name, formatter in self.formatters.items() if not _may_apply(formatter, kind))
            known = self._silent[kind] = (stamp, silent)
            if len(self._silent) > 1000:
                self._silent = {kind: known}  # types made in a loop
        return super().format(obj, include, known[1] if not exclude else known[1] | set(exclude))

    def _stamp(self) -> Any:
        """Return something that changes whenever a printer is registered or removed, or a formatter switched."""
        return tuple(
            (f.enabled, len(f.type_printers), len(f.singleton_printers), len(f.deferred_printers))
            for f in self.formatters.values()
        )


def _looks_simple(kind: type) -> bool:
    """Whether the class alone tells what its objects can print: nothing made up at run time."""
    return (
        type(kind) is type
        and kind.__getattribute__ is object.__getattribute__
        and not hasattr(kind, "__getattr__")
        and not hasattr(kind, "_ipython_display_")
        and not hasattr(kind, "_repr_mimebundle_")
        and not getattr(kind, "__dict__", {}).get("__dictoffset__", 0)
    )


def _may_apply(formatter: Any, kind: type) -> bool:
    if formatter.format_type == "text/plain" or formatter.singleton_printers:
        return True
    if any(hasattr(cls, formatter.print_method) for cls in (kind,)):
        return True
    if any(cls in formatter.type_printers for cls in kind.__mro__):
        return True
    return any((cls.__module__, cls.__name__) in formatter.deferred_printers for cls in kind.__mro__)
