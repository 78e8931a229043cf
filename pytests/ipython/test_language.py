"""Completion, inspection, completeness and history over the wire."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import KernelUnderTest, start_kernel

TYPES = "_jupyter_types_experimental"


def complete(kernel: KernelUnderTest, code: str, cursor_pos: int | None = -1) -> dict[str, Any]:
    content: dict[str, Any] = {"code": code, "cursor_pos": len(code) if cursor_pos == -1 else cursor_pos}
    return kernel.reply(kernel.send("complete_request", **content))


def inspect(kernel: KernelUnderTest, code: str, cursor_pos: int | None = None, **content: Any) -> dict[str, Any]:
    content = {"code": code, "cursor_pos": len(code) if cursor_pos is None else cursor_pos, **content}
    return kernel.reply(kernel.send("inspect_request", **content))


def history(kernel: KernelUnderTest, **content: Any) -> list[Any]:
    content = {"raw": True, "output": False, **content}
    rows: list[Any] = kernel.reply(kernel.send("history_request", **content))["history"]
    return rows


# ---- complete -----------------------------------------------------------------------------


def test_completions_have_a_range_and_types(kernel: KernelUnderTest) -> None:
    kernel.execute("long_name_one, long_name_two = 1, print")
    reply = complete(kernel, "x = long_na")
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["long_name_one", "long_name_two"], 4, 11)
    types = reply["metadata"][TYPES]
    assert [(one["text"], one["type"]) for one in types] == [
        ("long_name_one", "instance"),
        ("long_name_two", "function"),
    ]
    assert {tuple(sorted(one)) for one in types} == {("end", "signature", "start", "text", "type")}


@pytest.mark.parametrize(
    ("setup", "code", "match"),
    [
        ("import os", "os.path.absp", "abspath"),
        ("d = {'key_one': {'inner': 1}}", "d['key_o", "key_one"),
        ("d = {'key one': {'inner': 1}}", "d['key one']['in", "inner"),
        ("", "%conne", "%connect_info"),
        ("", "%%tim", "%%timeit"),
        ("", "print('a', en", "end="),
        ("", "import asyn", "asyncio"),
        ("", "from os import getp", "getpid"),
        ("", "whil", "while"),
        ("", "class Unrun:\n    def method_of(self): pass\nUnrun().meth", "method_of"),
        ("", "import collections\ncollections.Order", "OrderedDict"),
        ("", "def local_function(): pass\nlocal_f", "local_function"),
        ("wörter = 1", "wör", "wörter"),
        ("class Props:\n @property\n def prop_name(self): return 1\nprops = Props()", "props.prop_n", "prop_name"),
    ],
)
def test_completions_are_found(kernel: KernelUnderTest, setup: str, code: str, match: str) -> None:
    kernel.execute(setup)
    assert match in [one.strip() for one in complete(kernel, code)["matches"]]


def test_paths_are_completed_in_strings(kernel: KernelUnderTest, tmp_path: Path) -> None:
    (tmp_path / "some_file.txt").touch()
    reply = complete(kernel, f"open('{tmp_path}/some_f")
    assert [Path(one).name for one in reply["matches"]] == ["some_file.txt"]


def test_positions_count_code_points(kernel: KernelUnderTest) -> None:
    kernel.execute("target_name = 1")
    reply = complete(kernel, "'𝒳😀'; target_na + 1", 15)
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["target_name"], 6, 15)


def test_without_a_cursor_the_end_is_meant(kernel: KernelUnderTest) -> None:
    kernel.execute("target_name = 1")
    for code in ("target_na", "1 +\ntarget_na"):
        assert complete(kernel, code, None) == complete(kernel, code)


@pytest.mark.parametrize("position", [-5, 10_000])
def test_a_cursor_outside_of_the_code_is_moved_in(kernel: KernelUnderTest, position: int) -> None:
    assert complete(kernel, "pri", position)["status"] == "ok"


def test_no_completion_is_an_empty_range(kernel: KernelUnderTest) -> None:
    reply = complete(kernel, "zzz_not_there")
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == ([], 13, 13)
    assert reply["metadata"] == {TYPES: []}


def test_completing_does_not_evaluate_what_has_effects(kernel: KernelUnderTest) -> None:
    kernel.execute("calls = []\ndef effect(): calls.append(1); return 'x'")
    complete(kernel, "effect().upp")
    assert kernel.execute("calls")[1] == ["execute_result:[]"]


SPIES = """
import types, warnings
ran = []
class Descriptor:
    def __get__(self, obj, owner): ran.append('descriptor'); return 'text'
class Thing:
    descriptor = Descriptor()
    inner = types.SimpleNamespace(value='text')
    @property
    def legacy(self): ran.append('property'); warnings.warn('legacy'); return 'text'
