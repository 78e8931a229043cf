"""__main__: `python -m ipymini -f FILE` runs a kernel; `install` and others manage kernelspecs. No protocol."""

import gc

from ipymini.protocol import import_guard

if __name__ == "__main__":
    import_guard.leave_out()  # before any other import
    gc.disable()  # importing makes many objects and no garbage

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from ipymini import __version__
from ipymini.execution import signals
from ipymini.protocol import originals

COMMANDS = ("install", "uninstall", "list")
SWITCH_INTERVAL = 0.0002  # seconds: how long a cell that computes may keep control waiting for the GIL
USAGE = """\
usage: python -m ipymini [-f FILE] [--ip=IP] [--transport=tcp|ipc] [--shell=PORT ...] [--port-range=LOW..HIGH]
                         [--Class.trait=value ...]
       python -m ipymini install [--user | --sys-prefix | --prefix P] [--name N] [--display-name D] [--env K V]
       python -m ipymini list | uninstall NAME | doctor | --version
"""
_PORTS = {short: f"{short}_port" for short in ("shell", "iopub", "stdin", "control", "hb")}
_CONNECTION_OPTIONS = {
    "ip": "ip",
    "transport": "transport",
    "port-range": "port_range",
    **_PORTS,
    **{f"IPKernelApp.{key}": key for key in ("ip", "transport", *_PORTS.values())},
    "Session.key": "key",
}
_LEVELS = ("--log-level", "--Application.log_level", "--IPKernelApp.log_level")


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["doctor"]:
        from ipymini.tools import doctor

        return doctor.run()
    if argv and argv[0] in COMMANDS:
        from ipymini.tools import kernelspec

        return kernelspec.run(argv)
    if "--version" in argv:
        print(__version__)
        return 0
    if {"-h", "--help"} & set(argv):
        print(USAGE, end="")
        return 0
    return run_kernel(argv)


def run(
    connection_file: str | Path | None = None, user_ns: dict[str, Any] | None = None, argv: Sequence[str] = ()
) -> NoReturn:
    """Make this process a kernel, and end it with the kernel: for launchers of your own. On the main thread.

    `user_ns`: what cells find in their namespace; `argv`: options of the command line.
    """
    given = ["-f", str(connection_file)] if connection_file else []
    sys.exit(run_kernel([*given, *argv], user_ns=user_ns))


def run_kernel(
    argv: list[str],
    bound: Callable[[Any], None] = lambda connection: None,
    user_ns: dict[str, Any] | None = None,
) -> int:
    """Run a kernel in this process until it is shut down, then end the process: no thread can hold that up.

    `bound` is told the connection when its ports are ours. Returns 1 if it cannot start.
    """
    gc.disable()  # until the kernel has started
    sys.setswitchinterval(SWITCH_INTERVAL)
    file, given, rest = split_options(argv)
    start_logging(log_level(rest))
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # from Python 3.13 on
        logging.getLogger("ipymini").warning(
            "this Python runs without the GIL, ipymini is not made for that: PYTHON_GIL=1"
        )
    try:
        from ipymini.kernel import Kernel
        from ipymini.protocol.messages import IpyminiError
        from ipymini.tools import connection_files
    except ModuleNotFoundError as error:
        print(f"ipymini: {_missing(error)}", file=sys.stderr)
        return 1

    try:
        path, owned, wanted = connection_files.find(file, given)
        kernel = Kernel(wanted, file=path, owns_file=owned, owns_process=True)
        bound(kernel.connection)
    except IpyminiError as error:
        print(f"ipymini: {error}", file=sys.stderr)
        return 1
    signals.handle(kernel.interrupts.on_sigint, kernel.shutdown.on_sigterm)
    watch_parent(kernel)
    sys.argv = sys.argv[:1]  # our options are not the cells': argparse would take them. sys.orig_argv has them all
    try:
        kernel.start(argv=rest, user_ns=user_ns)
    except BaseException as error:  # sys.stderr is a stream of ours by now: only the log still reaches the terminal
        text = _missing(error) if isinstance(error, ModuleNotFoundError) else str(error)
        expected = isinstance(error, IpyminiError | ModuleNotFoundError)  # its text says it all
        logging.getLogger("ipymini").critical("the kernel could not start: %s", text, exc_info=not expected)
        if owned:
            path.unlink(missing_ok=True)
        os._exit(1)
    if owned and not os.environ.get("JPY_PARENT_PID"):
        announce(kernel)
    gc.enable()
    gc.freeze()
    try:
        kernel.run()
    except BaseException:
        logging.getLogger("ipymini").critical("the kernel did not end in good order", exc_info=True)
        os._exit(1)
    os._exit(0)  # not sys.exit: threads of the user's that are no daemons would hold it up


