"""What the ecosystem looks for on the shell, the kernel and the streams: one line of code for each claim."""

from collections.abc import Iterator

import pytest
from harness import KernelUnderTest, start_kernel

PREPARE = """
import comm, io, json, os, re, subprocess, sys, threading
ip = get_ipython()
kernel = ip.kernel
"""

ATTRIBUTES = (
    "banner comm_manager config control_handlers control_stream control_thread do_clear do_complete do_execute "
    "do_history do_inspect do_is_complete do_one_iteration do_shutdown eventloop execution_count get_parent getpass "
    "help_links ident implementation implementation_version int_id iopub_socket iopub_thread kernel_info language_info "
    "log msg_types parent post_handler_hook pre_handler_hook profile_dir raw_input send_response session set_parent "
    "shell shell_handlers shell_stream stdin_socket user_module user_ns _aborting _allow_stdin _input_request "
    "_parent_header _parent_ident _topic"
).split()

STREAM = (
    "buffer close closed echo encoding errors fileno flush flush_interval isatty line_buffering name newlines "
    "parent_header pub_thread readable reconfigure register_hook session set_parent topic unregister_hook writable "
    "write writelines _flush _is_master_process"
).split()

# claim (and who relies on it), code, what its last expression gives
CLAIMS = [
    ("the shell's class has the name that rich, ray, halo, solara and plotly test", "type(ip).__name__", "ZMQInteractiveShell"),
    ("kernel is a trait of the shell (snippets)", "ip.has_trait('kernel')", True),
    ("its configuration tells it from a terminal (polars, old tqdm)", "'IPKernelApp' in ip.config", True),
    ("the configuration holds the connection file (wandb)", "json.load(open(ip.config['IPKernelApp']['connection_file']))['key'] == kernel.connection.key", True),
    ("the kernel's configuration is the shell's (solara)", "kernel.config is ip.config", True),
    ("the connection file's path does not depend on the working directory", "os.path.isabs(ip.config.IPKernelApp.connection_file)", True),
    ("widgets and pyviz share one comm manager", "kernel.comm_manager is comm.get_comm_manager()", True),
    ("a comm knows its kernel (ipywidgets, anywidget)", "one = comm.create_comm(target_name='t', primary=False)\none.kernel is kernel", True),
    ("the parent is the execute_request (ipywidgets' Output)", "ip.get_parent()['header']['msg_type']", "execute_request"),
    ("the kernel gives the same parent (ipyparallel)", "kernel.get_parent('shell') == kernel.get_parent() == kernel._parent_header == ip.parent_header", True),
    ("a parent can be set again (ipyvuetify, threads of users)", "ip.set_parent(ip.get_parent()) and kernel.set_parent(kernel._parent_ident, kernel.get_parent())", None),
    ("the publisher has a session (jupyter_client in a cell)", "[ip.display_pub.session is kernel.session, ip.display_pub.pub_socket is kernel.iopub_socket, ip.display_pub.parent_header == ip.get_parent()]", [True] * 3),
    ("display hooks come and go (solara)", "hook = lambda message: message\nip.display_pub.register_hook(hook), ip.display_pub.unregister_hook(hook), ip.display_pub.unregister_hook(hook)", (None, True, False)),
    ("a display hook may keep a message back", "seen = []\nip.display_pub.register_hook(seen.append); display(1)\nip.display_pub.unregister_hook(seen.append), len(seen)", (True, 1)),
    ("the kernel's shell is the shell (wandb, VS Code)", "kernel.shell is ip", True),
    ("the kernel tells its language (%notebook, wandb)", "kernel.language_info['name'], kernel.implementation", ("python", "ipython")),
    ("the kernel has what others look for", f"[name for name in {ATTRIBUTES} if not hasattr(kernel, name)]", []),
    ("streams have what print redirectors look for", f"[name for stream in (sys.stdout, sys.stderr) for name in {STREAM} if not hasattr(stream, name)]", []),
    ("streams say what they are", "sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.closed, sys.stdout.writable(), sys.stdout.echo, sys.stdout._is_master_process()", ("UTF-8", False, False, True, None, True)),
    ("a stream knows who asked", "sys.stdout.parent_header == ip.get_parent()['header']", True),
    ("a stream leads to the session and its thread", "sys.stdout.session is kernel.session, sys.stderr.pub_thread is kernel.iopub_thread", (True, True)),
    ("io_loop is tornado's view of the running loop", "import asyncio\nkernel.io_loop.asyncio_loop is asyncio.get_running_loop()", True),
    ("io_loop is the same from a thread", "loops = []\nthread = threading.Thread(target=lambda: loops.append(kernel.io_loop)); thread.start(); thread.join()\nloops[0] is kernel.io_loop", True),
    ("handlers can be looked up by type (jupyter_ui_poll)", "'execute_request' in kernel.shell_handlers, 'debug_request' in kernel.control_handlers", (True, True)),
    ("do_complete answers as complete_request", "'print' in kernel.do_complete('prin', 4)['matches']", True),
    ("do_is_complete answers as is_complete_request", "kernel.do_is_complete('if 1:')['status']", "incomplete"),
    ("do_inspect answers as inspect_request", "kernel.do_inspect('print', 3)['found']", True),
    ("do_history answers as history_request", "kernel.do_history('tail', False, True, n=1)['status']", "ok"),
    ("do_execute runs code within the cell", "reply = await kernel.do_execute('inner = 6 * 7', False, store_history=False, user_expressions={'x': 'inner + 1'})\nreply['status'], reply['user_expressions']['x']['data']['text/plain'], inner", ("ok", "43", 42)),
    ("cells seem to lie where numba, joblib and executing look for them", "def f(): pass\nbool(re.fullmatch(r'.*/ipykernel_%d/\\d+\\.py' % os.getpid(), f.__code__.co_filename))", True),
    ("cells are the main module (pickle, spawn)", "sys.modules['__main__'].__dict__ is ip.user_ns, __name__, hasattr(sys.modules['__main__'], '__file__')", (True, "__main__", False)),
    ("children print in colour and page nothing", "[os.environ.get(name) for name in 'TERM CLICOLOR FORCE_COLOR CLICOLOR_FORCE PAGER GIT_PAGER'.split()]", ["xterm-color", "1", "1", "1", "cat", "cat"]),
    ("plots are drawn in the notebook", "os.environ['MPLBACKEND']", "module://matplotlib_inline.backend_inline"),
    ("the server's name of the session is in the namespace", "__session__", "work/a notebook.ipynb"),
    ("the publisher can be replaced (capture_output)", "from IPython.utils.capture import capture_output\nwith capture_output() as captured: print('x'); display(1)\ncaptured.stdout, len(captured.outputs)", ("x\n", 1)),
    ("run_cell runs in a cell (ipytest)", "ip.run_cell('inner = 1').success, inner", (True, 1)),
    ("the magics of a kernel are there", "[name for name in 'connect_info qtconsole clear less more man subshell'.split() if name not in ip.magics_manager.magics['line']]", []),
    ("the source of a cell's function can be read", "def g(): return 1\nimport inspect\ninspect.getsource(g)", "def g(): return 1\n"),
]  # fmt: skip


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelUnderTest]:
    with start_kernel(env={"JPY_SESSION_NAME": "work/a notebook.ipynb"}) as kernel:
        assert kernel.execute(PREPARE)[1] == []
        yield kernel