class Asks(Thing):
    def __getattr__(self, name): ran.append('__getattr__'); raise AttributeError(name)
class Asked(Thing):
    def __getattribute__(self, name): ran.append('__getattribute__'); return super().__getattribute__(name)
class Lists(Thing):
    def __dir__(self): ran.append('__dir__'); return ['one']
class Acts(Thing):
    def act(self, *args): ran.append('act'); return 'text'
    __iter__ = __len__ = __bool__ = __eq__ = __lt__ = __add__ = __neg__ = __getitem__ = __call__ = __repr__ = act
class Meta(type):
    def __getattr__(cls, name): ran.append('metaclass'); raise AttributeError(name)
class Made(metaclass=Meta):
    made = 'text'
class Table(dict):
    def keys(self): ran.append('keys'); return super().keys()
    def values(self): ran.append('values'); return super().values()
def function(argument=Acts()): pass
lazy = types.ModuleType('lazy')
def of_lazy(name): ran.append('module ' + name); warnings.warn('lazy'); raise AttributeError(name)
lazy.__getattr__ = of_lazy
thing, asks, asked, lists, acts, made, table = Thing(), Asks(), Asked(), Lists(), Acts(), Made(), Table(key='text')
holder = types.SimpleNamespace(asks=asks, asked=asked, acts=acts, lazy=lazy)
"""
UNRUN = [
    "thing.legacy.", "thing.legacy.upp", "thing.descriptor.", "Thing.descriptor.", "x = thing.legacy\nx.",
    "asks.inner.", "asks.unknown.", "asked.inner.", "lists.one.", "lists.inner.zzz", "holder.asks.inner.",
    "holder.asked.inner.", "acts[0].", "list(acts)[0].", "for x in acts:\n    x.", "a, b = acts\na.", "[*acts][0].",
    "(not acts).", "(acts or 3).", "(acts == 1).", "x = acts == 1\nx.", "if acts == 3:\n    x = 'a'\nx.",
    "if acts < 3:\n    x = 'a'\nx.", "(acts + 1).", "x = -acts\nx.", "acts().", "holder.acts[0].", "function(1, ",
    "made.unknown.", "Made.unknown.", "table['key'].", "for x in table:\n    x.", "x = lazy\nx.", "lazy.zzz",
    "x = holder.lazy\nx.",
]  # fmt: skip


def run_by_completions(jedi: str) -> dict[str, str]:
    """Return what of the user's code runs as each of UNRUN is completed."""
    ran = {}
    with start_kernel(env={"IPYMINI_USE_JEDI": jedi}) as kernel:
        kernel.execute(SPIES)
        for code in UNRUN:
            kernel.execute("ran.clear()")
            asked = kernel.send("complete_request", code=code, cursor_pos=len(code))
            assert kernel.reply(asked)["status"] == "ok"
            assert kernel.outputs(asked) == ["status:busy", "status:idle"]
            ran[code] = "".join(kernel.execute("ran")[1])
    return ran


def test_jedi_runs_nothing_that_ipythons_evaluation_policy_refuses() -> None:
    # given: what IPython's own matchers run; its policy lets some through (descriptors that are no properties)
    let_through = run_by_completions("0")
    assert {let_through[code] for code in UNRUN if "legacy" in code or "unknown" in code} == {"execute_result:[]"}

    assert run_by_completions("") == let_through
    assert run_by_completions("1") == let_through


@pytest.mark.parametrize("jedi", ["", "1"])
def test_a_policy_that_lets_completions_run_code_is_heard(jedi: str) -> None:
    with start_kernel(env={"IPYMINI_USE_JEDI": jedi}) as kernel:
        kernel.execute(SPIES + "\n%config IPCompleter.evaluation = 'unsafe'")
        assert complete(kernel, "thing.legacy.upp")["matches"] == ["upper"]
        kernel.execute("%config IPCompleter.evaluation = 'minimal'")
        assert complete(kernel, "thing.legacy.upp")["matches"] == []


@pytest.mark.parametrize("jedi", ["", "1"])
def test_what_a_completion_warns_of_is_shown_to_nobody_and_the_filters_stay(jedi: str) -> None:
    with start_kernel(env={"IPYMINI_USE_JEDI": jedi}) as kernel:
        kernel.execute("import types, warnings\nold = types.ModuleType('old')")
        kernel.execute(
            "def given(name):\n warnings.warn('old', FutureWarning)\n return 'text'\nold.__getattr__ = given"
        )
        kernel.execute("import IPython.core.completer; filters = list(warnings.filters)")
        asked = kernel.send("complete_request", code="old.name.upp", cursor_pos=12)
        assert kernel.reply(asked)["matches"] == ["upper"]  # the policy lets modules be asked
        assert kernel.outputs(asked) == ["status:busy", "status:idle"]
        assert kernel.execute("filters == warnings.filters[-len(filters):]")[1] == ["execute_result:True"]


