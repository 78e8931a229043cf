"""connection: what a connection file may say, without a process."""

import json
from pathlib import Path

import pytest

from ipymini import connection


def test_a_file_is_read_and_written_back_with_what_we_do_not_know(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "kernel.json"
    given = connection.parse({"shell_port": 5, "key": "k", "kernel_name": "n", "ip": "127.0.0.1"})
    connection.write(file, given.with_ports({"hb": 7}))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    said = json.loads(file.read_text())
    assert (said["shell_port"], said["hb_port"], said["key"], said["kernel_name"]) == (5, 7, "k", "n")
    assert connection.read(file) == given.with_ports({"hb": 7})


@pytest.mark.parametrize(
    ("said", "endpoint"),
    [
        ({"shell_port": 5}, "tcp://127.0.0.1:5"),
        ({}, "tcp://127.0.0.1:*"),
        ({"ip": "::1", "shell_port": 5}, "tcp://[::1]:5"),
        ({"transport": "ipc", "ip": "/tmp/k", "shell_port": 1}, "ipc:///tmp/k-1"),
    ],
)
def test_endpoints(said: dict[str, object], endpoint: str) -> None:
    assert connection.parse(said).endpoint("shell") == endpoint


@pytest.mark.parametrize(
    "said", [{"transport": "udp"}, {"signature_scheme": "none"}, {"shell_port": "x"}, {"curve_publickey": "short"}]
)
def test_nonsense_is_refused_with_a_reason(said: dict[str, object]) -> None:
    with pytest.raises(connection.BadConnectionFile, match="expected"):
        connection.parse(said)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "k.json"
    file.write_text(text)
    with pytest.raises(connection.BadConnectionFile, match=r"k\.json"):
        connection.read(file)


def test_a_new_connection_has_a_key_of_its_own() -> None:
    first, second = connection.new(), connection.new()
    assert first.key and first.key != second.key
    assert set(first.ports.values()) == {0}
