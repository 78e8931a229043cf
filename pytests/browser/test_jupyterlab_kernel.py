"""JupyterLab and its kernel when things go wrong, take long, or happen side by side."""

import re

import pytest
from pages import listen
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def command(page, label):
    """Run a command by its label, as a person does in the palette."""
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill(label)
    page.locator(".lm-CommandPalette-item").filter(has_text=label).first.click()


def answer(notebook, cell, prompt, text):
    """Answer a prompt on standard input."""
    expect(notebook.cell(cell).locator(".jp-Stdin-prompt").last).to_contain_text(prompt)
    field = notebook.cell(cell).locator(".jp-Stdin-input").last
    field.fill(text)
    field.press("Enter")


def test_an_error_stops_the_cells_behind_it_and_they_get_no_number(open_notebook, page):
    notebook = open_notebook("1", "1/0", "'never'", "'never either'")

    run_all(page)

    expect(notebook.output(1)).to_contain_text("ZeroDivisionError")
    expect(notebook.panel.locator(".jp-InputPrompt")).to_have_text(["[1]:", "[2]:", "[ ]:", "[ ]:"])
    notebook.run(2)
    expect(notebook.prompt(2)).to_have_text("[3]:")
    expect(notebook.output(2)).to_contain_text("never")


def test_late_output_of_a_thread_stays_in_its_cell(open_notebook):  # O1
    notebook = open_notebook(
        "import threading\ngo = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(60), print('from the thread'))).start()",
        "go.set(); print('from the second cell')",
    )
    notebook.run(0)
    expect(notebook.prompt(0)).to_have_text("[1]:")
    notebook.run(1)

    expect(notebook.output(0)).to_contain_text("from the thread")
    expect(notebook.output(1)).to_have_text("from the second cell\n", use_inner_text=False)


def test_output_of_the_shell_and_of_file_descriptors_appears(open_notebook):  # O15
    notebook = open_notebook(
        "import os, subprocess, sys\nos.system('echo from the shell')\nos.write(1, b'raw bytes\\n')\n"
        "subprocess.run(['echo', 'redirected'], stdout=sys.stdout);"
    )

    notebook.run(0)

    for text in ("from the shell", "raw bytes", "redirected"):
        expect(notebook.output(0)).to_contain_text(text)


def test_a_flood_of_output_freezes_neither_the_page_nor_the_kernel(open_notebook, page):
    notebook = open_notebook("while True: print('flood' * 20)", "'dry again'")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("flood")

    notebook.press("interrupt")

    expect(notebook.prompt(0)).to_have_text("[1]:")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    notebook.run(1)
    expect(notebook.output(1)).to_contain_text("dry again")


def test_pdb_is_a_conversation(open_notebook):
    notebook = open_notebook("def f(value):\n    breakpoint()\n    return value * 2\nf(21)")
    notebook.run(0)

    answer(notebook, 0, "ipdb>", "p value + 1000")
    expect(notebook.output(0)).to_contain_text("1021")
    answer(notebook, 0, "ipdb>", "c")

    expect(notebook.output(0)).to_contain_text("42")
    expect(notebook.prompt(0)).to_have_text("[1]:")


def test_the_debugger_of_a_past_error_is_a_conversation(open_notebook):
    notebook = open_notebook("def f(value):\n    return value / 0\nf(21)", "%debug")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("ZeroDivisionError")
    notebook.run(1)

    answer(notebook, 1, "ipdb>", "p value + 1000")
    expect(notebook.output(1)).to_contain_text("1021")
    answer(notebook, 1, "ipdb>", "q")

    expect(notebook.prompt(1)).to_have_text("[2]:")


def test_a_crash_is_said_and_the_kernel_comes_back(open_notebook, page):
    notebook = open_notebook("x = 1\nimport os\nos.kill(os.getpid(), 9)", "'x' in globals()")
    notebook.run(0)

    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Kernel Restarting")
    dialog.locator(".jp-mod-accept").click()
    notebook.wait_until_idle()
    notebook.run(1)

    expect(notebook.output(1)).to_contain_text("False")
    expect(notebook.prompt(1)).to_have_text("[1]:")


def test_a_page_that_is_loaded_again_finds_its_kernel(open_notebook, page):
    notebook = open_notebook("x = 41", "x + 1")
    notebook.run(0)
    expect(notebook.prompt(0)).to_have_text("[1]:")
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-current .jp-DirtyIndicator")).to_have_count(0)

    page.reload()
    notebook.wait_until_idle()
    notebook.run(1)

    expect(notebook.output(1)).to_contain_text("42")
    expect(notebook.prompt(1)).to_have_text("[2]:")