@pytest.mark.parametrize(
    ("setup", "code", "match"),
    [
        ("import re", "re.compile('x').finda", "findall"),
        ("import threading", "threading.current_thread().nam", "name"),
        ("import numpy", "numpy.ndarray.resh", "reshape"),
        ("", "'text'.upper().low", "lower"),
        ("", "[1, 2][0].bit_l", "bit_length"),
        ("numbers = [1, 2]", "numbers[0].bit_l", "bit_length"),
        ("table = {'key': 'text'}", "x = table['key']\nx.upp", "upper"),
        ("class Plain:\n  def __init__(self): self.text = 'text'\nplain = Plain()", "plain.text.upp", "upper"),
    ],
)
@pytest.mark.parametrize("jedi", ["", "1"])
def test_what_reading_tells_is_still_completed(jedi: str, setup: str, code: str, match: str) -> None:
    with start_kernel(env={"IPYMINI_USE_JEDI": jedi}) as kernel:
        assert kernel.execute(setup)[0]["status"] == "ok"
        assert match in complete(kernel, code)["matches"]


def test_an_object_that_breaks_completion_does_not_break_the_kernel(kernel: KernelUnderTest) -> None:
    kernel.execute("class Bad:\n def __dir__(self): raise RuntimeError\n def __getattr__(self, name): 1/0\nbad = Bad()")
    assert complete(kernel, "bad.x")["status"] == "ok"
    assert inspect(kernel, "bad.x")["status"] == "ok"


@pytest.mark.parametrize("jedi", ["0", "1"])
def test_jedi_and_types_can_be_switched_off(jedi: str) -> None:
    with start_kernel(env={"IPYMINI_USE_JEDI": jedi, "IPYMINI_EXPERIMENTAL_COMPLETIONS": "0"}) as kernel:
        assert complete(kernel, "prin") == {
            "status": "ok", "matches": ["print"], "cursor_start": 0, "cursor_end": 4, "metadata": {},
        }  # fmt: skip
        assert complete(kernel, "zzz_not_there")["matches"] == []
        assert kernel.execute("import sys; 'jedi' in sys.modules")[1] == [f"execute_result:{jedi == '1'}"]


# ---- inspect, is_complete --------------------------------------------------------------------


def test_inspection_finds_what_is_under_the_cursor(kernel: KernelUnderTest) -> None:
    kernel.execute("def documented(argument):\n    '''What it does.'''\n    return argument")
    for code, position in (("documented", 4), ("documented(1, ", 14), ("x = documented(", 15), ("documented(a=1)", 13)):
        reply = inspect(kernel, code, position)
        assert (reply["found"], "What it does." in reply["data"]["text/plain"]) == (True, True), (code, position)
        assert set(reply["data"]) == {"text/plain"} and reply["metadata"] == {}
    assert "return argument" not in inspect(kernel, "documented")["data"]["text/plain"].replace("\x1b", "")
    assert "return" in inspect(kernel, "documented", detail_level=1)["data"]["text/plain"]


@pytest.mark.parametrize("code", ["not_there", "", "1 + ", "(", "print.not_there", "'text"])
def test_what_is_not_found_is_no_error(kernel: KernelUnderTest, code: str) -> None:
    assert inspect(kernel, code) == {"status": "ok", "found": False, "data": {}, "metadata": {}}


def test_magics_and_modules_can_be_inspected(kernel: KernelUnderTest) -> None:
    kernel.execute("import os")
    for code in ("%timeit", "os.path", "len"):
        assert inspect(kernel, code)["found"]


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("1 + 1", {"status": "complete"}),
        ("", {"status": "complete"}),
        ("for x in y:", {"status": "incomplete", "indent": "    "}),
        ("def f():\n    pass", {"status": "incomplete", "indent": "    "}),
        ("def f():\n    pass\n", {"status": "complete"}),
        ("'''text", {"status": "incomplete", "indent": ""}),
        ("1 = 2", {"status": "invalid"}),
        ("%%time\nx", {"status": "incomplete", "indent": ""}),
        ("%time x", {"status": "complete"}),
        ("await x", {"status": "complete"}),
        ("!ls", {"status": "complete"}),
    ],
)
def test_completeness(kernel: KernelUnderTest, code: str, reply: dict[str, str]) -> None:
    assert kernel.reply(kernel.send("is_complete_request", code=code)) == reply


# ---- history ------------------------------------------------------------------------------------


