"""`import ipykernel` in a kernel: beside a real ipykernel, without one, and with the stand-ins turned off."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, KernelUnderTest, start_kernel

FILES = {
    "__init__.py": "__version__ = '6.30.0'\nfrom . import ipkernel",
    "ipkernel.py": "import comm\ndef mute(*a, **k): raise SystemExit('taken over')\ncomm.create_comm = comm.get_comm_manager = mute",
    "iostream.py": "from .extra import HERE\nfrom .ipkernel import IPythonKernel\nclass IOPubThread: place = HERE",
    "extra.py": "HERE = 'the real one'\nfrom ipykernel.zmqshell import ZMQInteractiveShell",
    "zmqshell.py": "class ZMQInteractiveShell: pass",
    "embed.py": "def embed_kernel(): pass",
    "comm/__init__.py": "class Comm: pass",
    "comm/further.py": "from . import Comm",
}
ABSENT = """
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.startswith('ipykernel') else PathFinder.find_spec(name, path, target)
    invalidate_caches = PathFinder.invalidate_caches
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""
PREPARE = "import importlib, importlib.util, inspect, os, pickle, subprocess, sys\nimport comm\nip = get_ipython()"

# What a class must have for a mock that has it for a spec; ipykernel's have all of it.
MESSAGES = "register_hook unregister_hook set_parent set_thread_parent reset_thread_parent parent_header session pub_socket topic"
SHOWN = {
    "comms.Comm": "comm_id primary target_name target_module topic kernel open send close on_msg on_close handle_msg handle_close publish_msg",
    "comms.CommManager": "comms targets kernel register_target unregister_target register_comm unregister_comm get_comm comm_open comm_msg comm_close",
    "type(ip)": "display_pub execution_count history_manager kernel parent_header run_cell_async set_parent set_thread_parent reset_thread_parent user_ns",
    "type(ip.display_pub)": f"publish clear_output {MESSAGES}",
    "type(ip.displayhook)": MESSAGES,
    "type(sys.stdout)": "write writelines flush fileno isatty register_hook unregister_hook set_parent set_thread_parent reset_thread_parent parent_header session pub_thread topic",
    "Kernel": "shell session iopub_socket do_execute do_complete do_inspect do_history do_is_complete do_shutdown shell_handlers control_handlers msg_types control_msg_types control_thread comm_manager",
    "IPythonKernel": "shell user_ns do_execute do_complete do_inspect do_history do_is_complete do_shutdown do_clear shell_handlers control_handlers msg_types control_msg_types",
    "kernelapp.IPKernelApp": "kernel shell session user_ns connection_file connection_dir abs_connection_file ip transport ports shell_port iopub_port stdin_port control_port hb_port initialize start",
}

