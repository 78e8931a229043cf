"""connection: the connection file: read, check, write (0600), endpoints. Opens no sockets."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ipymini.protocol.messages import IpyminiError
from ipymini.protocol.originals import __builtins__  # noqa: F401

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


class BadConnectionFile(IpyminiError):
    """The connection file cannot be used; the text says what is wrong with it."""


class BadPortRange(IpyminiError):
    """A range of ports that is none."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What a connection file says. Port 0: choose one. `extra` keeps keys we do not know. Spec: "Connection files".

    `port_range` is a key of our own: where it is given, ports that are 0 are chosen from it.
    """

    transport: str = "tcp"
    ip: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    key: str = ""
    signature_scheme: str = "hmac-sha256"
    curve_publickey: bytes = b""
    curve_secretkey: bytes = b""
    extra: dict[str, Any] = field(default_factory=dict)
    port_range: range | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether the sockets have to be CurveZMQ servers."""
        return bool(self.curve_publickey and self.curve_secretkey)

    @property
    def is_open_to_others(self) -> bool:
        """Whether other machines may reach the sockets and read along: tcp beyond loopback, without encryption."""
        is_loopback = self.ip.startswith("127.") or self.ip in ("::1", "localhost", "lo")
        return self.transport == "tcp" and not self.is_encrypted and not is_loopback

    @property
    def registration(self) -> str | None:
        """The endpoint to which the kernel has to tell its ports, if its launcher has left them to it. JEP 66."""
        port = self.extra.get("registration_port")
        if not port:
            return None
        host = str(self.extra.get("registration_ip") or self.ip)
        if self.transport == "ipc":
            return f"ipc://{host}-{port}"
        return f"tcp://{_bracketed(host)}:{port}"

    def endpoint(self, channel: str, port: int | None = None) -> str:
        """Return the zmq endpoint of a channel: `tcp://ip:port` (0 is `*`) or `ipc://ip-port`."""
        port = self.ports[channel] if port is None else port
        if self.transport == "ipc":
            return f"ipc://{self.ip}-{port}"
        return f"{self.transport}://{_bracketed(self.ip)}:{port or '*'}"

    def with_ports(self, ports: dict[str, int]) -> "Connection":
        """Return the same connection with the ports that were really bound."""
        return replace(self, ports={**self.ports, **ports})

    def as_dict(self) -> dict[str, Any]:
        """Return what belongs into the connection file."""
        return {
            **self.extra,
            **{f"{channel}_port": self.ports[channel] for channel in CHANNELS},
            "ip": self.ip,
            "key": self.key,
            "transport": self.transport,
            "signature_scheme": self.signature_scheme,
            **({"port_range": f"{self.port_range[0]}..{self.port_range[-1]}"} if self.port_range else {}),
            **(
                {
                    "curve_publickey": self.curve_publickey.decode(),
                    "curve_secretkey": self.curve_secretkey.decode(),
                }
                if self.is_encrypted
                else {}
            ),
        }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_port_range(text: str) -> range | None:
    """Return the ports that "LOW..HIGH" names, HIGH among them; also with ":" or "-" between. Raise BadPortRange.

    None, any port, for nothing and for two equal numbers: gateways say "0..0" for that.
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:\.\.|:|-)(\d{1,5})", text.strip())
    if not found:
        raise BadPortRange(f"expected a port range like 40000..41000, {text!r} came")
    low, high = int(found[1]), int(found[2])
    if low == high:
        return None
    if not 0 < low < high < 65_536:
        raise BadPortRange(f"expected a port range from low to high, between 1 and 65535, {text!r} came")
    return range(low, high + 1)


def in_random_order(ports: range) -> Iterator[int]:
    """Yield every port of a range, from a random one on: kernels that start together seldom ask for the same."""
    start = int.from_bytes(os.urandom(4)) % len(ports)
    yield from ports[start:]
    yield from ports[:start]


def new(**given: Any) -> Connection:
    """Return a connection of our own: a fresh key, loopback, ports to be chosen. `given` as in the file."""
    return parse({"key": os.urandom(32).hex(), **given})


def parse(data: dict[str, Any]) -> Connection:
    """Return the connection that the keys of a connection file describe. Raise BadConnectionFile or BadPortRange.

    Ports beside a registration_port are those of an earlier start: the kernel chooses again.
    """
    known = {"transport", "ip", "key", "signature_scheme", "curve_publickey", "curve_secretkey", "port_range"}
    known |= {f"{channel}_port" for channel in CHANNELS}
    transport, scheme = data.get("transport", "tcp"), data.get("signature_scheme") or "hmac-sha256"
    if transport not in ("tcp", "ipc"):
        raise BadConnectionFile(f"expected transport tcp or ipc, {transport!r} came: correct the connection file")
    if not str(scheme).startswith("hmac-"):
        raise BadConnectionFile(f"expected a signature_scheme like hmac-sha256, {scheme!r} came")
    key = data.get("key", "")
    ports = {channel: _port(channel, data.get(f"{channel}_port", 0)) for channel in CHANNELS}
    if data.get("registration_port"):
        ports = dict.fromkeys(CHANNELS, 0)
    if bool(data.get("curve_publickey")) != bool(data.get("curve_secretkey")):
        raise BadConnectionFile("expected both curve keys or none: the kernel does not start with half an encryption")
    return Connection(
        transport=transport,
        ip=data.get("ip") or ("127.0.0.1" if transport == "tcp" else "kernel-ipc"),
        ports=ports,
        key=key.decode() if isinstance(key, bytes) else str(key),
        signature_scheme=str(scheme),
        curve_publickey=_z85(data.get("curve_publickey")),
        curve_secretkey=_z85(data.get("curve_secretkey")),
        extra={name: value for name, value in data.items() if name not in known},
        port_range=parse_port_range(str(data.get("port_range") or "")),
    )


def _port(channel: str, value: Any) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port < 65_536:
        raise BadConnectionFile(
            f"expected a number up to 65535 as {channel}_port, {value!r} came: correct it, or say 0"
        )
    return port


def _z85(value: Any) -> bytes:
    raw = value.encode() if isinstance(value, str) else bytes(value or b"")
    if raw and len(raw) != 40:
        raise BadConnectionFile(f"expected a curve key of 40 Z85 characters, {len(raw)} came")
    return raw


def read(path: Path) -> Connection:
    """Read a connection file. Raise BadConnectionFile if it is no JSON object or makes no sense."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadConnectionFile(f"expected JSON in {path}: {error}") from None
    if not isinstance(data, dict):
        raise BadConnectionFile(f"expected a JSON object in {path}, a {type(data).__name__} came")
    return parse(data)


def write(path: Path, connection: Connection) -> None:
    """Write the file so that nobody but its owner can ever read it: it holds the key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(connection.as_dict(), file, indent=2)
    os.replace(temporary, path)  # a client that waits for the file never sees half of it