def test_the_contextual_help_says_what_a_name_is(open_notebook, page):
    notebook = open_notebook("import collections", "collections.OrderedDict")
    notebook.run(0)
    expect(notebook.prompt(0)).to_have_text("[1]:")

    page.keyboard.press("Control+i")
    notebook.click(1)
    page.keyboard.press("End")

    expect(page.locator(".jp-Inspector")).to_contain_text("Dictionary that remembers insertion order")


def test_a_subshell_console_answers_while_a_cell_runs(open_notebook, page, screenshots):  # B3
    notebook = open_notebook("import time\nshared = 'seen by all'\nprint('begun')\ntime.sleep(300)")
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("begun")

    has_its_subshell = listen(page, "create_subshell_reply")  # JupyterLab does not wait for it, and shows no sign of it
    command(page, "New Subshell Console for Notebook")
    has_its_subshell()
    console = page.locator(".jp-CodeConsole:visible")
    console.locator(".jp-CodeConsole-promptCell .cm-content").click()
    page.keyboard.type("shared.upper()")
    page.keyboard.press("Shift+Enter")

    expect(console.locator(".jp-OutputArea-output").last).to_contain_text("SEEN BY ALL")
    page.screenshot(path=str(screenshots / "subshell-console.png"))
    expect(notebook.prompt(0)).to_have_text("[*]:")
    notebook.press("interrupt")
    expect(notebook.output(0)).to_contain_text("KeyboardInterrupt")


def test_a_console_has_a_history(lab, page):
    page.goto(f"{lab.url}lab?reset")
    page.locator('.jp-LauncherCard[data-category="Console"]').click()
    console = page.locator(".jp-CodeConsole:visible")
    prompt = console.locator(".jp-CodeConsole-promptCell .cm-content")
    expect(console.locator(".jp-CodeConsole-banner")).to_contain_text("IPython")
    for code in ("6 * 7", "'second'"):
        prompt.click()
        page.keyboard.type(code)
        page.keyboard.press("Shift+Enter")
        expect(console.locator(".jp-CodeConsole-content .jp-OutputArea-output").last).to_contain_text(str(eval(code)))

    page.keyboard.press("ArrowUp")
    expect(prompt).to_have_text("'second'")
    page.keyboard.press("ArrowUp")

    expect(prompt).to_have_text("6 * 7")


def test_output_widgets_take_what_threads_print(open_notebook):
    notebook = open_notebook(
        "import ipywidgets, threading\nout = ipywidgets.Output()\ndisplay(out)\n"
        "def work():\n    out.append_stdout('from a thread\\n')\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "with out: print('from the cell')\nprint('outside')"
    )

    notebook.run(0)

    widget = notebook.output(0).locator(".jupyter-widgets.jp-OutputArea-output, .widget-output").first
    expect(widget).to_contain_text("from a thread")
    expect(widget).to_contain_text("from the cell")
    expect(widget).not_to_contain_text("outside")
    expect(notebook.output(0)).to_contain_text("outside")


def test_interact_runs_a_function_as_its_slider_moves(open_notebook):
    notebook = open_notebook(
        "import ipywidgets\n@ipywidgets.interact(n=(0, 10))\ndef square(n=3): print('square', n * n)",
    )
    notebook.run(0)
    expect(notebook.output(0)).to_contain_text("square 9")

    notebook.output(0).locator(".noUi-handle").press("ArrowRight")

    expect(notebook.output(0)).to_contain_text("square 16")
    expect(notebook.output(0)).not_to_contain_text("square 9")


def test_a_widget_answers_while_a_cell_awaits(open_notebook):
    notebook = open_notebook(
        "import asyncio, ipywidgets\ndone = asyncio.Event()\nbutton = ipywidgets.Button(description='Go on')\n"
        "button.on_click(lambda _: done.set())\ndisplay(button)\nawait done.wait()\nprint('went on')"
    )
    notebook.run(0)

    notebook.output(0).get_by_role("button", name="Go on").click()

    expect(notebook.output(0)).to_contain_text("went on")
    expect(notebook.prompt(0)).to_have_text("[1]:")


def test_the_usage_panel_shows_the_kernel(open_notebook, page):
    notebook = open_notebook("import socket, os; print(os.getpid(), socket.gethostname())")
    notebook.run(0)
    expect(notebook.prompt(0)).to_have_text("[1]:")
    said = notebook.output(0).inner_text().split()

    page.locator('[data-id="kernelusage-panel-id"], [title="Kernel Usage"]').first.click()

    panel = page.locator("#kernelusage-panel-id")
    expect(panel).to_contain_text(f"Process ID: {said[0]}")
    expect(panel).to_contain_text(f"Kernel Host: {said[1]}")
    expect(panel).to_contain_text(re.compile(r"Memory:\s*\d+(\.\d+)? MB"))
