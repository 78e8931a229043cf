"""connection: what a connection file may say, without a process."""

import json
from pathlib import Path

import pytest

from ipymini.protocol import connection


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


@pytest.mark.parametrize("text", ["40000..40009", "40000:40009", "40000-40009", " 40000..40009 "])
def test_a_port_range_has_both_its_ends(text: str) -> None:
    ports = connection.parse_port_range(text)
    assert ports is not None and (ports[0], ports[-1], len(ports)) == (40000, 40009, 10)


@pytest.mark.parametrize("text", ["", "0..0", "40000..40000"])
def test_an_empty_port_range_means_any_port(text: str) -> None:
    assert connection.parse_port_range(text) is None


@pytest.mark.parametrize("text", ["40000", "a..b", "41000..40000", "0..40000", "40000..70000", "40000...40001"])
def test_a_port_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(connection.BadPortRange, match="port range"):
        connection.parse_port_range(text)


def test_half_an_encryption_is_refused() -> None:
    with pytest.raises(connection.BadConnectionFile, match="both curve keys"):
        connection.parse({"curve_publickey": "k" * 40})


@pytest.mark.parametrize(
    ("said", "is_open"),
    [
        ({}, False),
        ({"ip": "127.0.0.2"}, False),
        ({"ip": "::1"}, False),
        ({"ip": "localhost"}, False),
        ({"ip": "/tmp/k", "transport": "ipc"}, False),
        ({"ip": "0.0.0.0"}, True),
        ({"ip": "*"}, True),
        ({"ip": "0.0.0.0", "curve_publickey": "p" * 40, "curve_secretkey": "s" * 40}, False),
    ],
)
def test_who_may_read_along(said: dict[str, object], is_open: bool) -> None:
    assert connection.parse(said).is_open_to_others is is_open


@pytest.mark.parametrize(
    ("said", "endpoint"),
    [
        ({}, None),
        ({"ip": "10.0.0.1", "registration_port": 77}, "tcp://10.0.0.1:77"),
        ({"ip": "0.0.0.0", "registration_ip": "10.0.0.9", "registration_port": "77"}, "tcp://10.0.0.9:77"),
    ],
)
def test_where_a_kernel_registers(said: dict[str, object], endpoint: str | None) -> None:
    assert connection.parse(said).registration == endpoint


def test_a_kernel_that_registers_chooses_its_ports_again_at_each_start() -> None:
    first = connection.parse({"registration_port": 77}).with_ports({"shell": 5})
    assert set(connection.parse(first.as_dict()).ports.values()) == {0}
    assert connection.parse(first.as_dict()).registration == first.registration
