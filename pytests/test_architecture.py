"""docs/architecture.md says what is true: its picture of the imports, its walks and its answers name what is there."""

import ast
import os
import re
import runpy
from contextlib import contextmanager
from itertools import pairwise

import pytest
from harness import REPOSITORY, start_kernel

PACKAGE = REPOSITORY / "ipymini"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")

DEFINITION = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
WALKS = ("execute", "print", "interrupt", "input", "debug", "subshell", "shutdown")
HOP = re.compile(r"(?P<number>\d+)\. `(?P<name>[\w.]+)` \((?P<thread>[^)]+)\) (?P<text>[^`].*\.)")
SUM = re.compile(r"\*\*(\d+) calls, (\d+) files, (\d+) thread changes?\.\*\*")


def section(heading):
    """Return the text under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    rest = PAGE.split(f"\n{heading}\n")[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", rest)[0]


def rows(heading):
    """Return the first table under a heading as lists of cells, without its head."""
    table = re.search(r"(?:^\|.*\n)+", section(heading), flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def module_of(name):
    """Return the module of `folder.module.Class.method`, and the names that are left; None: there is no such module."""
    parts = name.split(".")
    for length in (2, 1):
        if PACKAGE.joinpath(*parts[:length]).with_suffix(".py").is_file():
            return ".".join(parts[:length]), parts[length:]
    return None, parts


def is_defined(name):
    """Whether a class, method or function of this name is in the code, and is no module only."""
    module, left = module_of(name)
    if module is None or not left:
        return False
    node = ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    for part in left:
        inside = (one for one in ast.walk(node) if one is not node and isinstance(one, DEFINITION))
        node = next((one for one in inside if one.name == part), None)
        if node is None:
            return False
    return True


def hops(walk):
    """Return the hops of a walk, one for each numbered line."""
    lines = re.findall(r"^\d+\..*(?:\n   .*)*", section(f"### {walk}"), flags=re.MULTILINE)
    found = [(line, HOP.fullmatch(re.sub(r"\n +", " ", line))) for line in lines]
    assert [line for line, match in found if match is None] == [], "1. `folder.module.Class.method` (thread) does this."
    return [match for _, match in found]


def test_the_picture_is_what_the_script_prints():
    script = runpy.run_path(str(REPOSITORY / "tools" / "picture.py"))

    assert script["embedded"]() == script["picture"](), "out of date: run `python tools/picture.py --write`"


def test_every_name_of_a_module_or_a_function_of_ours_is_in_the_code():
    ours = {path.stem for path in PACKAGE.iterdir()}
    named = {name for name in re.findall(r"`(\w+(?:\.\w+)+)`", PAGE) if name.partition(".")[0] in ours}
    named -= {path.name for path in PACKAGE.iterdir()}  # `handlers.py`

    assert {name for name in named if not (is_defined(name) or module_of(name)[1] == [])} == set()


def test_there_is_a_walk_for_each_of_these():
    assert tuple(re.findall(r"^### (\w+)$", section("## The walks"), flags=re.MULTILINE)) == WALKS


@pytest.mark.parametrize("walk", WALKS)
def test_every_hop_of_a_walk_is_in_the_code(walk):
    assert [hop["name"] for hop in hops(walk) if not is_defined(hop["name"])] == []


@pytest.mark.parametrize("walk", WALKS)
def test_the_hops_of_a_walk_are_numbered_and_run_on_threads_of_the_table(walk):
    threads = {row[0] for row in rows("## Threads")}

    assert [int(hop["number"]) for hop in hops(walk)] == list(range(1, len(hops(walk)) + 1))
    assert {hop["thread"] for hop in hops(walk)} - threads == set()


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_says_how_many_calls_files_and_thread_changes_it_has(walk):
    threads = [hop["thread"] for hop in hops(walk)]
    files = {module_of(hop["name"])[0] for hop in hops(walk)}
    changes = sum(before != after for before, after in pairwise(threads))

    told = SUM.search(section(f"### {walk}"))

    assert tuple(map(int, told.groups())) == (len(threads), len(files), changes)


def test_each_answer_names_functions_that_are_in_the_code():
    answers = [re.findall(r"`([\w.]+)`", row[2]) for row in rows("## Six questions")]

    assert [len(names) > 0 for names in answers] == [True] * 6
    assert [name for names in answers for name in names if not is_defined(name)] == []


def test_readme_and_this_page_and_one_more_file_answer_each_question():
    answers = [re.findall(r"`([\w.]+)`", row[2]) for row in rows("## Six questions")]

    assert "(docs/architecture.md#six-questions)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [len({module_of(name)[0] for name in names}) for names in answers] == [1] * 6


# ---- what a kernel does when it serves the requests of the walks --------------------------------


@contextmanager
def start_recorded(folder):
    """Start a kernel; yield it and a function: what has happened since its last call, as (event, function, thread)."""
    recording = os.pathsep.join([str(REPOSITORY / "pytests" / "recording"), str(REPOSITORY)])
    threads = {name_of_thread(row[1]): row[0] for row in rows("## Threads")}
    calls = folder / "calls"
    with start_kernel(env={"PYTHONPATH": recording, "CALLS": str(calls)}) as kernel, calls.open() as file:
        begun = ""  # a line that is being written

        def since():
            nonlocal begun
            if kernel.manager.is_alive():  # when it has answered this, all that came before has returned
                kernel.reply(kernel.send("kernel_info_request", channel="control"))
            *whole, begun = (begun + file.read()).split("\n")
            lines = [line.split(" ", 2) for line in whole]
            return [(event, function, threads.get(name_of_thread(thread))) for event, function, thread in lines]

        yield kernel, since


@pytest.fixture(scope="module")
def shared_recorded(tmp_path_factory):
    with start_recorded(tmp_path_factory.mktemp("recorded")) as recorded:
        yield recorded


@pytest.fixture
def recorded(shared_recorded):
    """The module's kernel, all of whose calls so far have been read."""
    kernel, since = shared_recorded
    kernel.execute("1 + 1")
    since()
    return kernel, since


