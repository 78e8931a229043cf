"""A kernel inside of a program: `ipymini.embed()`, on the main thread and on others, and all as before afterwards."""

import json
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import KernelUnderTest
from program import Program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Return program(code), which starts one."""
    started: list[Program] = []

    def start(code: str) -> Program:
        started.append(Program(tmp_path, code))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_cells_see_the_callers_variables_until_exit_and_the_program_goes_on(program: Any) -> None:
    embedding = program("""
        def count():
            local = [1]
            ipymini.embed(connection_file=FILE)
            return local
        elsewhere = "module"
        print("after", count(), os.path.exists(FILE), "In" in globals())
        print("through a stream of the kernel's", file=held, flush=True)
    """)
    kernel = embedding.connect()

    assert kernel.execute("local.append(2); print(elsewhere, local)")[1] == ["stdout:module [1, 2]\n"]
    assert kernel.execute("%who list")[1] == ["stdout:local\t \n"]
    kernel.execute("mine = 3\ndef function(): return mine, elsewhere, __name__\nclass Kind: pass")
    assert kernel.execute("[(*function(), local, Kind.__module__) for _n in range(1)]")[1] == [
        "execute_result:[(3, 'module', '__main__', [1, 2], '__main__')]"
    ]
    kernel.execute("import builtins, sys; builtins.held = sys.stdout")
    kernel.execute("import __main__; __main__.elsewhere = 'changed'")  # by whomever
    assert kernel.execute("elsewhere, (lambda: elsewhere)()")[1] == ["execute_result:('changed', 'changed')"]
    assert kernel.execute("import asyncio; await asyncio.sleep(0); [mine for _n in '1']")[1] == ["execute_result:[3]"]
    assert kernel.execute("exit")[0]["status"] == "ok"

    assert embedding.end() == ("after [1, 2] False False\nthrough a stream of the kernel's\n", "")
    assert embedding.process.returncode == 0


def test_what_cells_assign_at_the_top_level_is_there_afterwards_and_ipythons_names_are_not(program: Any) -> None:
    embedding = program("""
        _ = "mine"
        before = set(globals())
        ipymini.embed_kernel(connection_file=FILE, argv=["--InteractiveShellApp.exec_lines=first = 1"])
        print(_, function(), sorted(set(globals()) - before))
    """)
    kernel = embedding.connect()

    kernel.execute("second = 2\ndef function(): return first + second")
    assert kernel.execute("[function() for _n in range(2)]")[1] == ["execute_result:[3, 3]"]
    kernel.send("shutdown_request", channel="control", restart=False)

    assert embedding.end()[0] == "mine 3 ['before', 'first', 'function', 'second']\n"


def test_the_programs_arguments_stay_the_programs(program: Any) -> None:
    embedding = program("""
        sys.argv += ["--own", "argument"]
        ipymini.embed(connection_file=FILE, argv=["--debug"])
        print(sys.argv[1:])
    """)
    kernel = embedding.connect()

    assert kernel.execute("sys.argv[1:]")[1] == ["execute_result:['--own', 'argument']"]
    kernel.execute("exit")

    assert embedding.end()[0] == "['--own', 'argument']\n"


def test_what_cells_assign_is_put_into_the_namespace_that_was_given(program: Any) -> None:
    embedding = program("""
        names = {"given": 1}
        ipymini.embed_kernel(local_ns=names, connection_file=FILE)
        print(names)
    """)
    kernel = embedding.connect()

    kernel.execute("given += 1; new = 3; gone = 4\n'result'")
    kernel.execute("del gone\nnames['new'], FILE")
    kernel.execute("exit")

    assert embedding.end() == ("{'given': 2, 'new': 3}\n", "")


SNAPSHOT = """
import asyncio, atexit, builtins, concurrent.futures.thread, gc, getpass, inspect, linecache, logging, signal, subprocess, time, warnings
import comm, traitlets.config
try:
    import typing_extensions  # it changes `typing`, where it is needed
except ImportError:
    pass

