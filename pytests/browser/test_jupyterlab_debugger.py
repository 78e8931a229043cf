"""The debugger as a person uses it in JupyterLab: breakpoints, stops, variables, steps, exceptions, ends."""

import json

import pytest
from pages import Notebook, press_button
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

AREA = """def area(width, height):
    nested = {'sides': [width, {'deep': height}]}
    product = double(width) * height
    return product"""
DOUBLE = """def double(number):
    twice = 2 * number
    return twice"""

# Keeps what the page receives of the debugger: some of it is to be seen nowhere.
EAVESDROP = """
window.heard = [];
window.WebSocket = class extends WebSocket {
    constructor(...args) {
        super(...args);
        this.addEventListener('message', event => {
            const text = typeof event.data === 'string' ? event.data : new TextDecoder('latin1').decode(event.data);
            if (text.includes('debug_reply')) window.heard.push(text);
        });
    }
};
"""


class Debugger:
    """JupyterLab's debugger for one notebook."""

    def __init__(self, notebook, screenshots):
        self.notebook, self.page, self.screenshots = notebook, notebook.page, screenshots
        self.sidebar = self.page.locator("#jp-debugger-sidebar")
        self.variables = self.sidebar.locator(".jp-DebuggerVariables-body:visible")
        self.callstack = self.sidebar.locator(".jp-DebuggerCallstackFrame")
        self.exceptions = self.sidebar.locator(".jp-PauseOnExceptions")
        self.bug = notebook.panel.locator(".jp-DebuggerBugButton").first

    def switch(self, on):
        """Press the bug, and wait until the debugger is on or off: till the kernel's last answer, not for the bug alone.

        What is pressed while the page still switches is lost, or undone by what it then tells the kernel.
        """
        expect(self.bug).to_have_attribute("aria-pressed", "false" if on else "true")
        self.forget()
        press_button(self.bug)
        expect(self.bug).to_have_attribute("aria-pressed", "true" if on else "false")
        self.expect_answer('"command":"modules"' if on else '"command":"disconnect"', '"success":true')
        if on:
            expect(self.sidebar).to_be_visible()

    def define(self, number):
        """Run a cell that only defines something, to its end."""
        self.notebook.run(number)
        expect(self.notebook.prompt(number)).not_to_have_text("[*]:")
        expect(self.notebook.prompt(number)).not_to_have_text("[ ]:")

    def break_at(self, cell, line):
        """Click into the gutter beside a line; the breakpoint appears there."""
        gutter = self.notebook.cell(cell).locator(".cm-breakpoint-gutter .cm-gutterElement")
        gutter.nth(line).click()  # the first element is the ruler
        expect(gutter.nth(line).locator(".cm-breakpoint-icon")).to_be_visible()

    def expect_stop(self, cell, *frames, text):
        """Wait for a stop: the frames, innermost first, and the text of the line that is highlighted."""
        expect(self.callstack.locator(".jp-DebuggerCallstackFrame-name")).to_have_text(frames)
        expect(self.notebook.cell(cell).locator(".jp-DebuggerEditor-highlight")).to_have_text(text)

    def expect_no_stop(self):
        """Wait until nothing is stopped."""
        expect(self.callstack).to_have_count(0)
        expect(self.notebook.panel.locator(".jp-DebuggerEditor-highlight")).to_have_count(0)

    def press(self, command):
        """Press a button of the sidebar, such as `continue`."""
        press_button(self.sidebar.locator(f'[data-command="debugger:{command}"]').first)

    def variable(self, name):
        """The tree's item of a variable."""
        label = self.page.locator(f".jp-DebuggerVariables-name:text-is({json.dumps(name)})")
        return self.variables.locator("jp-tree-item", has=label).last

    def value(self, name):
        """What the tree shows as a variable's value."""
        return self.variable(name).locator("> .jp-DebuggerVariables-detail")

    def globals(self):
        """Show the globals instead of the locals."""
        self.sidebar.locator('[data-jp-item-name="scope-switcher"] select').select_option("Globals")

    def magnify(self, name):
        """Press the magnifier beside a variable."""
        self.variable(name).hover()
        self.variable(name).locator(".jp-DebuggerVariables-renderVariable").click()

    def in_another_notebook(self, name):
        """Open a notebook beside this one, from the list of files; return its debugger."""
        self.page.locator(".jp-DirListing-content").get_by_text(name, exact=True).dblclick()  # "another" has "other"
        expect(self.page.locator(".lm-TabBar-tab.lm-mod-current", has_text=name)).to_be_visible()
        other = Debugger(Notebook(self.page), self.screenshots)
        other.notebook.wait_until_idle()
        return other

    def forget(self):
        """Forget what the page has heard from the kernel."""
        self.page.evaluate("window.heard = []")

    def expect_answer(self, *texts):
        """Wait until the page has received a debug_reply with these texts in it."""
        self.page.wait_for_function(
            "texts => window.heard.some(one => texts.every(text => one.includes(text)))", arg=texts
        )

    def pause_on(self, exceptions):
        """Choose this in the menu of "pause on exceptions", and wait until the kernel knows."""
        self.forget()
        press_button(self.exceptions)
        self.page.locator(".lm-Menu-item", has_text=exceptions).click()
        expect(self.exceptions).to_have_attribute("aria-pressed", "true")
        self.expect_answer('"command":"setExceptionBreakpoints"', '"success":true')

    def restart(self):
        """Restart the kernel, and wait until the page has told the new one of its breakpoints."""
        self.forget()
        self.notebook.press("restart")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.notebook.wait_until_idle()
        self.expect_no_stop()
        expect(self.bug).to_have_attribute("aria-pressed", "true")
        self.expect_answer('"command":"setBreakpoints"', '"verified":true')

    def terminate(self):
        """Press the button, and wait until the page, which begins a new session, has set its breakpoints again."""
        self.forget()
        self.press("terminate")
        self.expect_no_stop()
        self.expect_answer('"command":"setBreakpoints"', '"verified":true')

    def picture(self, name):
        """Take a screenshot."""
        self.page.screenshot(path=str(self.screenshots / f"{name}.png"))