@pytest.mark.parametrize("code, expected", [row[1:] for row in CLAIMS], ids=[row[0] for row in CLAIMS])
def test_others_find_what_they_look_for(kernel: KernelUnderTest, code: str, expected: object) -> None:
    *lines, last = code.split("\n")
    said = kernel.execute("\n".join([*lines, f"print(ascii(({last})))"]))[1]
    assert said == [f"stdout:{expected!a}\n"]


def test_do_execute_says_what_went_wrong(kernel: KernelUnderTest) -> None:
    said = kernel.execute("print((await kernel.do_execute('1 / 0', False))['ename'])")[1]
    assert said == ["error:ZeroDivisionError:division by zero", "stdout:ZeroDivisionError\n"]


def test_a_response_belongs_to_the_cell_that_sends_it(kernel: KernelUnderTest) -> None:
    cell = kernel.send(
        "execute_request",
        code="_ = kernel.send_response(kernel.iopub_socket, 'stream', {'name': 'stdout', 'text': 'hi'})",
    )
    assert kernel.outputs(cell)[2:-1] == ["stdout:hi"]


def test_hooks_of_a_stream_change_its_text(kernel: KernelUnderTest) -> None:
    hooks = "no_x = lambda text: text.replace('x', ''); upper = str.upper"
    code = f"{hooks}\nfor hook in (no_x, upper): sys.stdout.register_hook(hook)\nprint('axb')"
    assert kernel.execute(code)[1] == ["stdout:AB\n"]
    code = "print([sys.stdout.unregister_hook(hook) for hook in (no_x, upper, upper)])"
    assert kernel.execute(code)[1] == ["stdout:[True, True, False]\n"]


def test_a_parent_without_our_memory_is_enough(kernel: KernelUnderTest) -> None:
    cell = kernel.send("execute_request", code="kept = json.loads(json.dumps(ip.get_parent(), default=str))")
    kernel.reply(cell)
    code = "def work(): sys.stdout.set_parent(kept); print('late')\nthread = threading.Thread(target=work); thread.start(); thread.join()"
    assert kernel.execute(code)[1] == []
    kernel.wait_for("iopub", "stream", msg_id=cell, text="late")


def test_do_shutdown_ends_the_kernel_after_the_cell(own_kernel: KernelUnderTest) -> None:
    reply, said = own_kernel.execute("print(get_ipython().kernel.do_shutdown(True))")
    assert (reply["status"], said) == ("ok", ["stdout:{'status': 'ok', 'restart': True}\n"])
    assert own_kernel.manager.provisioner.process.wait(20) == 0  # type: ignore[union-attr]
