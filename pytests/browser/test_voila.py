"""Voila serves a notebook as an application: its widgets talk to our kernel, also to one that was started before."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import nbformat
import pytest
from harness import free_ports
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from ipymini.tools import kernelspec

pytestmark = pytest.mark.browser

START = 120  # seconds until the server must answer
APPLICATION = """
import ipymini, os, ipywidgets
ipymini.get_connection_file()
slider = ipywidgets.IntSlider(value=3, max=10)
said = ipywidgets.Label(value='square 9')
slider.observe(lambda change: setattr(said, 'value', f'square {change.new ** 2}'), 'value')
display(slider, said)
print('process', os.getpid())
"""


@contextmanager
def voila(tmp_path, *options):
    """Serve a directory with one application; yields its address."""
    kernelspec.install(tmp_path / "path" / "kernels", "ipymini", kernelspec.make_spec(python=sys.executable))
    names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    for name in (*names, "root"):
        (tmp_path / name).mkdir()
    env = os.environ | {name: str(tmp_path / name) for name in names} | {"JUPYTER_PATH": str(tmp_path / "path")}
    spec = {"name": "ipymini", "display_name": kernelspec.DISPLAY_NAME, "language": "python"}
    notebook = new_notebook(cells=[new_code_cell(APPLICATION)], metadata={"kernelspec": spec})
    nbformat.write(notebook, tmp_path / "root" / "application.ipynb")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "voila", str(tmp_path / "root"), "--no-browser", f"--port={port}", *options]
    with (tmp_path / "voila.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    address, end = f"http://127.0.0.1:{port}/voila", time.monotonic() + START
    try:
        while True:
            assert server.poll() is None and time.monotonic() < end, (tmp_path / "voila.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/static/require.min.js", timeout=5).close()
                break
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                time.sleep(0.1)
        yield f"{address}/render/application.ipynb"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("options", [(), ("--preheat_kernel=True", "--pool_size=2")], ids=["fresh", "preheated"])
def test_an_applications_slider_moves_python(browser, screenshots, tmp_path, request, options):
    with voila(tmp_path, *options) as address:
        processes = []
        for _ in range(2):  # two visitors have a kernel each
            context = browser.new_context(viewport={"width": 900, "height": 500})
            page = context.new_page()
            page.goto(address, timeout=START * 1000)
            expect(page.locator("body")).to_contain_text("process ")
            handle = page.locator(".noUi-handle")
            handle.wait_for()
            for _ in range(4):
                handle.press("ArrowRight")
            expect(page.locator("body")).to_contain_text("square 49")
            processes.append(page.get_by_text("process ").first.inner_text())
            page.screenshot(path=str(screenshots / f"{request.node.name}.png"))
            context.close()
        assert len(set(processes)) == 2
