"""The bridge that the tests of a module share, without a kernel."""

import os
import sys

import pytest
from bridge_session import RecordingIOPub, Session


@pytest.fixture(scope="module")
def module_bridge(tmp_path_factory):
    from ipymini.bridge import Bridge

    before, modules = dict(os.environ), sys.modules["__main__"]
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    iopub = RecordingIOPub()
    bridge = Bridge(iopub=iopub)
    yield bridge, iopub
    bridge.shutdown()
    bridge.uninstall()
    os.environ.clear()
    os.environ.update(before)
    sys.modules["__main__"] = modules


@pytest.fixture
def main(module_bridge):
    """The main shell, with an empty namespace."""
    bridge, iopub = module_bridge
    bridge.shell.reset()
    iopub.said.clear()
    return Session(bridge, iopub)
