"""wire: frames <-> messages: sign, verify, JSON with its odd cases. Knows no sockets and no threads.

A message on the wire: identities, `<IDS|MSG>`, signature, header, parent header, metadata, content, buffers.
Spec: "The Wire Protocol".
"""

import json
import re
from binascii import b2a_base64
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import new as new_hash
from hmac import compare_digest
from itertools import count
from math import isfinite
from typing import Any

from ipymini.protocol.messages import PROTOCOL_VERSION, SESSION, IpyminiError, Message, Request
from ipymini.protocol.originals import JSONEncoder, __builtins__, os  # noqa: F401

DELIMITER = b"<IDS|MSG>"
REMEMBERED = 32_768  # signatures in one of the two generations that are kept to recognise a replay
LARGE = 32_768  # characters from which a text is worth splicing past the JSON encoder

_SURROGATES = re.compile("[\ud800-\udfff]")
_PLAIN = bytes(range(32, 127)).replace(b'"', b"").replace(b"\\", b"")  # ASCII that JSON writes as it is
_numbers = count()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


class BadFrames(IpyminiError):
    """Frames that are no Jupyter message, or not one for us; they are dropped with a warning."""


class BadSignature(BadFrames):
    """The signature does not belong to the message: a wrong key, or somebody meddled."""


class Signer:
    """HMAC of the four JSON parts. Not safe to share while `sign` runs: it is not, each call copies its state."""

    def __init__(self, key: bytes, scheme: str = "hmac-sha256"):
        self.signs = bool(key)
        name = scheme.removeprefix("hmac-")
        block = new_hash(name).block_size
        padded = (key if len(key) <= block else new_hash(name, key).digest()).ljust(block, b"\0")
        # Two pre-keyed states copied per message cost half of what hmac.copy() costs.
        self._inner = new_hash(name, bytes(byte ^ 0x36 for byte in padded))
        self._outer = new_hash(name, bytes(byte ^ 0x5C for byte in padded))

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """Return the hex signature of the parts, or nothing if there is no key."""
        if not self.signs:
            return b""
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest().encode()


class Wire:
    """One kernel's way of making and reading frames.

    `encode` may be called from any thread. `decode` belongs to the I/O thread: it remembers
    signatures to drop replays.
    """

    def __init__(self, key: bytes, scheme: str = "hmac-sha256"):
        self._signer = Signer(key, scheme)
        self._seen: set[bytes] = set()
        self._seen_before: set[bytes] = set()  # an older generation: dropped whole when `_seen` has filled again

    def encode(self, message: Message, prefix: Sequence[bytes] = ()) -> list[Any]:
        """Return the frames of a message, `prefix` (identities or a topic) first.

        Raises TypeError or ValueError if the content cannot become JSON.
        """
        header = new_header_json(message.msg_type, message.msg_id)
        metadata = dumps(message.metadata) if message.metadata else b"{}"
        content = dumps_content(message.content)
        parts = (header, message.parent, metadata, content)
        return [*prefix, DELIMITER, self._signer.sign(parts), *parts, *message.buffers]

    def decode(self, frames: Sequence[Any], channel: str) -> Request:
        """Return the request in the frames. Raise BadFrames for what is none, BadSignature for a forged one."""
        try:
            start = frames.index(DELIMITER)
        except ValueError:
            raise BadFrames("no <IDS|MSG> delimiter") from None
        if len(frames) < start + 6:
            raise BadFrames(f"{len(frames) - start - 1} frames after the delimiter, at least 5 are needed")
        parts = [bytes(frame) for frame in frames[start + 2 : start + 6]]
        self._verify(bytes(frames[start + 1]), parts)
        header, content = _object(parts[0], "header"), _object(parts[3], "content")
        for key in ("msg_id", "msg_type"):
            if not isinstance(header.get(key), str):
                raise BadFrames(f"the header has no {key}")
        return Request(
            header=header,
            content=content,
            channel=channel,
            identities=tuple(bytes(frame) for frame in frames[:start]),
            metadata={} if parts[2] == b"{}" else _object(parts[2], "metadata"),
            parent_header={} if parts[1] == b"{}" else _object(parts[1], "parent_header"),
            buffers=tuple(frames[start + 6 :]),
            header_json=parts[0],
        )

    def _verify(self, signature: bytes, parts: Sequence[bytes]) -> None:
        if not self._signer.signs:
            return
        if not compare_digest(self._signer.sign(parts), signature):
            raise BadSignature("bad signature")
        mark = signature[:32]  # half of it tells messages apart, and memory grows with every message
        if mark in self._seen or mark in self._seen_before:
            raise BadSignature("a replay: this signature has been seen before")
        self._seen.add(mark)
        if len(self._seen) >= REMEMBERED:
            self._seen, self._seen_before = set(), self._seen


