"""`python -m ipymini` in a terminal: what it prints, what it leaves, and that a start that fails says why."""

import gc
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from harness import REPOSITORY, free_ports, start_kernel

from ipymini import __main__, __version__
from ipymini.ipython import application

DEADLINE = 30


@pytest.fixture
def run(tmp_path):
    """Return run(*argv, env=): the process of `python -m ipymini`, which is ended with the test."""
    started = []

    def run(*argv, env=()):
        process = subprocess.Popen(
            [sys.executable, "-m", "ipymini", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), **dict(env)},
        )  # fmt: skip
        alarm = threading.Timer(DEADLINE, process.kill)
        alarm.start()
        started.append((process, alarm))
        return process

    yield run
    for process, alarm in started:
        alarm.cancel()
        process.kill()
        process.communicate()


def test_the_version_and_the_usage(run):
    version, usage = run("--version"), run("--help")

    assert version.communicate() == (f"{__version__}\n", "")
    out, err = usage.communicate()
    assert out.startswith("usage: python -m ipymini [-f FILE]")
    assert (version.returncode, usage.returncode, err) == (0, 0, "")


def test_a_kernel_by_hand_makes_its_connection_file_and_removes_it(run, tmp_path):
    # given
    file = tmp_path / "kernel.json"
    kernel = run("-f", str(file))

    # when: it says that it is there
    said = kernel.stderr.readline()

    # then
    assert said == f"ipymini {__version__}: to connect a client: jupyter console --existing {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connection = json.loads(file.read_text())
    assert all(connection[f"{channel}_port"] > 0 for channel in ("shell", "iopub", "stdin", "control", "hb"))
    assert connection["kernel_name"] == "ipymini"

    # and: SIGTERM ends it in good order
    kernel.send_signal(signal.SIGTERM)
    assert kernel.communicate() == ("", "")
    assert kernel.returncode == 0
    assert not file.exists()


def test_a_connection_file_that_cannot_be_used_is_one_line_and_no_traceback(run, tmp_path):
    file = tmp_path / "kernel.json"
    file.write_text("{")

    kernel = run("-f", str(file))

    out, err = kernel.communicate()
    assert (out, kernel.returncode) == ("", 1)
    assert err.startswith("ipymini: ") and len(err.splitlines()) == 1 and str(file) in err


def test_a_start_that_fails_says_why_on_the_terminal(run, tmp_path):
    # given: an IPython that cannot be imported
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "IPython.py").write_text("raise ImportError('this IPython is broken')")

    kernel = run("-f", str(tmp_path / "kernel.json"), env={"PYTHONPATH": str(tmp_path / "broken")})

    out, err = kernel.communicate()
    assert (out, kernel.returncode) == ("", 1)
    assert "the kernel could not start" in err
    assert err.splitlines()[-1] == "ImportError: this IPython is broken"
    assert not (tmp_path / "kernel.json").exists()


def test_the_debug_log_names_each_message_once_and_never_what_it_says():
    with start_kernel(env={"IPYMINI_LOG_LEVEL": "DEBUG"}) as kernel:
        request = kernel.send("execute_request", code="'a ' + 'secret'")
        assert kernel.outputs(request)[2] == "execute_result:'a secret'"
        kernel.reply(request)
        log = kernel.log.read_text()

    short = request[-8:]
    lines = re.findall(rf"ipymini\.execution\.(?:channels|outbox) (.*{short})$", log, flags=re.MULTILINE)
    assert lines[0] == f"in channel=shell msg_type=execute_request msg_id={short}"
    assert sorted(lines[1:]) == [
        f"out channel=iopub msg_type=execute_input parent={short}",
        f"out channel=iopub msg_type=execute_result parent={short}",
        f"out channel=iopub msg_type=status parent={short}",
        f"out channel=iopub msg_type=status parent={short}",
        f"out channel=shell msg_type=execute_reply parent={short}",
    ]
    assert "secret" not in log