@pytest.fixture
def debug(open_notebook, page, screenshots):
    """Return debug(*sources): open a notebook with these cells, and switch the debugger on."""

    def debug(*sources):
        page.add_init_script(EAVESDROP)
        page.set_viewport_size({"width": 1700, "height": 900})  # else "Paused in Debugger" covers the toolbar's buttons
        debugger = Debugger(open_notebook(*sources), screenshots)
        debugger.switch(on=True)
        return debugger

    return debug


def test_stop_look_and_step(debug):
    debugger = debug(DOUBLE, AREA, "area(3, 7)")
    debugger.define(0)
    debugger.define(1)
    debugger.break_at(1, 3)
    expect(debugger.sidebar.locator(".jp-DebuggerBreakpoint-line")).to_have_text("3")
    debugger.notebook.run(2)
    debugger.expect_stop(1, "area", "<module>", text="    product = double(width) * height")

    expect(debugger.value("width")).to_have_text("3")
    for name in ("nested", "'sides'", "1"):
        debugger.variable(name).click()
    expect(debugger.value("'deep'")).to_have_text("7")
    debugger.picture("variables")

    debugger.press("stepIn")
    debugger.expect_stop(0, "double", "area", "<module>", text="    twice = 2 * number")
    debugger.press("next")
    debugger.expect_stop(0, "double", "area", "<module>", text="    return twice")
    expect(debugger.value("twice")).to_have_text("6")
    debugger.press("stepOut")
    debugger.expect_stop(1, "area", "<module>", text="    product = double(width) * height")
    debugger.press("next")
    debugger.expect_stop(1, "area", "<module>", text="    return product")
    expect(debugger.value("product")).to_have_text("42")
    debugger.press("continue")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(2)).to_contain_text("42")


RICH = """class Rich:
    def _repr_html_(self):
        return '<strong class="rich">very rich</strong>'

def make():
    rich = Rich()
    number = 6
    return number"""


def test_the_magnifier_shows_a_variable_as_a_cell_would(debug, page):
    debugger = debug(RICH, "make()", "kept = Rich()\nnumber")
    debugger.define(0)
    debugger.break_at(0, 8)
    debugger.notebook.run(1)
    debugger.expect_stop(0, "make", "<module>", text="    return number")

    shown = page.locator(".jp-DebuggerRichVariable:visible .rich")
    debugger.magnify("rich")
    expect(shown).to_have_text("very rich")
    debugger.picture("rich-stopped")
    page.locator(".lm-TabBar-tab", has_text="rich").locator(".lm-TabBar-tabCloseIcon").click()

    debugger.variable("number").click(button="right")
    page.locator('.lm-Menu-item[data-command="debugger:copy-to-globals"]').click()
    debugger.press("continue")
    debugger.expect_no_stop()
    debugger.notebook.run(2)  # number is a global now
    expect(debugger.notebook.output(2)).to_contain_text("6")

    debugger.magnify("kept")  # nothing is stopped
    expect(shown).to_have_text("very rich")
    debugger.picture("rich-idle")


def test_pause_on_exceptions(debug):
    debugger = debug("def fail():\n    number = 0\n    return 1 / number", "fail()", "print('fine')")
    debugger.define(0)
    debugger.pause_on("uncaught")
    debugger.picture("exceptions")

    debugger.notebook.run(1)
    debugger.expect_stop(0, "fail", "<module> (Current frame)", text="    return 1 / number")
    expect(debugger.value("number")).to_have_text("0")
    debugger.press("continue")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(1)).to_contain_text("ZeroDivisionError")

    debugger.notebook.run(1)
    debugger.expect_stop(0, "fail", "<module> (Current frame)", text="    return 1 / number")
    debugger.notebook.press("interrupt")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(1)).to_contain_text("KeyboardInterrupt")
    debugger.notebook.run(2)
    expect(debugger.notebook.output(2)).to_contain_text("fine")


