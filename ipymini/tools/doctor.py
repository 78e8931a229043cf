"""doctor: `python -m ipymini doctor`: checks whether a kernel can run here, and says what to do. Changes nothing.

One line for each finding, to be pasted into a bug report: `ok`, `note` (worth knowing) or `BAD` (a kernel cannot
work). The exit code is 1 if anything is BAD.
"""

import importlib
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from ipymini import __version__
from ipymini.protocol import import_guard
from ipymini.tools import kernelspec

# What pyproject.toml asks for; the modules that are imported, too.
NEEDED = {
    "ipython": ("9.0", "IPython"),
    "pyzmq": ("26.0", "zmq"),
    "comm": ("0.2.1", "comm"),
    "debugpy": ("1.8.1", "debugpy"),
    "jupyter_client": ("8.0", "jupyter_client"),
    "jupyter_core": ("5.1", "jupyter_core"),
}
SEEN = ("jupyterlab", "notebook", "jupyter_server", "ipykernel", "ipywidgets", "jedi", "traitlets", "tornado")
VARIABLES = ("PYTHON", "JUPYTER_", "IPYTHON", "IPYMINI_", "JPY_", "MPLBACKEND", "VIRTUAL_ENV", "CONDA_PREFIX")
SECRET = ("TOKEN", "KEY", "PASS", "SECRET", "COOKIE")  # this goes into bug reports
DEADLINE = 60.0  # seconds for a kernel to start and to run a cell
POLL_INTERVAL = 0.5  # seconds to wait for an answer before checking that the kernel still runs

Finding = tuple[str, str, str]  # "ok", "note" or "BAD"; what has been looked at; what has been found


def run() -> int:
    """Print the findings; return the exit code."""
    bad = 0
    for verdict, what, found in findings():
        first, *more = found.splitlines() or [""]
        print(f"{verdict:4}  {what:12}  {first}", *(" " * 20 + line for line in more), sep="\n", flush=True)
        bad += verdict == "BAD"
    print("No kernel can work so: see BAD above." if bad else "A kernel can work here.")
    return 1 if bad else 0


def findings() -> Iterator[Finding]:
    """Yield what is found, the quick things first."""
    yield "ok", "ipymini", f"{__version__} in {Path(__file__).parents[1]}"
    yield "ok", "Python", f"{platform.python_version()}, {sys.executable}, {platform.platform()}"
    yield from packages()
    yield from kernelspecs()
    yield runtime_directory()
    yield ports()
    yield from files(os.getcwd())
    yield "ok", "environment", environment()
    yield kernel()


def packages() -> Iterator[Finding]:
    """Yield the versions of the packages that we need, and of others that matter."""
    good, pip = [], f"{sys.executable} -m pip install"
    for name, (least, module) in NEEDED.items():
        try:
            version = metadata.version(name)
            importlib.import_module(module)
        except metadata.PackageNotFoundError:
            yield "BAD", "packages", f"{name} is not installed: {pip} '{name}>={least}'"
        except Exception as error:  # whatever a broken package raises when it is imported
            yield "BAD", "packages", f"{name} cannot be imported: {type(error).__name__}: {error}"
        else:
            good.append(f"{name} {version}")
            if _numbers(version) < _numbers(least):
                yield "BAD", "packages", f"{name} {version} is too old: {pip} '{name}>={least}'"
    yield "ok", "packages", ", ".join(good)
    others = [f"{name} {its}" for name in SEEN if (its := _version(name))]
    yield "ok", "beside them", ", ".join(others) or "nothing that we know"


def kernelspecs() -> Iterator[Finding]:
    """Yield which interpreters our kernelspecs start, and what `python3` starts if it is not ours."""
    ours = list(kernelspec.find_specs(kernelspec.roots()))
    if not ours:
        yield "note", "kernelspec", f"Jupyter finds none of ours: {sys.executable} -m ipymini install --sys-prefix"
    for name, directory, spec in ours:
        python = str(spec["argv"][0])
        full = sys.executable if python == "python" else shutil.which(python)  # "python": Jupyter takes its own
        if full is None:
            yield "BAD", "kernelspec", f"{name} in {directory}: there is no {python}: install it again, or uninstall it"
        elif not _is_this(full):
            yield "note", "kernelspec", f"{name} in {directory}: starts another interpreter, {full}"
        elif "-P" not in spec["argv"]:
            yield "note", "kernelspec", f"{name} in {directory}: is of an old version, without -P: install it again"
        else:
            yield "ok", "kernelspec", f"{name} in {directory}: {' '.join(map(str, spec['argv']))}"
    for name, directory, argv in kernelspec.others(kernelspec.roots(), "python3"):
        yield "note", "kernelspec", f"{name} in {directory} is not ours: {' '.join(argv)}"


