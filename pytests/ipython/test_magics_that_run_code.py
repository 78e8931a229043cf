"""Magics that run code: what awaits in them, the names that they leave, and the lines of what they have run."""

import re
from typing import Any

import pytest
from harness import KernelUnderTest

SETUP = """
import asyncio, inspect, time
async def nap(seconds=.2):
    await asyncio.sleep(seconds)
    return 'rested'
"""


@pytest.fixture
def awake(kernel: KernelUnderTest) -> KernelUnderTest:
    assert kernel.execute(SETUP)[0]["status"] == "ok"
    return kernel


def run(kernel: KernelUnderTest, code: str, **options: Any) -> list[str]:
    """Run a cell that does well; return what it shows, without its states."""
    reply, shown = kernel.execute(code, **options)
    assert reply["status"] == "ok", (reply, shown)
    return [line for line in shown if not line.startswith(("status:", "execute_input:"))]


def wall(shown: list[str]) -> float:
    """Return the seconds of a `Wall time`."""
    found = re.search(r"Wall time: ([\d.]+) (\S+)", "".join(shown))
    assert found, shown
    return float(found[1]) * {"s": 1, "ms": 1e-3, "μs": 1e-6, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}[found[2]]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("%time await nap()", "'rested'"),
        ("%time await nap();", None),
        ("slept = %time await nap()\nslept", "'rested'"),
        ("for _ in range(1):\n    %time await nap()", None),
        ("%%time\nawait nap()", "'rested'"),
        ("%%time\nslept = await nap()\nslept * 2", "'restedrested'"),
        ("%%time\nasync with asyncio.timeout(9):\n    slept = await nap()", None),
        ("%%time\nresults = [await nap(.1) for _ in range(2)]\nlen(results)", "2"),
        ("%%time\n%time await nap()", "'rested'"),
        ("async def timed(seconds):\n    %time await nap(seconds)\n    return 5\nawait timed(.2)", "5"),
        ("get_ipython().run_cell('%time await nap()').result", "'rested'"),
    ],
)
def test_time_awaits(awake: KernelUnderTest, code: str, value: str | None) -> None:
    shown = run(awake, code)
    assert 0.2 <= wall(shown) < 5
    assert "CPU times: user" in "".join(shown)
    assert [line for line in shown if line.startswith("execute_result")][-1:] == (
        [f"execute_result:{value}"] if value else []
    )


def test_names_of_timed_cells_stay(awake: KernelUnderTest) -> None:
    run(awake, "%%time\nkept = await nap(0)\ndef made(): return kept")
    run(awake, "%%time\nplain = 1")
    run(awake, "%time both = await nap(0)")
    assert run(awake, "kept, made(), plain, both") == ["execute_result:('rested', 'rested', 1, 'rested')"]


def test_what_a_timed_cell_awaits_is_of_the_cells_own_loop(awake: KernelUnderTest) -> None:
    run(awake, "task = asyncio.create_task(nap(.01))")
    assert run(awake, "%time await task")[-1] == "execute_result:'rested'"
    assert run(awake, "%%time\nasyncio.get_running_loop() is task.get_loop()")[-1] == "execute_result:True"


def test_a_subshell_times_what_it_awaits(awake: KernelUnderTest) -> None:
    subshell = awake.reply(awake.send("create_subshell_request", channel="control"))["subshell_id"]
    msg_id = awake.send("execute_request", code="%time await nap()", header={"subshell_id": subshell})
    assert awake.reply(msg_id)["status"] == "ok"
    assert wall(awake.outputs(msg_id)) >= 0.2
    awake.reply(awake.send("delete_subshell_request", channel="control", subshell_id=subshell))


@pytest.mark.parametrize("strike", ["sigint", "message"])
def test_an_interrupt_ends_what_is_timed(awake: KernelUnderTest, strike: str) -> None:
    cell = awake.send("execute_request", code="%%time\nprint('on')\nawait nap(60)\nprint('must not run')")
    behind = awake.send("execute_request", code="'must not run'")
    awake.wait_for("iopub", "stream", msg_id=cell)
    awake.interrupt() if strike == "sigint" else awake.ask_to_interrupt()
    assert awake.reply(cell)["ename"] == "KeyboardInterrupt"
    assert wall(awake.outputs(cell)) < 30
    assert not [line for line in awake.outputs(cell) if "must not" in line and line.startswith("stdout:")]
    assert awake.reply(behind)["status"] == "aborted"


def test_errors_of_what_is_timed_show_its_lines_alone(awake: KernelUnderTest) -> None:
    reply, shown = awake.execute("%%time\nnumber = await nap(0)\nnumber / 0  # here")
    text = "\n".join(reply["traceback"])
    assert reply["ename"] == "TypeError" and "# here" in text and "await_time" not in text
    assert wall(shown) < 5


def test_an_error_that_is_not_to_be_raised_is_not(awake: KernelUnderTest) -> None:
    assert wall(run(awake, "%time --no-raise-error (await nap(0)) / 0")) < 5


