"""Windows of GUI toolkits: they live while the kernel waits, and never in the way of requests, tasks and interrupts.

The unmarked tests use a toolkit of their own. Those marked `peers` need Tk, PySide6, matplotlib and Xvfb: they fail
where one of them is missing.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DEADLINE, REPOSITORY, KernelUnderTest, start_kernel

FAKE = """
import asyncio, sys
from ipymini import gui

class Fake(gui.Toolkit):
    def __init__(self, name):
        self.jobs, self.turns, self.left, self.closed = [], 0, 0, False
        globals()["fake"] = self
    def pump(self, seconds):
        self.turns += 1
        for job in [self.jobs.pop(0) for _ in list(self.jobs)]:
            job()
    def leave(self):
        self.left += 1
    def close(self):
        self.closed = True

gui.register("fake", Fake)

def hang():
    print("hanging", flush=True)
    while True:
        pass
"""


@pytest.fixture
def windows(kernel: KernelUnderTest) -> Iterator[KernelUnderTest]:
    """The module's kernel with the fake toolkit enabled."""
    assert kernel.execute(FAKE + "\nget_ipython().enable_gui('fake')")[1] == []
    yield kernel
    assert kernel.execute("%gui")[1] == []


def begin(kernel: KernelUnderTest, code: str, text: str) -> str:
    """Send a cell, and wait until it has printed a text; return its msg_id."""
    msg_id = kernel.send("execute_request", code=code, allow_stdin=True)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text=text)
    return msg_id


def test_an_unknown_name_is_answered_with_the_names_there_are(kernel: KernelUnderTest) -> None:
    reply, said = kernel.execute("%gui teletype")

    assert reply["status"] == "ok"
    assert said == [
        "stderr:ERROR:root:Invalid GUI request 'teletype', valid ones are:['agg', 'asyncio', 'inline', 'ipympl', 'nbagg', "
        "'none', 'notebook', 'qt', 'qt5', 'qt6', 'tk', 'webagg', 'widget']; add others with ipymini.gui.register\n"
    ]
    assert kernel.execute("get_ipython().active_eventloop")[1] == []


def test_names_without_a_loop_are_noted_and_nothing_is_pumped(kernel: KernelUnderTest) -> None:
    code = "shell = get_ipython(); shell.enable_gui({!r}); print(shell.active_eventloop, shell._pump)"
    for name in ("asyncio", "inline", "widget"):
        assert kernel.execute(code.format(name))[1] == [f"stdout:{name} None\n"]
    assert kernel.execute(code.format("none"))[1] == ["stdout:None None\n"]


def test_a_toolkit_that_does_not_work_says_why_and_leaves_things_as_they_were(windows: KernelUnderTest) -> None:
    broken = (
        "def broken(name):\n    raise ImportError('no library for it')\ngui.register('broken', broken)\n%gui broken"
    )

    assert windows.execute(broken)[1] == [
        "stderr:ERROR:root:GUI 'broken' cannot be enabled: ImportError: no library for it\n"
    ]
    assert windows.execute("print(get_ipython().active_eventloop, fake.closed)")[1] == ["stdout:fake False\n"]


def test_windows_live_between_cells(windows: KernelUnderTest) -> None:
    code = """
    def job():
        if get_ipython().kernel.main.queue.is_occupied:
            fake.jobs.append(job)
        else:
            print("served while idle")
    fake.jobs.append(job)
    """
    msg_id = windows.send("execute_request", code=code)

    assert windows.wait_for("iopub", "stream", text="served while idle")["parent_header"]["msg_id"] == msg_id


def test_windows_live_while_a_cell_awaits(windows: KernelUnderTest) -> None:
    code = "done = asyncio.Event(); fake.jobs.append(done.set); await done.wait()"
    assert windows.execute(code)[0]["status"] == "ok"


def test_windows_live_while_a_cell_asks_for_input(windows: KernelUnderTest) -> None:
    msg_id = begin(windows, "fake.jobs.append(lambda: print('seen')); input()", "seen")
    windows.answer_input("an answer")

    assert windows.reply(msg_id)["status"] == "ok"


def test_tasks_go_on_while_windows_are_served(windows: KernelUnderTest) -> None:
    code = """
    async def watch():
        before = fake.turns
        while fake.turns < before + 5:
            await asyncio.sleep(0)
        print("a task has seen five turns")
    task = asyncio.create_task(watch())
    """
    windows.send("execute_request", code=code)
    windows.wait_for("iopub", "stream", text="a task has seen five turns")