def test_ports_come_from_the_range_and_an_exhausted_one_is_one_line(run, tmp_path):
    # given: a kernel, which needs five
    low = free_ports(10)[0]
    file, ports = tmp_path / "first.json", f"{low}..{low + 9}"
    first = run("-f", str(file), "--ip=127.0.0.1", "--port-range", ports)
    assert "to connect a client" in first.stderr.readline()

    # when: another one takes the rest, and a third comes
    second = run("-f", str(tmp_path / "second.json"), "--port-range", f"{low}:{low + 9}")
    assert "to connect a client" in second.stderr.readline()
    third = run("-f", str(tmp_path / "third.json"), "--port-range", ports)
    out, err = third.communicate()

    # then
    taken = [
        said[f"{channel}_port"]
        for said in (json.loads(file.read_text()), json.loads((tmp_path / "second.json").read_text()))
        for channel in ("shell", "iopub", "stdin", "control", "hb")
    ]
    assert sorted(taken) == list(range(low, low + 10))
    assert (out, third.returncode, len(err.splitlines())) == ("", 1, 1)
    assert err.startswith(f"ipymini: no port is free for shell in {low}..{low + 9} on 127.0.0.1: all 10 are taken")


def test_a_kernel_that_others_can_reach_warns_that_nothing_is_encrypted(run, tmp_path):
    kernel = run("-f", str(tmp_path / "kernel.json"), "--ip=0.0.0.0")

    assert "whoever can reach these ports can read what cells print" in kernel.stderr.readline()


# ---- options, as people type them for ipykernel -------------------------------------------------

CONNECTION_OPTIONS = [  # what is typed, what it says of the connection
    ("--ip=0.0.0.0", {"ip": "0.0.0.0"}),
    ("--ip 0.0.0.0", {"ip": "0.0.0.0"}),
    ("--transport=ipc", {"transport": "ipc"}),
    ("--shell=1 --iopub 2 --stdin=3 --control=4 --hb=5",
     {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}),
    ("--IPKernelApp.shell_port=7 --IPKernelApp.ip=::1", {"shell_port": 7, "ip": "::1"}),
    ("--no-secure", {"key": ""}),
    ("--Session.key=b'secret'", {"key": "secret"}),
    ("--Session.key=secret", {"key": "secret"}),
]  # fmt: skip


@pytest.mark.parametrize("typed, given", CONNECTION_OPTIONS)
def test_an_option_says_how_to_be_reached(typed, given):
    assert __main__.split_options(typed.split()) == (None, given, [])


@pytest.mark.parametrize(
    "typed", ["-f k.json", "-f=k.json", "--f=k.json", "--f k.json", "--IPKernelApp.connection_file=k.json"]
)
def test_an_option_names_the_connection_file(typed):
    assert __main__.split_options([*typed.split(), "--debug"]) == (Path("k.json"), {}, ["--debug"])


@pytest.mark.parametrize(
    "typed, level",
    [("", "WARNING"), ("--debug", "DEBUG"), ("--quiet", "CRITICAL"), ("--log-level=10", "10"), ("--log-level ERROR", "ERROR"),
     ("--Application.log_level=DEBUG", "DEBUG"), ("--IPKernelApp.log_level=INFO", "INFO"), ("--debug --log-level=30", "30")],
)  # fmt: skip
def test_an_option_says_how_much_is_logged(typed, level, monkeypatch):
    monkeypatch.delenv("IPYMINI_LOG_LEVEL", raising=False)

    assert __main__.log_level(typed.split()) == level