@pytest.mark.parametrize(
    ("code", "loops"),
    [
        ("result = %timeit -o -q -n 2 -r 3 await nap(.01)", (2, 3)),
        ("result = %timeit -o -q -r 1 await nap(.3)", (1, 1)),
        ("%%timeit -q -n 2 -r 3 -v result seconds = .01\nawait nap(seconds)\nawait nap(seconds)", (2, 3)),
        ("%%timeit -q -n 2 -r 3 -v result seconds = await nap(.01)\nlen(seconds)", (2, 3)),
    ],
)
def test_timeit_awaits(awake: KernelUnderTest, code: str, loops: tuple[int, int]) -> None:
    run(awake, code)
    assert run(awake, "result.loops, result.repeat, result.best < 5") == [f"execute_result:{(*loops, True)}"]


def test_timeit_prints_how_long_what_it_awaits_takes(awake: KernelUnderTest) -> None:
    assert "ms" in "".join(run(awake, "%timeit -n 1 -r 2 await nap(.01)"))


def test_a_magic_of_the_users_gets_what_is_written(awake: KernelUnderTest) -> None:
    run(awake, "magics = get_ipython().magics_manager.magics['line']; before = magics['time']")
    run(awake, "get_ipython().register_magic_function(lambda line: line.upper(), 'line', 'time')")
    assert run(awake, "%time await nap()") == ["execute_result:'AWAIT NAP()'"]
    run(awake, "magics['time'] = before")


def test_where_nothing_can_await_it_is_python_that_says_so(awake: KernelUnderTest) -> None:
    run(awake, "def plain():\n    %time await nap()")
    assert awake.execute("plain()")[0]["ename"] == "SyntaxError"


BY = {
    "a cell": "{}",
    "%%time": "%%time\n{}",
    "%%time with await": "%%time\nimport asyncio; await asyncio.sleep(0)\n{}",
    "%%capture": "%%capture\n{}",
    "%%prun": "%%prun -q\n{}",
    "run_cell": "get_ipython().run_cell({!r})",
    "%%timeit": "%%timeit -n1 -r1\nglobal Made, make, Bare\n{}",
}
DEFINED = """# a comment
def make(number):
    return 1 / number  # fails here
class Made:
    '''Some text.'''
    def method(self): return make(0)
class Bare(Exception):
    field: int = 3  # no code in it"""


@pytest.mark.parametrize("by", BY)
def test_source_of_what_a_cell_defines(kernel: KernelUnderTest, by: str) -> None:
    run(kernel, BY[by].format(DEFINED))
    run(kernel, "import inspect")
    for name in ("make", "Made", "Made.method", "Bare"):
        source = run(kernel, f"print(inspect.getsource({name}))")
        last = {"make": "# fails here", "Bare": "# no code in it"}.get(name, "make(0)")
        assert len(source) == 1 and source[0].rstrip().endswith(last), source
    reply, _ = kernel.execute("Made().method()")
    trace = "\n".join(reply["traceback"])
    assert reply["ename"] == "ZeroDivisionError" and "# fails here" in trace, trace


def test_source_of_a_class_that_is_defined_twice(kernel: KernelUnderTest) -> None:
    run(kernel, "import inspect\nclass Twice:\n    first = 1")
    run(kernel, "class Twice:\n    second = 2\n    class Inner:\n        third = 3")
    assert "second" in run(kernel, "print(inspect.getsource(Twice))")[0]
    assert run(kernel, "print(inspect.getsource(Twice.Inner))") == ["stdout:    class Inner:\n        third = 3\n\n"]


def test_a_class_without_a_source_has_none(kernel: KernelUnderTest) -> None:
    run(kernel, "import inspect\nMade_up = type('Made_up', (), {})")
    assert kernel.execute("inspect.getsource(Made_up)")[0]["ename"] == "OSError"
    assert kernel.execute("inspect.getsource(int)")[0]["ename"] == "TypeError"
    assert run(kernel, "inspect.getsource(inspect.Signature)[:15]") == ["execute_result:'class Signature'"]


def test_the_source_of_a_cell_does_not_mislead_multiprocessing(kernel: KernelUnderTest) -> None:
    assert run(kernel, "import __main__; hasattr(__main__, '__file__')") == ["execute_result:False"]
    code = "import multiprocessing as m\nwith m.get_context('spawn').Pool(1) as pool: print(pool.map(abs, [-1]))"
    assert run(kernel, code) == ["stdout:[1]\n"]


def test_a_file_that_is_named_by_a_path_object_runs_with_the_cells_future_features(kernel, tmp_path):
    file = tmp_path / "named.py"
    file.write_text("value = 42\n")
    code = f"from pathlib import Path; names = {{}}\nip = get_ipython()\nip.safe_execfile(Path({str(file)!r}), names, shell_futures=True, raise_exceptions=True)\nnames['value']"
    assert run(kernel, code) == ["execute_result:42"]
