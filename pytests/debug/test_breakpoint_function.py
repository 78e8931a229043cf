"""`breakpoint()` in this process: where it stops, whose pdb is imported, and what the undo gives back. No debugpy."""

import importlib
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from ipymini.debug import breakpoint as ours

PDB = ("pdb", "IPython.core.debugger")
SETTLED = (
    "PYDEVD_USE_SYS_MONITORING",
    "PYDEVD_USE_FRAME_EVAL",
    "PYDEVD_DISABLE_FILE_VALIDATION",
    "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING",
)


class Tracer:
    """What stops cells while a debugger is attached: it notes where it should stop."""

    def __init__(self) -> None:
        self.stopped_in: list[str] = []

    def stop_here(self, frame: FrameType) -> None:
        self.stopped_in.append(frame.f_code.co_name)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SETTLED, "PYTHONBREAKPOINT"):
        monkeypatch.setenv(name, "as it was")  # and again afterwards
        monkeypatch.delenv(name)


@pytest.fixture
def not_imported() -> Iterator[None]:
    """Have neither `pdb` nor IPython's debugger imported."""
    before = {name: sys.modules.pop(name, None) for name in PDB}
    core = importlib.import_module("IPython.core")
    attribute = core.__dict__.pop("debugger", None)
    yield
    sys.modules.update({name: module for name, module in before.items() if module is not None})
    if attribute is not None:
        core.debugger = attribute  # type: ignore[attr-defined]


def names() -> list[Any]:
    pdb, debugger = (importlib.import_module(name) for name in PDB)
    return [pdb.Pdb, pdb.set_trace, debugger.Pdb, debugger.InterruptiblePdb]


def test_undo_gives_back_the_hook_the_finder_and_pdb() -> None:
    for name in PDB:
        importlib.import_module(name)  # by the program around an embedded kernel
    before, hook, finders = names(), sys.breakpointhook, list(sys.meta_path)
    undo = ours.install(lambda: None)
    assert [one.__module__ for one in names()] == [
        "ipymini.debug.cellpdb", "IPython.core.debugger", "ipymini.debug.cellpdb", "ipymini.debug.cellpdb",
    ]  # fmt: skip
    assert sys.breakpointhook is not hook
    undo()
    assert (names(), sys.breakpointhook, sys.meta_path) == (before, hook, finders)


@pytest.mark.parametrize("first", PDB)
def test_pdb_is_ipythons_whichever_is_imported_first_and_pythons_after_the_undo(not_imported: None, first: str) -> None:
    undo = ours.install(lambda: None)
    try:
        importlib.import_module(first)
        during = [one.__module__ for one in names()]
    finally:
        undo()
    assert during == [
        "ipymini.debug.cellpdb", "IPython.core.debugger", "ipymini.debug.cellpdb", "ipymini.debug.cellpdb",
    ]  # fmt: skip
    assert [one.__module__ for one in names()] == ["pdb", "pdb", *["IPython.core.debugger"] * 2]


def test_the_undo_leaves_a_hook_that_the_user_has_set() -> None:
    before = sys.breakpointhook
    undo = ours.install(lambda: None)
    try:
        sys.breakpointhook = theirs = lambda: None
    finally:
        undo()
    assert sys.breakpointhook is theirs
    sys.breakpointhook = before


def test_it_stops_in_a_debugger_that_is_attached_where_it_was_called() -> None:
    tracer = Tracer()
    undo = ours.install(lambda: tracer)
    try:
        breakpoint()
    finally:
        undo()
    assert tracer.stopped_in == [sys._getframe().f_code.co_name]


def test_it_opens_ipdb_where_it_was_called_if_no_debugger_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FrameType] = []
    monkeypatch.setattr(ours, "_open_ipdb", opened.append)
    undo = ours.install(lambda: None)
    try:
        breakpoint()
    finally:
        undo()
    assert [frame.f_code.co_name for frame in opened] == [sys._getframe().f_code.co_name]


def test_pythonbreakpoint_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    tracer = Tracer()
    undo = ours.install(lambda: tracer)
    try:
        breakpoint()
    finally:
        undo()
    assert tracer.stopped_in == []


def test_pydevd_is_settled_before_anybody_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYDEVD_USE_FRAME_EVAL", "the user's")
    ours.install(lambda: None)()
    assert [os.environ[name] for name in SETTLED] == ["0", "the user's", "1", "1"]