def new_header_json(msg_type: str, msg_id: str | None = None) -> bytes:
    """Return the JSON of a new header: our session, now, a fresh message id unless one is given."""
    msg_id = msg_id or f"{SESSION}_{next(_numbers)}"
    return (
        f'{{"msg_id":"{msg_id}","msg_type":"{msg_type}","session":"{SESSION}","username":"kernel",'
        f'"date":"{datetime.now(UTC).isoformat()}","version":"{PROTOCOL_VERSION}"}}'
    ).encode()


def _object(part: bytes, name: str) -> dict[str, Any]:
    try:
        text = part.decode().strip(" \t\r\n")  # what JSON calls a space, and no other
        value, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise BadFrames(f"the {name} is no JSON: {error}") from None
    if end != len(text):  # a header is repeated in every answer as it came: nobody could read those
        raise BadFrames(f"the {name} is JSON with something behind it")
    if not isinstance(value, dict):
        raise BadFrames(f"the {name} is no JSON object but a {type(value).__name__}")
    return value


# ---- JSON ------------------------------------------------------------------


def _foreign(value: Any) -> Any:
    """Return what JSON can hold for a value it cannot: base64 for bytes, and the obvious for numbers and sets."""
    if isinstance(value, bytes | bytearray | memoryview):
        return b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "__index__"):  # numpy integers
        return value.__index__()
    if hasattr(value, "__float__") and not isinstance(value, str):
        return _finite(float(value))
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"expected something that JSON can hold, a {type(value).__name__} came: convert it first")


_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_foreign).encode


def dumps(value: Any) -> bytes:
    """Return a value as JSON bytes. NaN and infinities become their repr, lone surrogates U+FFFD.

    Raises TypeError (or ValueError for a structure that contains itself).
    """
    try:
        text = _encode(value)
    except ValueError:
        text = _encode(_clean(value))  # a NaN somewhere: JSON has none
    except TypeError as error:
        if "keys must be" not in str(error):
            raise
        text = _encode(_clean(value))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text).encode()


def dumps_content(content: dict[str, Any]) -> bytes:
    """Like `dumps`, but large plain texts in `content["data"]` (images) bypass the JSON encoder."""
    data = content.get("data")
    if isinstance(data, dict):
        large = {key: plain for key, value in data.items() if (plain := _large_plain(value)) is not None}
        if large:
            return _splice(content, data, large)
    return dumps(content)


def _large_plain(value: Any) -> bytes | None:
    """Return a large value as the inside of a JSON string, if it needs no escaping; else None."""
    if isinstance(value, bytes) and len(value) >= LARGE:
        return b2a_base64(value, newline=False)
    if isinstance(value, str) and len(value) >= LARGE and value.isascii():
        raw = value.encode()
        return raw if not raw.translate(None, _PLAIN) else None
    return None


def _splice(content: dict[str, Any], data: dict[str, Any], large: dict[str, bytes]) -> bytes:
    marks = {key: f"{os.urandom(16).hex()}" for key in large}
    shell = dumps({**content, "data": {**data, **marks}})
    for key, mark in marks.items():
        before, _, after = shell.partition(mark.encode())
        shell = b"".join((before, large[key], after))
    return shell


def _finite(number: float) -> float | str:
    return number if isfinite(number) else repr(number)


def _clean(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """Return a copy that JSON can hold: finite numbers, string keys. Raise ValueError on a circle."""
    if isinstance(value, float):
        return _finite(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) in inside:
        raise ValueError("expected a tree, a structure that contains itself came: break the circle first")
    inside = (*inside, id(value))
    if isinstance(value, dict):
        return {_key(key): _clean(item, inside) for key, item in value.items()}
    return [_clean(item, inside) for item in value]


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key)
