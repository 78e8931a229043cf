"""embed: a kernel inside of another program, which goes on when the kernel ends. Owns no process.

`ipymini.embed()` stops the program there and serves clients until one of them says `exit` or shuts the kernel down.
On a thread of its own it serves while the program goes on:

>>> threading.Thread(target=ipymini.embed_kernel, kwargs={"local_ns": globals()}, daemon=True).start()

What cells print goes to the frontend, what the program prints goes where it went before. On the main thread Ctrl-C
interrupts what runs; on any other there are no signals, and clients interrupt by message. One kernel at a time: all
that it puts in place (streams, hooks, IPython's shell) is the process's. Afterwards everything is as it was before.
"""

import asyncio
import atexit
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType, ModuleType
from typing import Any

from ipymini import __version__, cells
from ipymini.execution import loops, signals
from ipymini.ipython.subshell_state import Layered
from ipymini.kernel import Kernel
from ipymini.protocol.connection import CHANNELS
from ipymini.protocol.messages import IpyminiError
from ipymini.tools import connection_files

log = logging.getLogger("ipymini.tools.embed")

TWICE = 3.0  # seconds within which a second Ctrl-C ends an idle kernel
CONNECTION = ("ip", "transport", "key", "port_range", *(f"{channel}_port" for channel in CHANNELS))

_IPYTHONS = re.compile(
    r"In|Out|exit|quit|open|get_ipython|_dh|_ih|_oh|_exit_code|_{1,3}|_i{1,3}|_i?\d+|__builtin__"
).fullmatch


class KernelRunning(IpyminiError):
    """There is a kernel in this process already."""


class _Embedded:
    """The kernel that runs now; `stop` gets it from another thread."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None
        self.thread = threading.get_ident()
        self.is_over = threading.Event()


_current: _Embedded | None = None  # under _gate
_gate = threading.Lock()


def embed_kernel(module: ModuleType | None = None, local_ns: dict[str, Any] | None = None, **options: Any) -> None:
    """Serve clients here until `exit`, a shutdown_request or `stop()`. Blocks the calling thread, whichever it is.

    Cells see the caller's module and local variables, or those given. What they assign is put into `local_ns`, and at
    a module's top level into the module; a function's variables stay as they are.

    Options: `connection_file`, a path; `ip`, `transport`, `shell_port` and the like, as in a connection file;
    `config`, {class: {trait: value}}; `argv`, options of the command line; `quiet=True`, to say nothing on stderr.
    Raises KernelRunning, and IpyminiError if the kernel cannot start.
    """
    _embed(sys._getframe(1), module, local_ns, options)


def stop(timeout: float = 5.0) -> bool:
    """End the kernel that runs in this process, and wait until all is as before. Any thread, and cells.

    Return whether it has ended: also if there is none. In a cell it ends after the cell, and this does not wait.
    """
    with _gate:
        one = _current
    if one is None:
        return True
    if one.kernel is not None:
        one.kernel.stop()
    return one.thread != threading.get_ident() and one.is_over.wait(timeout)


def _embed(caller: FrameType, module: ModuleType | None, names: dict[str, Any] | None, options: dict[str, Any]) -> None:
    global _current
    if module is None:
        module = sys.modules.get(str(caller.f_globals.get("__name__"))) or sys.modules["__main__"]
        if names is None and caller.f_locals is not caller.f_globals:
            names = dict(caller.f_locals)
    with _gate:
        if _current is not None or cells.kernel() is not None:
            raise KernelRunning("expected no kernel in this process, there is one: end it first, or connect to it")
        one = _current = _Embedded()
    try:
        with ExitStack() as undo:
            undo.callback(_forget, one)
            _serve(one, module, names if names is not module.__dict__ else None, options, undo)
    finally:
        one.is_over.set()


def _forget(one: _Embedded) -> None:
    global _current
    with _gate:
        one.kernel, _current = None, None


def _serve(
    one: _Embedded, module: ModuleType, names: dict[str, Any] | None, options: dict[str, Any], undo: ExitStack
) -> None:
    """Run a kernel on this thread. What `undo` holds is done whatever happens."""
    quiet = options.pop("quiet", False)
    file = options.pop("connection_file", None)
    argv = [*options.pop("argv", ()), *_as_options(options.pop("config", {}))]
    path, owned, wanted = connection_files.find(
        Path(file) if file else None, {key: options.pop(key) for key in CONNECTION if key in options}
    )
    if options:
        log.warning("ignored options: %s", sorted(options))
    undo.enter_context(_log_to_stderr())
    undo.enter_context(_path_restored())
    undo.enter_context(_sys_restored())
    undo.enter_context(_names_tidied(module.__dict__))
    undo.enter_context(_outside_of_loops())
    if names is not None:
        undo.enter_context(_names_tidied(names))
        names = Layered(names, module.__dict__)
    kernel = one.kernel = Kernel(
        wanted,
        file=path,
        owns_file=owned,
    )
    if threading.current_thread() is threading.main_thread():
        undo.callback(signals.handle(_on_sigint(kernel), None))
    atexit.register(stop)  # a program that ends while the kernel's thread is a daemon
    undo.callback(atexit.unregister, stop)
    environment = dict(os.environ)
    try:
        arguments = ["--InteractiveShellApp.hide_initial_ns=False", *argv]
        kernel.start(argv=arguments, user_module=module, user_ns=names)
        undo.enter_context(_environment_restored(environment, dict(os.environ)))
        if not quiet and sys.__stderr__ is not None:
            print(f"ipymini {__version__}: to connect a client: jupyter console --existing {path}", file=sys.stderr)
    except BaseException:
        kernel.close()
        raise
    kernel.run()


def _on_sigint(kernel: Kernel) -> Callable[[int, FrameType | None], None]:
    """Return what Ctrl-C does: it interrupts what runs; where nothing runs, twice ends the kernel."""
    before = -TWICE

    def on_sigint(signum: int, frame: FrameType | None) -> None:
        nonlocal before
        if kernel.interrupts.has_work:
            kernel.interrupts.on_sigint(signum, frame)
        elif monotonic() - before < TWICE:
            kernel.outbox.call(kernel.stop)
        else:
            before = monotonic()
            os.write(2, b"ipymini: nothing runs; Ctrl-C again ends the kernel\n")

    return on_sigint


def _as_options(config: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"--{section}.{trait}={value}" for section, traits in config.items() for trait, value in traits.items()]


# ---- restoring what was there before -------------------------------------------------------


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Send our log to the program's stderr, unless it has said where: never to a cell."""
    ours = logging.getLogger("ipymini")
    if ours.hasHandlers() or sys.stderr is None:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)


