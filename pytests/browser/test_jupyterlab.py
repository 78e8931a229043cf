"""What a person sees of the kernel in JupyterLab, from the launcher to the completer."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_launcher_shows_the_kernel_with_its_logo_and_starts_it(page, lab, screenshots):
    page.goto(f"{lab.url}lab?reset")

    card = page.locator('.jp-LauncherCard[data-category="Notebook"]')
    expect(card).to_have_count(1)
    expect(card.locator(".jp-LauncherCard-label")).to_have_text("Python 3 (ipymini)")
    logo = card.locator("img.jp-Launcher-kernelIcon")
    expect(logo).to_have_attribute("src", "/kernelspecs/ipymini/logo-svg.svg")
    assert logo.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 0
    page.screenshot(path=str(screenshots / "launcher.png"))

    card.click()
    expect(page.locator(".jp-KernelName:visible")).to_have_text("Python 3 (ipymini)")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()


def test_cells_run_one_after_another(open_notebook):
    notebook = open_notebook(
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nx = 6",
        "x * 7",
        "1/0",
        "from IPython.display import HTML\nHTML('<em>rich</em>')",
    )

    for number in range(3):
        notebook.run(number)
    expect(notebook.output(0)).to_have_text("out\nerr\n", use_inner_text=False)
    expect(notebook.output(1).locator(".jp-OutputArea-output")).to_have_text("42")
    expect(notebook.output(2)).to_contain_text("ZeroDivisionError: division by zero")
    notebook.run(3)
    expect(notebook.output(3).locator("em")).to_have_text("rich")
    expect(notebook.panel.locator(".jp-InputPrompt")).to_have_text(["[1]:", "[2]:", "[3]:", "[4]:", "[ ]:"])


def test_a_plot_appears(open_notebook):
    notebook = open_notebook("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")

    notebook.run(0)

    plot = notebook.output(0).locator("img")
    plot.wait_for()
    assert plot.evaluate("image => image.naturalWidth") > 200


def test_a_slider_moves_a_python_value(open_notebook):
    notebook = open_notebook(
        "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=10)\n"
        "square = ipywidgets.Label()\n"
        "slider.observe(lambda change: setattr(square, 'value', f'square {change.new ** 2}'), 'value')\n"
        "display(slider, square)",
        "slider.value",
        "slider.value = 9",
    )
    notebook.run(0)
    handle = notebook.output(0).locator(".noUi-handle")
    handle.wait_for()

    for _ in range(4):
        handle.press("ArrowRight")

    expect(notebook.output(0).locator(".widget-readout")).to_have_text("7")
    expect(notebook.output(0)).to_contain_text("square 49")
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("7")
    notebook.run(2)
    expect(notebook.output(0).locator(".widget-readout")).to_have_text("9")
    expect(notebook.output(0)).to_contain_text("square 81")


def test_input_asks_and_gets_the_answer(open_notebook):
    notebook = open_notebook("name = input('Who? ')\nprint(f'Hello, {name}!')")
    notebook.run(0)

    field = notebook.cell(0).locator(".jp-Stdin-input")
    expect(notebook.cell(0).locator(".jp-Stdin-prompt")).to_have_text("Who? ", use_inner_text=False)
    field.fill("Ada")
    field.press("Enter")

    expect(notebook.output(0)).to_contain_text("Hello, Ada!")


@pytest.mark.parametrize(
    "code",
    ["import time\nprint('begun')\ntime.sleep(300)", "import asyncio\nprint('begun')\nawait asyncio.sleep(300)"],
    ids=["sync", "await"],
)
def test_the_stop_button_interrupts(open_notebook, code):
    notebook = open_notebook(code, "'still alive'")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("begun")
    expect(notebook.prompt(0)).to_have_text("[*]:")

    notebook.press("interrupt")

    expect(notebook.output(0)).to_contain_text("KeyboardInterrupt")
    expect(notebook.output(0)).to_contain_text("----> 3")  # the line that was interrupted
    expect(notebook.output(0)).not_to_contain_text("lane.py")  # and none of ours
    expect(notebook.prompt(0)).to_have_text("[1]:")
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("still alive")


def test_restart_forgets_everything(open_notebook, page):
    notebook = open_notebook("x = 1\nprint('set')", "x")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("set")

    notebook.press("restart")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    notebook.wait_until_idle()
    notebook.run(1)

    expect(notebook.output(1)).to_contain_text("NameError: name 'x' is not defined")
    expect(notebook.prompt(1)).to_have_text("[1]:")


def test_tab_completes(open_notebook, page):
    notebook = open_notebook("import collections", "collections.Ord", "collections.")
    notebook.run(0)
    expect(notebook.prompt(0)).to_have_text("[1]:")

    notebook.click(1)
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    items = page.locator(".jp-Completer-item")
    expect(items.locator(".jp-Completer-match")).to_have_text(["OrderedDict"])
    expect(items.locator(".jp-Completer-typeExtended")).to_have_text([re.compile("class|attribute")])
    page.keyboard.press("Enter")
    expect(notebook.cell(1).locator(".cm-content")).to_have_text("collections.OrderedDict")

    notebook.click(2)
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    items.filter(has_text="deque").click()
    expect(notebook.cell(2).locator(".cm-content")).to_have_text("collections.deque")


def test_completion_and_tooltip_answer_while_a_cell_blocks(open_notebook, ask_while_busy):  # Q10
    ask_while_busy(open_notebook("import time\nprint('begun')\ntime.sleep(300)", "time.perf_c", "time.perf_counter"))


def test_the_tour_runs_from_top_to_bottom(open_notebook, page, screenshots):
    notebook = open_notebook(path=EXAMPLES / "tour.ipynb")

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    field = notebook.panel.locator(".jp-Stdin-input")
    field.fill("Ada")
    field.press("Enter")

    expect(notebook.panel.get_by_text("Hello, Ada!")).to_be_visible()
    expect(notebook.panel.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(0)
    stderr = notebook.panel.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
    expect(stderr).to_have_text(["to stderr", re.compile("ZeroDivisionError"), re.compile("ExceptionGroup")])
    expect(notebook.panel.locator(".jp-OutputArea-output img")).to_have_count(1)
    expect(notebook.panel.get_by_text("n squared is 49").first).to_be_visible()
    notebook.panel.locator(".jp-OutputArea-output img").scroll_into_view_if_needed()
    page.screenshot(path=str(screenshots / "tour.png"))