PLACES = [  # what is no function or class, and may be changed all the same
    (sys, "stdin stdout stderr __stdout__ __stderr__ ps1 ps2 ps3 last_type last_value last_traceback last_exc"),
    (traitlets.config.Application, "_instance"), (traitlets.config.SingletonConfigurable, "_instance"),
    ("IPython.core.interactiveshell", "InteractiveShell._instance"),
]

def own(owner, name):
    for part in name.split("."):
        owner = vars(owner).get(part) if isinstance(owner, type) else getattr(owner, part, None)
    return owner

def functions():
    # {(module, name): function or class} of all modules but ipymini's, and of their classes
    found = {}
    for module, names in [(name, vars(one)) for name, one in sys.modules.items() if one is not None and not ours(name)]:
        for name, value in list(names.items()):
            if callable(value):
                found[module, name] = value
            if isinstance(value, type) and value.__module__ == module:
                members = [(name + "." + key, plain(one)) for key, one in vars(value).items()]
                found.update({(module, key): one for key, one in members if callable(one)})
    return found

def ours(module):
    return str(module).partition(".")[0] in ("ipymini", "__main__")

def plain(member):
    return getattr(member, "__func__", None) or getattr(member, "fget", None) or member

def left_behind():
    # what is ours in the modules of others, whether those were there before or not; `wraps` hides no globals
    whose = {key: one.__globals__.get("__name__") if inspect.isfunction(one) else getattr(one, "__module__", "")
             for key, one in functions().items()}
    return sorted(f"{module}.{name}" for (module, name), owner in whose.items() if ours(owner))

def snapshot():
    gc.collect()
    policy = (getattr(asyncio.events, "_get_event_loop_policy", None) or asyncio.get_event_loop_policy)()
    local = policy._local
    seen = {
        "threads": sorted(thread.name for thread in threading._active.values()), "cwd": os.getcwd(), "argv": list(sys.argv),
        "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())], "path": list(sys.path),
        "wakeup": signal.set_wakeup_fd(-1), "environ": dict(os.environ), "meta_path": list(sys.meta_path),
        "path_hooks": list(sys.path_hooks), "trace": [sys.gettrace(), threading.gettrace(), sys.getprofile()],
        "filters": [one for one in warnings.filters if one[2].__name__ != "ProvisionalCompleterWarning"], "ours": [name for name in sys.modules if name.startswith("ipykernel")],
        "1 and 2": [os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)], "main": sys.modules["__main__"],
        "policy": policy, "loop": getattr(local, "_loop", None), "gc": gc.isenabled(),
        "running": asyncio._get_running_loop(), "switch": sys.getswitchinterval(), "limit": sys.getrecursionlimit(),
        "loggers": [(name, found.level, list(found.handlers), found.propagate)
                    for name, found in [("root", logging.root), *sorted(logging.root.manager.loggerDict.items())]
                    if not isinstance(found, logging.PlaceHolder) and (found.level or found.handlers)],
    }
    seen["left behind"] = left_behind()
    found = functions()
    KNOWN.update({} if KNOWN else found)
    seen.update({f"{module}.{name}": found.get((module, name)) for module, name in KNOWN})
    # `execfile` and `runfile` are pydevd's, in each program that has imported debugpy
    seen["builtins"] = sorted({*vars(builtins)} - {"execfile", "runfile"})
    for owner, names in PLACES:
        module = sys.modules.get(owner) if isinstance(owner, str) else owner
        if module is not None:
            seen.update({f"{getattr(module, '__name__', owner)}.{name}": own(module, name) for name in names.split()})
    return seen

KNOWN = set()  # the functions and classes that are there before
at_exit = []  # Python does not tell
register, unregister = atexit.register, atexit.unregister

def registering(function, *args, **options):
    at_exit.append(function)
    return register(function, *args, **options)

def unregistering(function):
    at_exit[:] = [one for one in at_exit if one != function]
    unregister(function)

atexit.register, atexit.unregister = registering, unregistering

def open_descriptors():
    return len(os.listdir("/proc/self/fd"))