@contextmanager
def _environment_restored(before: dict[str, str], after: dict[str, str]) -> Iterator[None]:
    """Restore the variables that the kernel's start has set, unless cells have set them since."""
    yield
    for name, value in after.items():
        if value != before.get(name) and os.environ.get(name) == value:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextmanager
def _path_restored() -> Iterator[None]:
    """Take the working directory off `sys.path`, if it was not there before."""
    had_it = "" in sys.path
    yield
    if "" in sys.path and not had_it:
        sys.path.remove("")


@contextmanager
def _sys_restored() -> Iterator[None]:
    """Restore what IPython sets in `sys`: the prompts, and the last error, whose traceback keeps the kernel alive."""
    names = ("ps1", "ps2", "ps3", "last_type", "last_value", "last_traceback", "last_exc")
    before = {name: getattr(sys, name) for name in names if hasattr(sys, name)}
    yield
    for name in names:
        vars(sys).pop(name, None)
    vars(sys).update(before)


@contextmanager
def _names_tidied(names: dict[str, Any]) -> Iterator[None]:
    """Take IPython's own names (`In`, `_`, `exit`, ...) out of the program's namespace, or put back what they hid."""
    before = dict(names)
    yield
    for name in [name for name in names if _IPYTHONS(name)]:
        if name in before:
            names[name] = before[name]
        else:
            del names[name]


def _own_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that is set for this thread, or None; make none."""
    if sys.version_info < (3, 14):
        return getattr(getattr(asyncio.get_event_loop_policy(), "_local", None), "_loop", None)
    try:
        return asyncio.get_event_loop()
    except RuntimeError:
        return None


@contextmanager
def _outside_of_loops() -> Iterator[None]:
    """Let the lane's loop run although one of the program's may run on this thread; set that one again afterwards."""
    with loops.outside_loop():
        before = _own_loop()
        yield
    if before is not None:
        asyncio.set_event_loop(before)


# ---- `ipymini.embed()`, although `ipymini.embed` is this module -------------------------


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> None:
        """Do as `embed_kernel` does, for the caller's namespace."""
        module, names = [*args, None, None][:2]
        _embed(sys._getframe(1), options.pop("module", module), options.pop("local_ns", names), options)


sys.modules[__name__].__class__ = _CallableModule