@pytest.mark.parametrize("gil, said", [(True, 0), (False, 1)])
def test_a_python_without_the_gil_is_named_once(gil, said, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys._is_gil_enabled = lambda: {gil}")

    with start_kernel(env={"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}) as kernel:
        assert kernel.execute("40 + 2")[1] == ["execute_result:42"]
        assert kernel.log.read_text().count("without the GIL") == said


OPTIONS = [  # what is typed, which setting it makes, what that is
    (["--profile=work"], "profile", "work"),
    (["--profile", "work"], "profile", "work"),
    (["--matplotlib"], "matplotlib", "auto"),
    (["--matplotlib=inline"], "matplotlib", "inline"),
    (["--matplotlib", "inline"], "matplotlib", "inline"),
    (["--IPKernelApp.matplotlib=inline"], "matplotlib", "inline"),
    (["--pylab"], "pylab", "auto"),
    (["--pylab=inline"], "pylab", "inline"),
    (["--gui=asyncio"], "gui", "asyncio"),
    (["--ext", "autoreload"], "extra_extensions", ["autoreload"]),
    (["--ext=a", "--ext=b"], "extra_extensions", ["a", "b"]),
    (["--IPKernelApp.exec_lines=x = 1"], "exec_lines", ["x = 1"]),
    (["--IPKernelApp.exec_lines=['x = 1', 'y = 2']"], "exec_lines", ["x = 1", "y = 2"]),
    (["--InteractiveShellApp.exec_files=a.py"], "exec_files", ["a.py"]),
    (["-c", "print(1)"], "code_to_run", "print(1)"),
    (["-c=x = 5"], "code_to_run", "x = 5"),
    (["-m", "this"], "module_to_run", "this"),
    (["--ignore-cwd"], "ignore_cwd", True),
    (["--no-ignore-cwd"], "ignore_cwd", False),
    (["--ipython-dir=/tmp/there"], "ipython_dir", "/tmp/there"),
    (["--config=extra.py"], "extra_config_file", os.path.abspath("extra.py")),
    (["--HistoryManager.hist_file=:memory:"], "HistoryManager.hist_file", ":memory:"),
    (["--InteractiveShell.ast_node_interactivity=all"], "InteractiveShell.ast_node_interactivity", "all"),
    (["--colors=NoColor"], "InteractiveShell.colors", "NoColor"),
    (["--theme=linux"], "InteractiveShell.colors", "linux"),
    (["--cache-size=0"], "InteractiveShell.cache_size", "0"),
    (["--autocall=1"], "InteractiveShell.autocall", "1"),
    (["--no-pdb"], "InteractiveShell.pdb", False),
    (["--no-automagic"], "InteractiveShell.automagic", False),
    (["--no-pprint"], "PlainTextFormatter.pprint", False),
    (["--ident=abc"], "Session.session", "abc"),
    (["--user", "me"], "Session.username", "me"),
    (["--IPKernelApp.parent_handle=1"], "parent_handle", "1"),
    (["--IPKernelApp.capture_fd_output=False"], "capture_fd_output", "False"),
    (["--IPKernelApp.quiet=True"], "quiet", "True"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*for containers is deprecated:DeprecationWarning")  # two values in one option
@pytest.mark.parametrize(
    "typed, setting, value", OPTIONS, ids=lambda one: " ".join(one) if isinstance(one, list) else ""
)
def test_an_option_makes_a_setting(typed, setting, value, caplog):
    app = application.IPKernelApp()

    app.parse_command_line(typed)

    section, _, trait = setting.rpartition(".")
    found = app.config[section][trait] if section else getattr(app, trait)
    assert (found, caplog.records) == (value, [])


@pytest.mark.parametrize(
    "typed",
    ["--debug", "--quiet", "--log-level=nonsense", "--no-stdout", "--init", "--trio-loop", "--nosep", "--show-config"],
)
def test_an_option_without_a_meaning_here_is_accepted(typed, caplog):
    application.IPKernelApp().parse_command_line([typed])

    assert caplog.records == []


def test_strange_options_are_warned_of_and_the_kernel_starts(run, tmp_path):
    strange = ["--Nonsense.trait=3", "--nonsense", "--a.B=1", "stray", "--existing", "--InteractiveShell.cache_siz=1"]

    kernel = run("-f", str(tmp_path / "kernel.json"), *strange, "-c", "exit()")

    out, err = kernel.communicate()
    warned = [line.partition(" WARNING ")[2] for line in err.splitlines() if " WARNING " in line]
    assert (out, kernel.returncode) == ("", 0)
    assert warned == [
        "ipymini.ipython.startup ignored option: --nonsense",
        "ipymini.ipython.startup ignored option: --a.B=1",
        "ipymini.ipython.startup ignored argument: stray",
        "ipymini.ipython.startup ignored option: --existing",
        "ipymini.ipython.startup no class of this name is there at the start: Nonsense",
        "ipymini.kernel Config option `cache_siz` not recognized by `ZMQInteractiveShell`.  Did you mean `cache_size`?",
    ]


def test_code_files_extensions_and_configuration_run_before_the_first_cell(tmp_path):
    (tmp_path / "first.py").write_text("from_file = 'file'\n")
    (tmp_path / "extra.py").write_text("c.InteractiveShellApp.exec_lines = ['from_config = 1']\n")
    options = [
        "--config",
        str(tmp_path / "extra.py"),
        "--ext=autoreload",
        "-c",
        "from_code = 2",
        str(tmp_path / "first.py"),
    ]

    with start_kernel(*options, cwd=str(tmp_path)) as kernel:
        assert kernel.execute("from_file, from_config, from_code")[1] == ["execute_result:('file', 1, 2)"]
        assert kernel.execute("'autoreload' in get_ipython().magics_manager.magics['line']")[1] == [
            "execute_result:True"
        ]


FAILURES = [  # what is typed, how the one line begins
    (["--shell=abc"], "expected a number up to 65535 as shell_port, 'abc' came"),
    (["--hb=99999"], "expected a number up to 65535 as hb_port, 99999 came"),
    (["--transport=udp"], "expected transport tcp or ipc, 'udp' came"),
    (["--ip=256.1.1.1"], "cannot bind shell to tcp://256.1.1.1:*"),
    (["--port-range=5..x"], "expected a port range like 40000..41000, '5..x' came"),
]


@pytest.mark.parametrize("typed, said", FAILURES)
def test_a_start_that_fails_is_one_line(typed, said, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(__main__, "start_logging", lambda level: None)
    switch_interval = sys.getswitchinterval()

    code = __main__.run_kernel(["-f", str(tmp_path / "kernel.json"), *typed])

    gc.enable()
    sys.setswitchinterval(switch_interval)
    out, err = capfd.readouterr()
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"ipymini: {said}")


def test_a_value_that_does_not_fit_is_one_line(run, tmp_path):
    kernel = run("-f", str(tmp_path / "kernel.json"), "--InteractiveShell.cache_size=abc")

    out, err = kernel.communicate()
    assert (out, kernel.returncode, len(err.splitlines())) == ("", 1, 1)
    assert "could not start: an option or a configuration file is wrong: The 'cache_size' trait" in err


def test_a_port_that_is_taken_is_one_line(run, tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        kernel = run("-f", str(tmp_path / "kernel.json"), f"--shell={port}")
        out, err = kernel.communicate()

    assert (out, kernel.returncode, len(err.splitlines())) == ("", 1, 1)
    assert err.startswith(f"ipymini: cannot bind shell to tcp://127.0.0.1:{port}: ")


@pytest.mark.parametrize("module", ["zmq", "IPython"])
def test_a_missing_package_is_one_line(module, run, tmp_path):
    (tmp_path / "gone").mkdir()
    text = f"No module named {module!r}"
    (tmp_path / "gone" / f"{module}.py").write_text(f"raise ModuleNotFoundError({text!r}, name={module!r})")

    kernel = run("-f", str(tmp_path / "kernel.json"), env={"PYTHONPATH": str(tmp_path / "gone")})

    out, err = kernel.communicate()
    assert (out, kernel.returncode, len(err.splitlines())) == ("", 1, 1)
    assert err.endswith(f"{text}: install it for {sys.executable}, or see `python -m ipymini doctor`\n")


def test_without_a_key_nothing_is_signed(run, tmp_path):
    file = tmp_path / "kernel.json"
    kernel = run("-f", str(file), "--no-secure")

    assert "to connect a client" in kernel.stderr.readline()
    assert json.loads(file.read_text())["key"] == ""