LOOP = "total = 0\nfor turn in range(3):\n    total += turn\ntotal"


def test_interrupted_while_stopped_and_then_run_again(debug):
    debugger = debug(LOOP)
    debugger.break_at(0, 3)
    for _ in range(2):
        debugger.notebook.run(0)
        debugger.expect_stop(0, "<module>", text="    total += turn")
        debugger.notebook.press("interrupt")
        debugger.expect_no_stop()
        expect(debugger.notebook.output(0)).to_contain_text("KeyboardInterrupt")

    debugger.notebook.run(0)
    for turn in "012":
        debugger.expect_stop(0, "<module>", text="    total += turn")
        debugger.globals()
        expect(debugger.value("turn")).to_have_text(turn)
        debugger.press("continue")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(0)).to_have_text("[3]:3")


def test_off_and_on_again(debug):
    debugger = debug(LOOP)
    debugger.break_at(0, 3)
    debugger.notebook.run(0)
    debugger.expect_stop(0, "<module>", text="    total += turn")

    debugger.switch(on=False)  # while it is stopped: the cell runs on
    expect(debugger.notebook.output(0)).to_contain_text("3")
    debugger.notebook.run(0)
    expect(debugger.notebook.prompt(0)).to_have_text("[2]:")

    debugger.switch(on=True)
    debugger.break_at(0, 4)
    debugger.notebook.run(0)
    debugger.expect_stop(0, "<module>", text="total")
    debugger.picture("on-again")
    debugger.press("continue")
    debugger.expect_no_stop()


def test_a_restarted_kernel_stops_at_the_same_breakpoints(debug):
    debugger = debug(LOOP)
    debugger.break_at(0, 3)
    debugger.notebook.run(0)
    debugger.expect_stop(0, "<module>", text="    total += turn")

    debugger.restart()
    debugger.picture("restarted")
    debugger.notebook.run(0)

    debugger.expect_stop(0, "<module>", text="    total += turn")


def test_every_button_after_a_restart(debug, page):
    debugger = debug(DOUBLE, AREA, "area(3, 7)", "1 / 0")
    debugger.define(0)
    debugger.break_at(1, 3)
    debugger.restart()
    debugger.define(0)
    debugger.define(1)

    debugger.notebook.run(2)
    debugger.expect_stop(1, "area", "<module>", text="    product = double(width) * height")
    debugger.press("stepIn")
    debugger.expect_stop(0, "double", "area", "<module>", text="    twice = 2 * number")
    debugger.press("next")
    debugger.expect_stop(0, "double", "area", "<module>", text="    return twice")
    debugger.press("stepOut")
    debugger.expect_stop(1, "area", "<module>", text="    product = double(width) * height")

    debugger.press("continue")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(2)).to_contain_text("42")

    debugger.pause_on("uncaught")
    debugger.notebook.run(3)
    debugger.expect_stop(3, "<module> (Current frame)", text="1 / 0")
    debugger.press("continue")
    debugger.expect_no_stop()
    expect(debugger.notebook.output(3)).to_contain_text("ZeroDivisionError")

    debugger.notebook.run(2)
    debugger.expect_stop(1, "area", "<module>", text="    product = double(width) * height")
    debugger.press("evaluate")
    console = page.locator(".jp-DebugConsole")
    console.locator(".jp-CodeConsole-promptCell .cm-content").click()
    page.keyboard.type("width * 100 + height")
    page.keyboard.press("Shift+Enter")
    expect(console.locator(".jp-CodeConsole-content")).to_contain_text("307")
    debugger.picture("evaluated")
    debugger.terminate()
    expect(console).to_have_count(0)  # it belonged to the session that has ended
    expect(debugger.notebook.prompt(2)).to_have_text("[5]:")


def test_pause_on_exceptions_can_be_chosen_in_the_next_notebook(debug, page, write_notebook):
    # given: a notebook that was debugged, with its globals shown; its kernel restarted; its debugger off
    debugger = debug(LOOP)
    debugger.break_at(0, 3)
    debugger.restart()
    debugger.globals()
    debugger.switch(on=False)
    expect(debugger.exceptions).to_have_attribute("disabled", "")
    # when
    other = debugger.in_another_notebook(write_notebook("1 / 0", name="other"))
    other.switch(on=True)
    other.pause_on("uncaught")
    # then
    other.notebook.run(0)
    other.expect_stop(0, "<module> (Current frame)", text="1 / 0")
    other.picture("other-notebook")
    other.press("continue")
    other.expect_no_stop()


def test_terminate_ends_the_stop_and_the_debugger_goes_on(debug):
    debugger = debug(LOOP)
    debugger.break_at(0, 3)
    debugger.notebook.run(0)
    debugger.expect_stop(0, "<module>", text="    total += turn")

    debugger.terminate()

    expect(debugger.notebook.prompt(0)).to_have_text("[1]:")
    debugger.picture("terminated")
    debugger.notebook.run(0)
    debugger.expect_stop(0, "<module>", text="    total += turn")