def alive():
    gc.collect()
    return sorted(f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects() if type(one).__module__ in
                  ["ipymini.kernel", "ipymini.bridge", "ipymini.execution.channels", "ipymini.execution.outbox", "ipymini.execution.sockets", "ipymini.execution.lane", "ipymini.debug.debugger",
                   "ipymini.ipython.shell"])

def differences(before, after):
    # {name: [what is gone, what is new]}; of lists and dicts what differs in them
    found = {}
    for name in [name for name in {**before, **after} if before.get(name) != after.get(name)]:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict):
            old, new = list(old.items()), list(new.items())
        if isinstance(old, list):
            old, new = [one for one in old if one not in new], [one for one in new if one not in old]
        found[name] = [str(old)[:500], str(new)[:500]]
    return found
"""

THRICE = (
    SNAPSHOT
    + """
if IMPORTED:
    import anyio, pdb, IPython.core.debugger, IPython.core.interactiveshell

def once():
    ipymini.embed_kernel(connection_file=FILE, local_ns={})
before = snapshot()
told = []
for turn in range(3):
    if OFF_MAIN:
        thread = threading.Thread(target=once)
        thread.start(); thread.join(); del thread
    else:
        once()
    told.append([alive(), open_descriptors(), len(at_exit)])
after = snapshot()
print(json.dumps({"differences": differences(before, after), "alive": [kinds for kinds, *_ in told],
                  "grows": [told[-1][1] - told[0][1], told[-1][2] - told[0][2]]}))
"""
)

USES = """if True:
    import anyio, asyncio, comm, getpass, os, pdb, subprocess, sys, threading, time, warnings
    from concurrent.futures import ThreadPoolExecutor
    async def three(): return 3
    async def both(): return [await asyncio.sleep(0, 1), await three()]
    assert anyio.run(three) == asyncio.run(three()) == 3
    thread = threading.Thread(target=time.sleep, args=(0,)); thread.start(); thread.join()
    with ThreadPoolExecutor(1) as pool: assert pool.submit(abs, -3).result() == 3
    subprocess.run(["true"], check=True); assert os.system("true") == 0
    import ipykernel.kernelapp, ipykernel.comm
    from traitlets.config import Application
    kernel = Application.instance().kernel
    assert Application.initialized()
    comm.create_comm("nobody").close()
    from IPython.core import debugger
    assert pdb.Pdb is debugger.Pdb and pdb.Pdb.__module__ == 'ipymini.debug.cellpdb', pdb.Pdb
    sys.displayhook(3)
