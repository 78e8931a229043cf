"""A real `jupyter lab` that knows the ipymini kernel only, and a real Chromium that looks at it."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from pages import Notebook
from playwright.sync_api import expect

from ipymini.tools import kernelspec

START = 120  # seconds until the server must listen
DEADLINE = 30_000  # milliseconds until what a test waits for must be on the page

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


@dataclass
class Lab:
    """A running server: where it is, and the directory it serves."""

    url: str
    token: str
    root: Path


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Start JupyterLab on a port of its own, with directories of its own."""
    own = tmp_path_factory.mktemp("lab")
    root, settings = own / "root", own / "settings"
    root.mkdir()
    kernelspec.install(own / "path" / "kernels", "ipymini", kernelspec.make_spec(python=sys.executable))
    for name, values in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    directories = {
        "JUPYTER_PATH": "path", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython", "HOME": "home",
    }  # fmt: skip
    env = os.environ | {name: str(own / directory) for name, directory in directories.items()}
    (own / "home").mkdir()
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
    command += ["--KernelSpecManager.allowed_kernelspecs=ipymini", "--KernelSpecManager.ensure_native_kernel=False"]

    server = subprocess.Popen(command, env=env, cwd=own, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    log = deque(maxlen=200)
    listening = threading.Event()
    found = []

    def read():
        for line in server.stderr:
            log.append(line)
            at = re.search(r"(http://127\.0\.0\.1:[1-9]\d*/)lab", line)
            if at and not found:
                found.append(at[1])
                listening.set()
        listening.set()  # it has ended

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(START) and found, "jupyter lab did not start:\n" + "".join(log)
        yield Lab(found[0], token, root)
    finally:
        server.terminate()  # it shuts its kernels down
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)
        reader.join(20)


@pytest.fixture(autouse=True, scope="session")
def patience():
    """What a test expects to see may take as long as what it waits for."""
    expect.set_options(timeout=DEADLINE)


@pytest.fixture(scope="session")
def browser():
    """Start Chromium once; each test has a page of its own."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "no chromium found: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where the screenshots go: $IPYMINI_SCREENSHOTS, or else pytest's own temporary directory."""
    asked = os.environ.get("IPYMINI_SCREENSHOTS")
    directory = Path(asked) if asked else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
def page(browser, lab, screenshots, request):
    """A browser window, logged in; a picture of it is taken when the test ends, however it ends."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(DEADLINE)
    page = context.new_page()
    page.goto(f"{lab.url}login?token={lab.token}&next=%2Fapi%2Fstatus")
    yield page
    page.screenshot(path=str(screenshots / f"{request.node.name}.png"))
    context.close()


@pytest.fixture
def write_notebook(lab, request):
    """Return write_notebook(*sources, name=): write these code cells where the server finds them; return the file."""

    def write_notebook(*sources, name=request.node.name):
        name = f"{name}.ipynb"
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        spec = {"name": "ipymini", "display_name": kernelspec.DISPLAY_NAME, "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), lab.root / name)
        return name

    return write_notebook


@pytest.fixture
def open_notebook(page, lab, request, write_notebook):
    """Return open_notebook(*sources, path=): open these code cells, or a copy of a notebook, with its kernel ready."""

    def open_notebook(*sources, path=None):
        if path:
            name = f"{request.node.name}.ipynb"
            shutil.copyfile(path, lab.root / name)
        else:
            name = write_notebook(*sources)
        page.goto(f"{lab.url}lab/tree/{name}?reset")
        notebook = Notebook(page)
        notebook.wait_until_idle()
        return notebook

    return open_notebook


@pytest.fixture
def ask_while_busy(page):
    """Return ask_while_busy(notebook): in its first cell something blocks; complete and inspect in the next two."""

    def ask_while_busy(notebook):
        notebook.run(0)
        expect(notebook.output(0)).to_contain_text("begun")

        notebook.click(1)
        page.keyboard.press("End")
        page.keyboard.press("Tab")
        expect(page.locator(".jp-Completer-item", has_text="perf_counter_ns")).to_be_visible()
        page.keyboard.press("Escape")
        notebook.click(2)
        page.keyboard.press("End")
        page.keyboard.press("Shift+Tab")
        expect(page.locator(".jp-Tooltip")).to_contain_text("Performance counter")

        notebook.press("interrupt")
        expect(notebook.output(0)).to_contain_text("KeyboardInterrupt")

    return ask_while_busy