def _missing(error: ModuleNotFoundError) -> str:
    return f"{error}: install it for {sys.executable}, or see `python -m ipymini doctor`"


def split_options(argv: list[str]) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return the connection file, what the options say of the connection, and the other options."""
    file: Path | None = None
    given: dict[str, Any] = {}
    rest: list[str] = []
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if name in ("-f", "--f", "--IPKernelApp.connection_file"):
            value = value if equals else (waiting.pop(0) if waiting else "")
            file = Path(value) if value else None
        elif name.startswith("--") and name[2:] in _CONNECTION_OPTIONS:
            value = value if equals else (waiting.pop(0) if waiting else "")
            key = _CONNECTION_OPTIONS[name[2:]]
            given[key] = int(value) if key.endswith("_port") and value.isdigit() else _without_quotes(value)
        elif word == "--no-secure":
            given["key"] = ""
        else:
            rest.append(word)
    return file, given, rest


def _without_quotes(value: str) -> str:
    """Return the text of a value that may be written as a Python literal, b'abc'."""
    bare = value[1:] if value[:2] in ("b'", 'b"') else value
    return bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"" else value


def log_level(options: list[str]) -> str:
    """Return the log level that the last option for it says, or else IPYMINI_LOG_LEVEL."""
    level = os.environ.get("IPYMINI_LOG_LEVEL", "WARNING")
    for word, following in pairwise([*options, ""]):
        name, equals, value = word.partition("=")
        if name in ("--debug", "--quiet"):
            level = {"--debug": "DEBUG", "--quiet": "CRITICAL"}[name]
        elif name in _LEVELS:
            level = value if equals else following
    return level


def start_logging(level: str) -> None:
    """Send our own log to the real stderr, never to a cell; the root logger is the user's. Once."""
    if logging.getLogger("ipymini").handlers:
        return
    stream = os.fdopen(_real_stderr(), "w", buffering=1, errors="backslashreplace")
    handler = originals.logging.StreamHandler(stream)
    handler.setFormatter(originals.logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    ours = originals.logger("ipymini")
    ours.addHandler(handler)
    ours.setLevel(int(level) if level.isdigit() else getattr(logging, level.upper(), logging.WARNING))
    ours.propagate = False
    faulthandler.enable(stream)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, stream)  # DEBUG.md: `kill -USR1` shows every thread's stack


def _real_stderr() -> int:
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def watch_parent(kernel: Any) -> None:
    """Stop when the process that started us dies; JPY_PARENT_PID is its id. No polling, no thread."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit() or int(parent) <= 1 or not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(int(parent))
    except OSError:
        return  # of another pid namespace, or the system has no pidfd

    def died() -> None:
        kernel.channels.unwatch(descriptor)
        logging.getLogger("ipymini").warning("the parent process died: stopping pid=%s", parent)
        kernel.stop()

    kernel.channels.watch(descriptor, died)


def announce(kernel: Any) -> None:
    """Print how to connect to a kernel that was started by hand."""
    stream = logging.getLogger("ipymini").handlers[0].stream  # type: ignore[attr-defined]
    print(
        f"ipymini {__version__}: to connect a client: jupyter console --existing {kernel.connection_file}", file=stream
    )


if __name__ == "__main__":
    sys.exit(main())