def test_requests_are_served_between_callbacks_that_never_end(windows: KernelUnderTest) -> None:
    windows.execute("def again():\n    fake.jobs.append(again)\nagain()")
    for n in range(20):
        assert windows.execute(f"{n} + 0")[1] == [f"execute_result:{n}"]


def test_a_GUI_s_loop_between_cells_can_be_interrupted(windows: KernelUnderTest) -> None:
    msg_id = begin(windows, "fake.jobs.append(hang)", "hanging")
    windows.interrupt()

    assert windows.execute("1")[1] == ["execute_result:1"]
    text = windows.wait_for("iopub", "stream", msg_id=msg_id, text="stderr:")["content"]["text"]
    assert text.startswith("Traceback") and "in hang\n" in text and text.endswith("\nKeyboardInterrupt\n")
    assert "ipymini" not in text


def test_a_callback_that_hangs_during_input_can_be_interrupted(windows: KernelUnderTest) -> None:
    msg_id = begin(windows, "fake.jobs.append(hang); input()", "hanging")
    windows.interrupt()

    assert windows.reply(msg_id)["ename"] == "KeyboardInterrupt"


def test_an_interrupt_that_a_callback_swallows_ends_the_cell_all_the_same(windows: KernelUnderTest) -> None:
    loop = """
    while not fake.left:  # as toolkits do it
        try:
            hang()
        except BaseException:
            sys.excepthook(*sys.exc_info())
    """
    msg_id = begin(windows, loop, "hanging")
    windows.interrupt()

    assert windows.reply(msg_id)["ename"] == "KeyboardInterrupt"
    assert windows.execute("fake.left")[1] == ["execute_result:1"]


def test_a_callback_that_exits_is_shown_and_the_windows_live(windows: KernelUnderTest) -> None:
    """A "Quit" button, say, whose command is `sys.exit`."""
    cell = windows.send("execute_request", code="fake.jobs.append(sys.exit); turns = fake.turns")
    windows.wait_for("iopub", "stream", msg_id=cell, text="SystemExit")
    code = "turns = fake.turns\nfor _ in range(100):\n    await asyncio.sleep(.05)\n    if fake.turns > turns: break\nfake.turns > turns"
    assert windows.execute(code)[1] == ["execute_result:True"]


def test_a_toolkit_that_always_fails_is_served_no_more(windows: KernelUnderTest) -> None:
    code = "def fail(seconds):\n    raise OSError('no display any more')\nfake.pump = fail"
    windows.send("execute_request", code=code)
    windows.wait_for("iopub", "stream", text="It is not served any more")

    assert windows.execute("fake.closed")[1] == ["execute_result:True"]


def test_gui_without_a_name_ends_it(windows: KernelUnderTest) -> None:
    code = "%gui\nshell = get_ipython(); print(fake.closed, shell.active_eventloop)\nbefore = fake.turns"
    assert windows.execute(code)[1] == ["stdout:True None\n"]
    assert windows.execute("await asyncio.sleep(.1); fake.turns - before")[1] == ["execute_result:0"]


def test_a_subshell_can_end_a_gui_but_not_begin_one(windows: KernelUnderTest) -> None:
    made = windows.reply(windows.send("create_subshell_request", channel="control"))
    in_subshell = {"subshell_id": made["subshell_id"]}

    begun = windows.outputs(windows.send("execute_request", code="%gui tk", header=in_subshell))
    drawn = windows.reply(windows.send("execute_request", code="%matplotlib tk", header=in_subshell))
    still = windows.execute("print(get_ipython().active_eventloop, fake.closed)")[1]
    ended = windows.reply(windows.send("execute_request", code="%gui", header=in_subshell))

    assert begun[2] == (
        "stderr:ERROR:root:GUI toolkits belong to the main thread: enable 'tk' in a cell of the main shell\n"
    )
    assert drawn["ename"] == "UsageError"
    assert still == ["stdout:fake False\n"]
    assert ended["status"] == "ok"
    assert windows.execute("fake.closed")[1] == ["execute_result:True"]


# ---- the toolkits of docs/gui.md ---------------------------------------------------------