def runtime_directory() -> Finding:
    """Check that connection files can be written."""
    from jupyter_core.paths import jupyter_runtime_dir

    directory = Path(jupyter_runtime_dir())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        return "BAD", "runtime", f"{directory} cannot be written: {error.strerror}: set JUPYTER_RUNTIME_DIR"
    return "ok", "runtime", str(directory)


def ports() -> Finding:
    """Check that five ports can be bound on loopback, and reached."""
    try:
        with ExitStack() as stack:
            listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
            for listener in listeners:
                stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5))
    except OSError as error:
        return "BAD", "ports", f"no way through 127.0.0.1: {error}: a firewall? `--transport=ipc` needs no ports"
    return "ok", "ports", "five on 127.0.0.1, and they can be reached"


def files(directory: str) -> Iterator[Finding]:
    """Yield the files that have a module's name."""
    if found := ", ".join(import_guard.find(directory)):
        yield "note", "files", f"named like modules, so that cells import the module and not the file: {found}"


def environment() -> str:
    """Return the environment variables that matter, one a line; a secret's value is left out."""
    matter = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    lines = [f"{name}={'...' if any(word in name for word in SECRET) else value}" for name, value in matter.items()]
    return "\n".join(lines) or "nothing of Python's, Jupyter's or ours is set"


def kernel() -> Finding:
    """Start a kernel by a kernelspec, as frontends do, and run a cell."""
    from jupyter_client.manager import KernelManager

    began = monotonic()
    spec = kernelspec.make_spec(python=sys.executable)
    spec["argv"].append("--HistoryManager.enabled=False")
    with tempfile.TemporaryDirectory(prefix="ipymini-doctor-") as home, ExitStack() as stack:
        log, kernels = Path(home, "log"), Path(home, "kernels")
        try:
            kernelspec.install(kernels, "doctor", spec)
            manager = KernelManager(kernel_name="doctor", kernel_spec_manager=kernelspec.manager(kernels))
            manager.connection_file = str(Path(home, "kernel.json"))
            with log.open("wb") as output:
                manager.start_kernel(stdout=output, stderr=output)
            stack.callback(manager.shutdown_kernel, now=True)
            client = manager.blocking_client()
            client.start_channels()
            stack.callback(client.stop_channels)
            client.wait_for_ready(timeout=DEADLINE)
            started = monotonic() - began
            client.execute("40 + 2")
            if (said := _result(manager, client)) != "42":
                raise RuntimeError(f"40 + 2 is {said}")
            client.shutdown(reply=True, timeout=DEADLINE)
        except Exception as error:  # whatever goes wrong is what we are here to say
            told = log.read_text(errors="replace").strip().splitlines()[-15:] if log.exists() else []
            return "BAD", "kernel", "\n".join([f"{' '.join(spec['argv'])}: {type(error).__name__}: {error}", *told])
    return "ok", "kernel", f"one has started in {started:.1f} s, run a cell and ended"


def _result(manager: Any, client: Any) -> str:
    """Return what the cell says, while the kernel lives: it may die after its first answer."""
    until = monotonic() + DEADLINE
    while monotonic() < until:
        with suppress(Empty):
            message = client.get_iopub_msg(timeout=POLL_INTERVAL)
            if message["msg_type"] in ("execute_result", "error"):
                content = message["content"]
                return str(content["data"]["text/plain"] if "data" in content else content["evalue"])
        if not manager.is_alive():
            raise RuntimeError("it has ended before it has run a cell")
    raise RuntimeError(f"it has not run a cell for {DEADLINE:g} s")


def _is_this(python: str) -> bool:
    return os.path.realpath(python) == os.path.realpath(sys.executable) and (
        Path(python).absolute().parent.parent == Path(sys.prefix) or sys.prefix == sys.base_prefix
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