def test_the_tail_ends_with_the_latest_cell(kernel: KernelUnderTest) -> None:  # Q19
    for n in range(5):
        kernel.execute(f"'tail {n}'")
    rows = history(kernel, hist_access_type="tail", n=3)
    assert [row[2] for row in rows] == ["'tail 2'", "'tail 3'", "'tail 4'"]
    assert rows[1][1] + 1 == rows[2][1] and rows[0][0] == rows[2][0]
    with_output = history(kernel, hist_access_type="tail", n=1, output=True)
    assert with_output[0][2][0] == "'tail 4'"


def test_ranges_of_this_session(kernel: KernelUnderTest) -> None:  # Q19
    number = kernel.execute("%pwd")[0]["execution_count"]
    kernel.execute("'result'")
    (first, second) = history(kernel, hist_access_type="range", session=0, start=number, stop=number + 2)
    assert (first[2], second[2]) == ("%pwd", "'result'")
    (row,) = history(kernel, hist_access_type="range", session=0, start=number, stop=number + 1, raw=False)
    assert "run_line_magic" in row[2]
    (row,) = history(kernel, hist_access_type="range", session=0, start=number + 1, stop=number + 2, output=True)
    assert row[2] == ["'result'", "'result'"]


def test_search_with_patterns(kernel: KernelUnderTest) -> None:  # Q19
    for n in (1, 2, 1, 2, 1):
        kernel.execute(f"'needle {n}'")
    found = history(kernel, hist_access_type="search", pattern="*needle ?*", n=10)
    assert [row[2][-2] for row in found if row[2].startswith("'needle")] == ["1", "2", "1", "2", "1"]
    unique = history(kernel, hist_access_type="search", pattern="'needle*", n=10, unique=True)
    assert sorted(row[2] for row in unique) == ["'needle 1'", "'needle 2'"]
    assert len(history(kernel, hist_access_type="search", pattern="'needle*", n=2)) == 2
    assert history(kernel, hist_access_type="search", pattern="no such thing") == []


@pytest.mark.parametrize("content", [{"hist_access_type": "unknown"}, {"hist_access_type": "search"}])
def test_an_odd_question_has_an_empty_answer(kernel: KernelUnderTest, content: dict[str, Any]) -> None:
    assert history(kernel, **content) == []


def test_the_next_kernel_remembers(tmp_path: Path) -> None:  # Q19
    env = {"IPYTHONDIR": str(tmp_path)}
    with start_kernel(env=env) as first:
        first.execute("'from the first'")
        first.reply(first.send("shutdown_request", channel="control", restart=False))
        assert first.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]
    with start_kernel(env=env) as second, start_kernel(env=env) as third:
        assert history(second, hist_access_type="tail", n=1)[-1][2] == "'from the first'"
        second.execute("'second'")
        third.execute("'third'")
        assert history(second, hist_access_type="range", session=-1, start=1, stop=2)[0][2] == "'from the first'"
        sessions = {history(one, hist_access_type="tail", n=1)[-1][0] for one in (second, third)}
        assert len(sessions) == 2


@pytest.fixture(params=["locked", "broken", "no journal", "a directory"])
def wounded_history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "profile_default" / "history.sqlite"
    file.parent.mkdir()
    lock = None
    if request.param == "a directory":
        file.mkdir()
    elif request.param == "broken":
        file.write_bytes(b"this is no database" * 1000)
    else:
        lock = sqlite3.connect(file, isolation_level=None)
        lock.execute("create table other (a)")
        if request.param == "locked":
            lock.execute("begin exclusive")
        else:
            for journal in ("journal", "wal"):  # what is read-only, root can write
                Path(f"{file}-{journal}").mkdir()
    yield tmp_path
    if lock is not None:
        lock.close()


def test_a_wounded_history_delays_and_breaks_no_cell(wounded_history: Path) -> None:
    with start_kernel(env={"IPYTHONDIR": str(wounded_history)}) as kernel:
        started = time.monotonic()
        for n in range(20):
            assert kernel.execute(f"{n}")[1] == [f"execute_result:{n}"]
        rows = history(kernel, hist_access_type="range", session=0, start=1, stop=3)
        assert [row[2] for row in rows] == ["0", "1"]
        while not (tail := history(kernel, hist_access_type="tail", n=3)):  # the writer still waits for the lock
            assert time.monotonic() - started < 10
        assert [row[2] for row in tail] == ["17", "18", "19"]
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))
        assert kernel.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]
        assert time.monotonic() - started < 10  # a locked database makes sqlite wait for 5 s, each time
        assert kernel.log.read_text().count(" WARNING ipymini.ipython.history ") == 1  # it was wounded