def name_of_thread(text):
    """Return a thread's name without backticks, and without the id of a subshell."""
    name = re.sub(r"-[0-9a-f]{4}$", "", text.strip("`"))
    return "MainThread" if name == "the process's main thread" else name


def missing(walk, events):
    """Return the first hop of a walk that is not running at any time after the one before it began; None: none is."""
    began = 0
    for hop in hops(walk):
        for place in range(began, len(events)):
            if events[place][1:] == (hop["name"], hop["thread"]):
                break
        else:
            return hop["name"]
        if events[place][0] == "call":
            began = place + 1
    return None


def computing(kernel, code="while True: pass"):
    """Send a cell that runs until it is interrupted; return its id, when it runs."""
    msg_id = kernel.send("execute_request", code=f"print('runs')\n{code}")
    kernel.wait_for("iopub", "stream", msg_id=msg_id)
    return msg_id


def test_a_kernel_goes_the_walk_of_execute(recorded):
    kernel, since = recorded

    kernel.execute("1 + 1")

    assert missing("execute", since()) is None


def test_a_kernel_goes_the_walk_of_print(recorded):
    kernel, since = recorded

    assert kernel.execute("print('hi')")[1] == ["stdout:hi\n"]

    assert missing("print", since()) is None


def test_a_kernel_goes_the_walk_of_interrupt(recorded):
    kernel, since = recorded
    cell = computing(kernel)
    since()

    kernel.ask_to_interrupt()

    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert missing("interrupt", since()) is None


def test_a_kernel_goes_the_walk_of_input(recorded):
    kernel, since = recorded
    cell = kernel.send("execute_request", code="input('name? ')", allow_stdin=True)

    kernel.answer_input("Ann")

    assert kernel.outputs(cell)[2:] == ["execute_result:'Ann'", "status:idle"]
    assert missing("input", since()) is None


def test_a_kernel_goes_the_walk_of_debug(recorded):
    kernel, since = recorded

    def ask(command, **arguments):
        content = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
        asked = kernel.send("debug_request", channel="control", **content)
        kernel.outputs(asked)
        return kernel.reply(asked)["success"]

    assert (ask("initialize"), ask("attach")) == (True, True)
    since()

    assert ask("setDebuggerProperty") is True

    assert missing("debug", since()) is None


def test_a_kernel_goes_the_walk_of_subshell(recorded):
    kernel, since = recorded
    subshell_id = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]

    cell = kernel.send("execute_request", code="1 + 1", header={"subshell_id": subshell_id})

    assert kernel.outputs(cell)[2:] == ["execute_result:2", "status:idle"]
    assert missing("subshell", since()) is None


def test_a_kernel_goes_the_walk_of_shutdown(tmp_path):
    with start_recorded(tmp_path) as (kernel, since):
        # The end that user code does not hold up: timers that would cut it short are put off, for slow machines.
        kernel.execute("import ipymini.shutdown as its; its.END_BY = its.EXIT_BY = 60")
        computing(kernel)
        since()

        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))
        kernel.manager.provisioner.process.wait(20)

        assert missing("shutdown", since()) is None
