"""When IPython's application is not needed: there is nothing for it to read."""

from pathlib import Path

import pytest

from ipymini.ipython.startup import PlainStart


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the default profile, in which IPython has made its directories."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("PYTHONSTARTUP", raising=False)
    assert PlainStart.begin([], "") is not None
    return tmp_path / "profile_default"


def test_with_nothing_to_read_the_configuration_is_the_connection_file(profile: Path) -> None:
    start = PlainStart.begin([], "/tmp/kernel.json")

    assert start is not None
    assert start.config == {"IPKernelApp": {"connection_file": "/tmp/kernel.json"}}
    assert (start.directories.profile_dir.location, start.directories.warnings) == (str(profile), [])


@pytest.mark.parametrize(
    "name",
    ["ipython_config.py", "ipython_config.json", "ipython_kernel_config.py", "startup/00-first.py", "startup/last.ipy"],
)
def test_a_file_in_the_profile_is_for_the_application(profile: Path, name: str) -> None:
    (profile / name).touch()

    assert PlainStart.begin([], "") is None


def test_an_option_is_for_the_application(profile: Path) -> None:
    assert PlainStart.begin(["--debug"], "") is None


def test_a_python_startup_file_is_for_the_application(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "first.py")

    assert PlainStart.begin([], "") is None