# In every kernel that has stand-ins: claim (and who relies on it), code, what its last expression gives
EVERYWHERE = [
    ("tqdm finds the shell's module without an import", "'ipykernel.zmqshell' in sys.modules", True),
    ("the version is one of three numbers (VS Code)", "import ipykernel\nipykernel.__version__, ipykernel.version_info, bool(ipykernel.__ipymini__)", ("7.4.0", (7, 4, 0), True)),
    ("the shell's class says that it is ipykernel's (plotly, scooby)", "type(ip).__module__, type(ip).__qualname__", ("ipykernel.zmqshell", "ZMQInteractiveShell")),
    ("the streams' class says that it is ipykernel's (click)", "type(sys.stdout).__module__, type(sys.stderr).__name__", ("ipykernel.iostream", "OutStream")),
    ("the classes are ours by both names (loguru)", "isinstance(sys.stdout, ipykernel.iostream.OutStream), isinstance(ip, ipykernel.zmqshell.ZMQInteractiveShell)", (True, True)),
    ("kernel and base class are there to subclass (panel, solara)", "from ipykernel.kernelbase import Kernel\nfrom ipykernel.ipkernel import IPythonKernel\nclass Mine(Kernel): implementation = 'mine'\nmine = Mine()\nisinstance(ip.kernel, Kernel), isinstance(ip.kernel, IPythonKernel), mine.kernel_info['implementation']", (True, True, "mine")),
    ("Kernel.instance is the kernel (ipyparallel, solara)", "Kernel.initialized(), Kernel.instance() is ip.kernel", (True, True)),
    ("traitlets knows of an application (snippets that restart)", "from traitlets.config import Application\nApplication.initialized(), Application.instance().kernel is ip.kernel", (True, True)),
    ("the application knows the connection (ipyparallel, users)", "from ipykernel.kernelapp import IPKernelApp\napp = IPKernelApp.instance()\napp is Application.instance() is ip.kernel.parent, app.connection_file == ip.config.IPKernelApp.connection_file, app.shell_port == ip.kernel.connection.ports['shell'], app.shell is ip, app.config is ip.config", (True,) * 5),
    ("IPython's own base class gives the same application", "from IPython.core.application import BaseIPythonApplication\nBaseIPythonApplication.instance() is app", True),
    ("the connection file can be asked for (wandb)", "ipykernel.connect.get_connection_file() == ipykernel.get_connection_file() == ip.config.IPKernelApp.connection_file", True),
    ("the connection can be asked for", "from ipykernel.connect import *\nget_connection_info(unpack=True)['key'] == ip.kernel.connection.key.encode(), '\"shell_port\"' in get_connection_info()", (True, True)),
    ("comms of that name are registered with ours", "from ipykernel.comm import Comm, CommManager\nfrom ipykernel.comm.comm import BaseComm\nfrom ipykernel.comm.manager import CommManager as Same\none = Comm(target_name='there', primary=False)\nisinstance(comm.get_comm_manager(), CommManager), CommManager is Same, isinstance(one, BaseComm)", (True, True, True)),
    ("the remaining modules are there", "from ipykernel.jsonutil import json_clean, encode_images\nfrom ipykernel.displayhook import ZMQShellDisplayHook\nfrom ipykernel.zmqshell import KernelMagics, ZMQDisplayPublisher\njson_clean({'a': 1}), isinstance(ip.display_pub, ZMQDisplayPublisher), isinstance(sys.displayhook, ZMQShellDisplayHook)", ({"a": 1}, True, True)),
    ("the source of the shell can be read", "inspect.getsource(type(ip)).split('(')[0], inspect.getsource(type(sys.stdout)).split('(')[0]", ("class ZMQInteractiveShell", "class OutStream")),
    ("the classes pickle", "pickle.loads(pickle.dumps([type(ip), type(sys.stdout), type(ip.kernel)])) == [type(ip), type(sys.stdout), type(ip.kernel)]", True),
    ("a look-up of specs finds what an import finds", "importlib.util.find_spec('ipykernel') is ipykernel.__spec__, importlib.util.find_spec('ipykernel.nothing'), importlib.util.find_spec('ipykernel.comm').name", (True, None, "ipykernel.comm")),
    ("the classes show what their objects have: tests take them for a spec", "from unittest.mock import MagicMock\nfrom ipykernel import comm as comms, kernelapp\nfrom ipykernel.ipkernel import IPythonKernel\nfrom ipykernel.kernelbase import Kernel\ntable = " + repr(SHOWN).replace("\n", "") + "\n[name for kind, names in table.items() for name in names.split() if not hasattr(MagicMock(spec=eval(kind)), name)]", []),
    ("a reload changes nothing", "importlib.reload(ipykernel) is ipykernel, ipykernel.__version__", (True, "7.4.0")),
    ("removed from sys.modules, they come back", "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('ipykernel')]\nimport ipykernel.iostream, ipykernel.zmqshell, ipykernel.ipkernel\nisinstance(sys.stdout, ipykernel.iostream.OutStream), pickle.loads(pickle.dumps(type(ip))) is type(ip)", (True, True)),
    ("code that asks all modules for a name gets no answer from them", "[name for name in ('__path__', '__wrapped__', 'nothing') if hasattr(ipykernel.iostream, name)]", []),
]  # fmt: skip

BESIDE = [
    ("modules without a stand-in are ipykernel's own", "import ipykernel.extra, ipykernel.comm.further\nipykernel.extra.HERE, ipykernel.extra.ZMQInteractiveShell is type(ip), ipykernel.comm.further.Comm is ipykernel.comm.Comm", ("the real one", True, True)),
    ("so are the few names that only they have", "from ipykernel.iostream import IOPubThread\nIOPubThread.place, ipykernel.iostream.IOPubThread is IOPubThread", ("the real one", True)),
    ("child processes see the real one", "subprocess.run([sys.executable, '-c', 'import ipykernel; print(ipykernel.__version__)'], capture_output=True, text=True).stdout", "6.30.0\n"),
    ("spawned workers see the real one", "import multiprocessing\nwith multiprocessing.get_context('spawn').Pool(1) as pool: version = pool.apply(eval, ['__import__(\"ipykernel\").__version__'])\nversion", "6.30.0"),
]  # fmt: skip

WITHOUT = [
    ("other modules of ipykernel are missing as ever", "try: import ipykernel.extra\nexcept ModuleNotFoundError as error: said = str(error)\nsaid", "No module named 'ipykernel.extra'"),
    ("other names are missing, with a word why", "try: from ipykernel.iostream import IOPubThread\nexcept ImportError as error: said = str(error)\n'IOPubThread' in said, hasattr(ipykernel.iostream, 'IOPubThread')", (True, False)),
]  # fmt: skip

OFF = [
    ("ipykernel is the real one", "import ipykernel.extra\nipykernel.__version__, ipykernel.extra.HERE, hasattr(ipykernel, '__ipymini__')", ("6.30.0", "the real one", False)),
    ("our classes have their own names", "type(ip).__module__, type(sys.stdout).__module__, type(ip.kernel).__module__", ("ipymini.ipython.shell", "ipymini.frontend.streams", "ipymini.compat.facade")),
    ("its import takes no comms from us", "comm.create_comm.__module__, comm.get_comm_manager() is ip.kernel.comm_manager", ("ipymini.ipython.comms", True)),
    ("others may still put theirs there", "mine = lambda *a, **k: 'mine'\nbefore = comm.create_comm\ncomm.create_comm = mine\nmade = comm.create_comm()\ncomm.create_comm = before\nmade", "mine"),
]  # fmt: skip