"""


@pytest.mark.parametrize("imported", [False, True], ids=["", "imported"])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_afterwards_everything_is_as_before_each_time(program: Any, where: str, imported: bool) -> None:  # L12, L9
    embedding = program(f"OFF_MAIN, IMPORTED = {where == 'thread'}, {imported}\n{THRICE}")

    for _ in range(3):
        kernel = embedding.connect()
        used = kernel.reply(kernel.send("execute_request", code=USES))
        assert used["status"] == "ok", "\n".join(used["traceback"])
        assert kernel.execute("import asyncio; (await both())[1] + 1")[1] == ["execute_result:4"]
        kernel.execute("1 / 0")
        subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
        in_subshell = kernel.send("execute_request", code="time.sleep(0.01); 3", header={"subshell_id": subshell})
        assert kernel.outputs(in_subshell)[-2:] == ["execute_result:3", "status:idle"]
        kernel.reply(kernel.send("complete_request", code="pri", cursor_pos=3))
        debug(kernel, "initialize")
        debug(kernel, "attach")
        code = "x = 1\nx + 1"
        path = debug(kernel, "dumpCell", code=code)["sourcePath"]
        debug(kernel, "setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])
        cell = kernel.send("execute_request", code=code)
        kernel.wait_for("iopub", "debug_event", text="stopped", msg_id=cell)
        debug(kernel, "inspectVariables")
        debug(kernel, "continue", threadId=1)
        assert "execute_result:2" in kernel.outputs(cell)
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))

    out, err = embedding.end()
    assert json.loads(out) == {"differences": {}, "alive": [[], [], []], "grows": [0, 0]}, err


def debug(kernel: KernelUnderTest, command: str, **arguments: Any) -> dict[str, Any]:
    """Ask the debugger; return the body of the answer."""
    asked = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
    answer = kernel.reply(kernel.send("debug_request", channel="control", **asked))
    assert answer["success"], answer
    return dict(answer["body"])


@pytest.mark.parametrize(
    "cell",
    ["while True: pass", "import time; time.sleep(60)", "import asyncio; await asyncio.sleep(60)", "input()"],
)
def test_off_the_main_thread_a_message_interrupts_the_cell_and_nothing_else(program: Any, cell: str) -> None:
    embedding = program("""
        serving = threading.Thread(target=ipymini.embed_kernel, kwargs=dict(connection_file=FILE, local_ns=globals()))
        serving.start()
        try:
            answer = sys.stdin.readline().strip()  # what the program does itself
        except KeyboardInterrupt:
            answer = "interrupted"
        print("the program's", answer, flush=True)
        serving.join()
    """)
    kernel = embedding.connect()

    request = kernel.send("execute_request", code=f"print('runs')\n{cell}", allow_stdin=True)
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)
    if cell == "input()":
        kernel.wait_for("stdin", "input_request")
    kernel.ask_to_interrupt()

    assert kernel.reply(request)["ename"] == "KeyboardInterrupt"
    assert kernel.execute("7 * 6")[1] == ["execute_result:42"]
    embedding.type("line")
    assert embedding.line() == "the program's line\n"
    kernel.execute("exit")
    assert embedding.end() == ("", "")


def test_the_program_keeps_its_own_prints_and_questions(program: Any) -> None:
    embedding = program("""
        serving = threading.Thread(target=ipymini.embed_kernel, kwargs=dict(connection_file=FILE, local_ns=globals()))
        serving.start()
        print("asked:", input(), flush=True)
        serving.join()  # from Python 3.12 on, a program that has come to its end starts no threads any more
    """)
    kernel = embedding.connect()

    assert kernel.execute("print('from a cell')")[1] == ["stdout:from a cell\n"]
    embedding.type("by the program")
    assert embedding.line() == "asked: by the program\n"
    threads = "import threading; t = threading.Thread(target=print, args=('its thread',)); t.start(); t.join()"
    assert kernel.execute(threads)[1] == ["stdout:its thread\n"]
    kernel.execute("exit")
    assert embedding.end() == ("", "")


def test_control_c_interrupts_what_runs_and_twice_ends_an_idle_kernel(program: Any) -> None:  # I24
    embedding = program("""
        import ipymini
        ipymini.embed.TWICE = 100  # seconds: machines may be slow
        ipymini.embed(connection_file=FILE)
        print('after')
    """)
    kernel = embedding.connect()

    request = kernel.send("execute_request", code="print('runs')\nwhile True: pass")
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)
    embedding.process.send_signal(signal.SIGINT)
    assert kernel.reply(request)["ename"] == "KeyboardInterrupt"
    kernel.reply(kernel.send("comm_info_request"))  # nothing of the cell's runs any more

    embedding.process.send_signal(signal.SIGINT)
    assert embedding.line("stderr") == "ipymini: nothing runs; Ctrl-C again ends the kernel\n"
    assert kernel.execute("1")[1] == ["execute_result:1"]
    kernel.reply(kernel.send("comm_info_request"))
    embedding.process.send_signal(signal.SIGINT)
    assert embedding.end() == ("after\n", "")


def test_stop_ends_a_running_cell_and_waits(program: Any) -> None:  # L2
    embedding = program("""
        import ipymini
        serving = threading.Thread(target=ipymini.embed, kwargs=dict(connection_file=FILE))
        serving.start()
        sys.stdin.readline()
        try:
            ipymini.embed_kernel()
        except ipymini.embed.KernelRunning as error:
            print(error)
        print(ipymini.embed.stop(), os.path.exists(FILE), ipymini.embed.stop())
        serving.join()
    """)
    kernel = embedding.connect()
    request = kernel.send("execute_request", code="print('runs')\nimport time; time.sleep(60)")
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)

    embedding.type("")

    assert kernel.reply(request)["status"] == "error"
    assert embedding.end() == (
        "expected no kernel in this process, there is one: end it first, or connect to it\nTrue False True\n", "",
    )  # fmt: skip


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize(
    "then",
    [
        "",
        "while True: pass",
        "time.sleep(60)",
        "await asyncio.sleep(60)",
        "input()",
        "1 / 0",
        "while True: print('x' * 9999)",
    ],
)
def test_a_crash_of_the_io_thread_ends_the_kernel_and_not_the_program(
    program: Any, where: str, then: str
) -> None:  # L8
    embedding = program(f"""
        def once():
            ipymini.embed(connection_file=FILE, local_ns={{}})
        if {where == "main"}:
            once()
        else:
            serving = threading.Thread(target=once)
            serving.start(); serving.join(); del serving
        import gc; gc.collect()
        kernels = [one for one in gc.get_objects() if type(one).__name__ == "Kernel"]
        threads = [one.name for one in threading.enumerate() if type(one).__module__ != "zmq.utils.garbage"]  # pyzmq's
        print("after", os.path.exists(FILE), threads, kernels, type(sys.stdout).__name__)
    """)
    kernel = embedding.connect()

    crash = "import asyncio, sys, time; get_ipython().kernel.channels.later(0.1, sys.exit)"
    kernel.send("execute_request", code=f"{crash}\n{then}", allow_stdin=True)

    out, err = embedding.end()
    assert out == "after False ['MainThread'] [] TextIOWrapper\n", err
    assert "the I/O thread crashed: the kernel cannot go on" in err


def test_it_serves_inside_of_a_running_loop_and_of_another_ipython(program: Any) -> None:
    embedding = program("""
        import asyncio, IPython
        from IPython.terminal.interactiveshell import TerminalInteractiveShell
        outer = TerminalInteractiveShell.instance(simple_prompt=True)
        async def main():
            ipymini.embed(connection_file=FILE)
            return asyncio.current_task().get_name(), asyncio.get_running_loop().is_running()
        print(*asyncio.run(main()), IPython.get_ipython() is outer, TerminalInteractiveShell.instance() is outer)
    """)
    kernel = embedding.connect()

    assert kernel.execute("import asyncio; await asyncio.sleep(0); asyncio.run(asyncio.sleep(0, 'nested'))")[1] == [
        "execute_result:'nested'"
    ]
    assert kernel.execute("type(get_ipython()).__name__")[1] == ["execute_result:'ZMQInteractiveShell'"]
    kernel.execute("exit")

    assert embedding.end() == ("Task-1 True True True\n", "")


def test_a_start_that_fails_raises_and_leaves_all_as_before(program: Any) -> None:  # L8
    embedding = program(f"""
        {textwrap.indent(SNAPSHOT, " " * 8).strip()}
        import socket
        from ipymini.protocol.messages import IpyminiError
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        def attempt():
            try:
                ipymini.embed(connection_file=FILE, shell_port=port)
            except IpyminiError as error:
                return str(error)
        said = attempt()
        before, opened = snapshot(), open_descriptors()
        attempt()
        same = not differences(before, snapshot()) and open_descriptors() == opened and not alive()
        print(said.replace(str(port), "PORT"), same, os.path.exists(FILE))
    """)

    out, err = embedding.end()
    assert out.endswith(" True False\n"), (out, err)
    assert "PORT" in out


def test_a_kernel_says_where_its_connection_file_is(kernel: KernelUnderTest) -> None:
    file = kernel.manager.connection_file

    code = """if True:
        import json, ipymini
        from pathlib import Path
        file = ipymini.get_connection_file()
        text, info = ipymini.get_connection_info(), ipymini.tools.connection_files.get_connection_info(file, unpack=True)
        print(file, json.loads(text)['shell_port'] == info['shell_port'], type(info['key']).__name__)"""
    assert kernel.execute(code)[1] == [f"stdout:{file} True bytes\n"]


def test_outside_of_a_kernel_there_is_no_connection_file() -> None:
    import ipymini
    from ipymini.cells import NoKernel

    with pytest.raises(NoKernel, match="there is none in this process"):
        ipymini.get_connection_file()