EXAMPLES = re.findall(
    r"^```python\n(from ipymini import gui\n.*?)^```$",
    (REPOSITORY / "docs" / "gui.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize(("name", "needs"), [("gtk3", "gi"), ("gtk4", "gi"), ("wx", "wx")])
def test_a_toolkit_of_the_docs_can_be_enabled_where_its_library_is(
    own_kernel: KernelUnderTest, name: str, needs: str
) -> None:
    for example in EXAMPLES:
        assert own_kernel.execute(example)[1] == []
    own_kernel.execute(f"import sys; sys.modules[{needs!r}] = None")  # there or not: this test goes without

    assert own_kernel.execute(f"%gui {name}")[1] == [
        f"stderr:ERROR:root:GUI {name!r} cannot be enabled: "
        f"ModuleNotFoundError: import of {needs} halted; None in sys.modules\n"
    ]


# ---- real toolkits -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """Return the name of an X display that is there for these tests."""
    reading, writing = os.pipe()
    # It would start afresh whenever its last client goes, and refuse the next one meanwhile, but for -noreset.
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as chosen:
        number = chosen.readline().strip()  # once it takes connections; at its end, if it cannot start
    try:
        assert number, "Xvfb has not started"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(DEADLINE)


@pytest.fixture(scope="module", params=["tk", "qt"])
def toolkit(request: pytest.FixtureRequest) -> str:
    """Return the name of a toolkit."""
    return str(request.param)


@pytest.fixture(scope="module")
def desktop(toolkit: str, display: str) -> Iterator[KernelUnderTest]:
    """A kernel with a display and one toolkit's figures."""
    quiet = "*.warning=false"  # Qt says what its offscreen platform cannot do
    environment = {"DISPLAY": display, "QT_QPA_PLATFORM": "offscreen", "QT_API": "", "QT_LOGGING_RULES": quiet}
    with start_kernel(env=environment) as kernel:
        begun = f"%matplotlib {toolkit}\nimport asyncio, sys, matplotlib, matplotlib.pyplot as plt"
        assert kernel.execute(begun, timeout=3 * DEADLINE)[1] == []
        yield kernel
        assert kernel.execute("plt.close('all'); 40 + 2")[1] == ["execute_result:42"]


def printed(kernel: KernelUnderTest, code: str) -> list[str]:
    """Run a cell; return what it said but for stderr: matplotlib complains there if a window goes before it is drawn."""
    return [line for line in kernel.execute(code)[1] if not line.startswith("stderr:")]


SEEN = {
    "tk": "fig.canvas.manager.window.winfo_viewable()",
    "qt": "fig.canvas.manager.window.isVisible()",
}
LATER = {
    "tk": "import tkinter\nroot = tkinter.Tk()\ndef later(ms, job):\n    root.after(ms, job)\nrun = root.mainloop",
    "qt": """
from PySide6 import QtCore, QtWidgets
def later(ms, job):
    QtCore.QTimer.singleShot(ms, job)
run = QtWidgets.QApplication.instance().exec
""",
}  # a timer, and the toolkit's own loop


@pytest.mark.peers
def test_a_figures_window_opens_and_is_drawn_between_cells(desktop: KernelUnderTest, toolkit: str) -> None:
    code = """
    fig, ax = plt.subplots()
    line, = ax.plot([1, 2])
    drawn = []
    fig.canvas.mpl_connect("draw_event", lambda event: drawn.append(len(line.get_ydata())))
    async def until_drawn(points):
        while points not in drawn:
            await asyncio.sleep(.01)
        print(f"{points} points have been drawn")
    """
    assert printed(desktop, code) == []
    seen = printed(desktop, f"await until_drawn(2); print(bool({SEEN[toolkit]}))")
    assert seen == ["stdout:2 points have been drawn\nTrue\n"]

    # when: an update is asked for, and the cell ends
    desktop.execute(
        "line.set_data([1, 2, 3], [4, 5, 6]); fig.canvas.draw_idle(); task = asyncio.create_task(until_drawn(3))"
    )

    desktop.wait_for("iopub", "stream", text="3 points have been drawn")


@pytest.mark.peers
def test_a_pause_in_a_cell_serves_the_window(desktop: KernelUnderTest, toolkit: str) -> None:
    code = f"fig = plt.figure(); plt.pause(.1); print(bool({SEEN[toolkit]}))"
    assert printed(desktop, code) == ["stdout:True\n"]


@pytest.mark.peers
@pytest.mark.parametrize("wait", ["plt.show(block=True)", "plt.pause(1000)", "later(0, hang); run()", "run()"])
def test_a_GUI_s_loop_in_a_cell_ends_with_an_interrupt(desktop: KernelUnderTest, toolkit: str, wait: str) -> None:
    desktop.execute(FAKE[FAKE.index("def hang") :] + LATER[toolkit])
    said = "hanging" if "hang" in wait else "in the loop"
    msg_id = begin(desktop, f"fig = plt.figure(); later(50, lambda: print('in the loop'))\n{wait}\nprint('over')", said)
    desktop.interrupt()

    assert desktop.reply(msg_id)["ename"] == "KeyboardInterrupt"
    assert desktop.execute("1")[1] == ["execute_result:1"]


@pytest.mark.peers
def test_the_window_of_an_interrupted_cell_lives_on(desktop: KernelUnderTest, toolkit: str) -> None:
    desktop.execute(LATER[toolkit])
    msg_id = begin(desktop, "fig = plt.figure(); later(50, lambda: print('in the loop'))\nrun()", "in the loop")
    desktop.interrupt()
    desktop.reply(msg_id)

    desktop.execute("later(10, lambda: print('still served'))")
    desktop.wait_for("iopub", "stream", text="still served")


@pytest.mark.peers
def test_a_window_that_is_closed_ends_a_blocking_show(desktop: KernelUnderTest, toolkit: str) -> None:
    desktop.execute(LATER[toolkit] + "\nplt.close('all')")
    if toolkit == "tk":
        desktop.execute("root.withdraw()")
    code = "fig = plt.figure(); later(50, lambda: plt.close(fig)); plt.show(block=True); print('closed')"
    for _ in range(2):
        assert printed(desktop, code) == ["stdout:closed\n"]
    assert printed(desktop, f"fig = plt.figure(); plt.pause(.1); print(bool({SEEN[toolkit]}))") == ["stdout:True\n"]


@pytest.mark.peers
def test_inline_and_windows_take_turns(desktop: KernelUnderTest, toolkit: str) -> None:
    draw = "plt.close('all'); fig = plt.figure(); ax = plt.plot([1, 2])"
    name = "print(get_ipython().active_eventloop)"
    for _ in range(2):
        assert printed(desktop, f"plt.close('all')\n%matplotlib inline\n{name}") == ["stdout:None\n"]
        assert printed(desktop, draw) == ["display_data:<Figure size 640x480 with 1 Axes>"]
        assert printed(desktop, f"%matplotlib {toolkit}\n{name}") == [f"stdout:{toolkit}\n"]
        assert printed(desktop, f"{draw}; plt.pause(.1); print(bool({SEEN[toolkit]}))") == ["stdout:True\n"]


@pytest.mark.peers
def test_matplotlib_auto_takes_the_backend_of_the_users_matplotlibrc(display: str, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\n")
    with start_kernel(env={"DISPLAY": display, "MATPLOTLIBRC": str(tmp_path)}) as kernel:
        kernel.execute("%matplotlib auto", timeout=3 * DEADLINE)
        code = f"import matplotlib.pyplot as plt\nfig = plt.figure(); plt.pause(.1); print(bool({SEEN['tk']}))"
        assert kernel.execute(code)[1] == ["stdout:True\n"]
        assert kernel.execute("get_ipython().active_eventloop")[1] == ["execute_result:'tk'"]


@pytest.mark.peers
def test_qt_without_a_display_is_an_error_and_not_the_kernels_end() -> None:
    with start_kernel(env={"DISPLAY": "", "WAYLAND_DISPLAY": "", "QT_QPA_PLATFORM": "xcb"}) as kernel:
        said = kernel.execute("%gui qt", timeout=3 * DEADLINE)[1]
        assert len(said) == 1
        assert said[0].startswith("stderr:ERROR:root:PySide6 finds no display, or lacks a library for it: ")
        assert kernel.execute("get_ipython().active_eventloop")[1] == []

        # nor does matplotlib change anything
        assert kernel.execute("%matplotlib qt", timeout=3 * DEADLINE)[0]["ename"] in ("UsageError", "ImportError")
        figure = "import matplotlib.pyplot as plt; ax = plt.plot([1, 2])"
        assert kernel.execute(f"%matplotlib inline\n{figure}")[1] == ["display_data:<Figure size 640x480 with 1 Axes>"]