def table(rows: list[Any]) -> Any:
    """Return the parametrization by (code, expected), each named by its claim."""
    return pytest.mark.parametrize("code, expected", [row[1:] for row in rows], ids=[row[0] for row in rows])


def check(kernel: KernelUnderTest, code: str, expected: object) -> None:
    """Run a cell, whose last line is an expression with this value."""
    *lines, last = code.split("\n")
    assert kernel.execute("\n".join([*lines, f"print(ascii(({last})))"]))[1] == [f"stdout:{expected!a}\n"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PYTHONPATH with an ipykernel that comes before the one that may be installed."""
    place = tmp_path_factory.mktemp("beside")
    for name, text in FILES.items():
        (place / "ipykernel" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "ipykernel" / name).write_text(text)
    return f"{place}:{REPOSITORY}"


def prepared(**env: str) -> Iterator[KernelUnderTest]:
    with start_kernel(env=env) as kernel:
        assert kernel.execute(PREPARE)[1] == []
        yield kernel


@pytest.fixture(scope="module")
def beside(path: str) -> Iterator[KernelUnderTest]:
    yield from prepared(PYTHONPATH=path)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelUnderTest]:
    place: Path = tmp_path_factory.mktemp("without")
    (place / "sitecustomize.py").write_text(ABSENT)
    yield from prepared(PYTHONPATH=f"{place}:{REPOSITORY}")


@pytest.fixture(scope="module")
def off(path: str) -> Iterator[KernelUnderTest]:
    yield from prepared(PYTHONPATH=path, IPYMINI_IPYKERNEL="0")


@table([*EVERYWHERE, *BESIDE])
def test_beside_a_real_ipykernel(beside: KernelUnderTest, code: str, expected: object) -> None:
    check(beside, code, expected)


@table([*EVERYWHERE, *WITHOUT])
def test_without_an_ipykernel(without: KernelUnderTest, code: str, expected: object) -> None:
    check(without, code, expected)


@table(OFF)
def test_turned_off(off: KernelUnderTest, code: str, expected: object) -> None:
    check(off, code, expected)


def test_a_comm_of_ipykernels_name_speaks_on_our_wire(beside: KernelUnderTest) -> None:
    code = "from ipykernel.comm import Comm\nnew = Comm(target_name='there', data={'x': 1}, buffers=[b'raw'])\nnew.send(2)\nnew.close()"
    messages = beside.iopub(beside.send("execute_request", code=code))[2:-1]
    assert [message["msg_type"] for message in messages] == ["comm_open", "comm_msg", "comm_close"]
    opened = messages[0]["content"]
    assert (opened["target_name"], opened["data"], bytes(messages[0]["buffers"][0])) == ("there", {"x": 1}, b"raw")


def test_a_comm_with_a_kernel_of_its_own_speaks_on_that_kernels_wire(beside: KernelUnderTest) -> None:
    code = (
        "from ipykernel.comm.comm import BaseComm\nfrom ipykernel.kernelbase import Kernel\n"
        "class Session:\n    def send(self, stream, kind, content, *rest, **more): print(stream, kind, content['data'])\n"
        "other = Kernel()\nother.session, other.iopub_socket = Session(), 'elsewhere'\n"
        "far = BaseComm(target_name='there', kernel=other)\nfar.send({'a': 1})"
    )
    said = beside.execute(code)[1]
    assert said == ["stdout:elsewhere comm_open {}\nelsewhere comm_msg {'a': 1}\n"]


def test_nothing_of_it_is_imported_before_it_is_asked_for(own_kernel: KernelUnderTest) -> None:
    own = "ipymini.ipython.application ipymini.compat.ipykernel_classes IPython.core.application ipymini.ipython.magics jupyter_client tornado".split()
    code = f"import sys; print(sorted(n for n in sys.modules if n.startswith('ipykernel')), [n for n in {own} if n in sys.modules])"
    names = ["ipykernel", "ipykernel.iostream", "ipykernel.ipkernel", "ipykernel.zmqshell"]
    assert own_kernel.execute(code)[1] == [f"stdout:{names} []\n"]


def test_the_undo_leaves_no_trace() -> None:
    from ipymini.compat import ipykernel_names
    from ipymini.frontend import streams

    before = {name: module for name, module in sys.modules.items() if name.startswith("ipykernel")}
    undo = ipykernel_names.install()
    import ipykernel

    assert isinstance(ipykernel, ipykernel_names.StandIn)
    assert streams.OutStream.__module__ == "ipykernel.iostream"
    undo()
    assert streams.OutStream.__module__ == "ipymini.frontend.streams"
    assert ipykernel_names.FINDER not in sys.meta_path
    assert {name: module for name, module in sys.modules.items() if name.startswith("ipykernel")} == before
