"""Notebook 7, which is one document on one page."""

import pytest
from pages import Notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(page, lab, write_notebook):
    """Return open_page(*sources): open these cells in Notebook 7, with their kernel ready."""

    def open_page(*sources):
        page.goto(f"{lab.url}notebooks/{write_notebook(*sources)}?token={lab.token}")
        notebook = Notebook(page, has_status_bar=False)
        notebook.wait_until_idle()
        return notebook

    return open_page


def test_cells_run_and_an_error_stops_those_behind_it(open_page, page):
    notebook = open_page("print('said')\n6 * 7", "1/0", "'never'")

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    expect(notebook.output(0)).to_contain_text("said")
    expect(notebook.output(0)).to_contain_text("42")
    expect(notebook.output(1)).to_contain_text("ZeroDivisionError: division by zero")
    expect(page.locator(".jp-Notebook .jp-InputPrompt")).to_have_text(["[1]:", "[2]:", "[ ]:"])
    logo = page.locator(".jp-NotebookKernelLogo img")
    assert logo.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 0


def test_plots_and_widgets_appear(open_page):
    notebook = open_page(
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);",
        "import ipywidgets\n@ipywidgets.interact(n=(0, 10))\ndef square(n=3): print('square', n * n)",
    )
    notebook.run(0)
    plot = notebook.output(0).locator("img")
    plot.wait_for()
    assert plot.evaluate("image => image.naturalWidth") > 200
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("square 9")

    track = notebook.output(1).locator(".noUi-target")
    track.click(position={"x": track.bounding_box()["width"] - 1, "y": 2})

    expect(notebook.output(1)).to_contain_text("square 100")


def test_input_and_pdb_ask(open_page):
    notebook = open_page("name = input('Who? ')\nbreakpoint()\nprint(f'Hello, {name}!')")
    notebook.run(0)

    for prompt, text, echo in (
        ("Who? ", "Ada", "Ada"),
        ("ipdb>", "p name * 2", "AdaAda"),
        ("ipdb>", "c", "Hello, Ada!"),
    ):
        expect(notebook.cell(0).locator(".jp-Stdin-prompt").last).to_contain_text(prompt)
        field = notebook.cell(0).locator(".jp-Stdin-input")
        expect(field).to_have_count(1)  # the one before has gone
        expect(field).to_have_value("")
        field.fill(text)
        field.press("Enter")
        expect(notebook.output(0)).to_contain_text(echo)

    expect(notebook.prompt(0)).to_have_text("[1]:")


@pytest.mark.parametrize("wait", ["import time; time.sleep(300)", "import asyncio; await asyncio.sleep(300)"])
def test_the_stop_button_interrupts(open_page, wait):
    notebook = open_page(f"print('begun')\n{wait}", "'still alive'")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("begun")

    notebook.press("interrupt")

    expect(notebook.output(0)).to_contain_text("KeyboardInterrupt")
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("still alive")


def test_restart_and_crash(open_page, page):
    notebook = open_page("x = 1\n'set'", "'x' in globals()", "import os; os.kill(os.getpid(), 9)")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("set")
    notebook.press("restart")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    notebook.wait_until_idle()
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("False")

    notebook.run(2)
    expect(page.locator(".jp-Dialog")).to_contain_text("Kernel Restarting")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    notebook.wait_until_idle()
    notebook.run(1)

    expect(notebook.prompt(1)).to_have_text("[1]:")


def test_completion_and_tooltip_answer_while_a_cell_blocks(open_page, ask_while_busy):  # Q10
    ask_while_busy(open_page("import time\nprint('begun')\ntime.sleep(300)", "time.perf_c", "time.perf_counter"))
