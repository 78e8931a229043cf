"""wire and messages: frames and values, without a process."""

import json
import random
from contextlib import suppress

import pytest

from ipymini.protocol.messages import BadContent, Message, Request, error_content, reply_type
from ipymini.protocol.wire import LARGE, BadFrames, BadSignature, Wire, dumps, dumps_content


@pytest.fixture
def wire() -> Wire:
    return Wire(b"secret")


def sent(wire: Wire, msg_type: str = "execute_request", **content: object) -> list[bytes]:
    return wire.encode(Message(msg_type, dict(content)), (b"client",))


def test_what_is_encoded_can_be_decoded(wire: Wire) -> None:
    frames = wire.encode(Message("comm_msg", {"data": 1}, metadata={"m": 2}, buffers=(b"raw",)), (b"a", b"b"))
    request = wire.decode(frames, "shell")
    assert (request.msg_type, request.content, request.metadata) == ("comm_msg", {"data": 1}, {"m": 2})
    assert (request.identities, request.buffers, request.header["version"]) == ((b"a", b"b"), (b"raw",), "5.5")
    assert json.loads(request.header_json) == request.header


def test_the_signature_is_what_jupyter_client_makes(wire: Wire) -> None:
    from jupyter_client.session import Session

    session = Session(key=b"secret")
    _, frames = session.feed_identities(sent(wire, code="x"))
    message = session.deserialize(frames)
    assert message["content"] == {"code": "x"}
    assert wire.decode(session.serialize(session.msg("kernel_info_request")), "shell").msg_type == "kernel_info_request"


def test_a_long_key_is_hashed_first() -> None:
    from jupyter_client.session import Session

    session = Session(key=b"k" * 200)
    assert Wire(b"k" * 200).decode(session.serialize(session.msg("a")), "shell").msg_type == "a"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "no <IDS"),
        ([b"garbage"], "no <IDS"),
        ([b"<IDS|MSG>", b"sig"], "at least 5"),
        ([b"<IDS|MSG>", b"wrong", b"{}", b"{}", b"{}", b"{}"], "bad signature"),
    ],
)
def test_frames_that_are_no_message_are_refused_with_a_reason(
    wire: Wire, frames: list[bytes], reason: str
) -> None:  # Q6
    with pytest.raises(BadFrames, match=reason):
        wire.decode(frames, "shell")


@pytest.mark.parametrize("part", [b"nonsense", b"[1]", b"\xff", b"{}"])
def test_json_that_is_no_header_is_refused(wire: Wire, part: bytes) -> None:  # Q6
    parts = [part, b"{}", b"{}", b"{}"]
    with pytest.raises(BadFrames):
        wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("text", [b'{"msg_id":"1","msg_type":"a"}x', b"{}{}", b'{"a":NaN}', b"{} []", b"[]"])
def test_each_part_is_one_json_object_and_nothing_else(wire: Wire, part: int, text: bytes) -> None:  # Q6
    parts = [b'{"msg_id":"1","msg_type":"a"}', b"{}", b"{}", b"{}"]
    parts[part] = text
    with pytest.raises(BadFrames):
        wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")


@pytest.mark.parametrize("space", ["\xa0", "\u2028", "\x1c", "\v", "\ufeff"])
def test_a_space_that_json_does_not_know_is_no_space(wire: Wire, space: str) -> None:  # Q6
    parts = [f'{space}{{"msg_id":"1","msg_type":"a"}}'.encode(), b"{}", b"{}", b"{}"]
    with pytest.raises(BadFrames, match="the header is"):  # else it would be repeated in every answer
        wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")


def test_spaces_around_json_are_no_fault(wire: Wire) -> None:
    parts = [b' {"msg_id":"1","msg_type":"a"}\r\n', b" { } ", b"\t{}", b'{"a": 1 }\n']
    request = wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")
    assert (request.msg_type, request.parent_header, request.metadata, request.content) == ("a", {}, {}, {"a": 1})
    assert json.loads(request.header_json) == request.header


GOOD = [b'{"msg_id":"1","msg_type":"a"}', b"{}", b"{}", b"{}"]


@pytest.mark.parametrize("key", ["msg_id", "msg_type"])
@pytest.mark.parametrize("value", [None, 5, [], {}, ...])
def test_a_header_without_an_id_or_a_type_is_refused(wire: Wire, key: str, value: object) -> None:  # Q6
    header = {"msg_id": "1", "msg_type": "a", key: value}
    if value is ...:
        del header[key]
    parts = [json.dumps(header).encode(), *GOOD[1:]]
    with pytest.raises(BadFrames, match=f"^the header has no {key}$"):
        wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b'{"a":}', b'{"a":1,}', b"{'a':1}", b"null", b"5", b'"text"', b"\xff{}", b'{"a":"\xc3"}',
        b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":' + b"[" * 100_000, b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":"\n"}', b"\0", "{}".encode("utf-16"),
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
@pytest.mark.parametrize("part", range(4))
def test_what_is_no_json_object_is_refused_and_nothing_else_is_raised(wire: Wire, part: int, text: bytes) -> None:  # Q6
    parts = [*GOOD[:part], text, *GOOD[part + 1 :]]
    with pytest.raises(BadFrames, match=r"the (header|parent_header|metadata|content) is no JSON"):
        wire.decode([b"<IDS|MSG>", wire._signer.sign(parts), *parts], "shell")


@pytest.mark.parametrize("count", range(5))
def test_a_message_that_is_cut_short_is_refused(wire: Wire, count: int) -> None:  # Q6
    frames = [b"client", b"<IDS|MSG>", wire._signer.sign(GOOD), *GOOD][: 2 + count]
    with pytest.raises(BadFrames, match=f"^{count} frames after the delimiter, at least 5 are needed$"):
        wire.decode(frames, "shell")


@pytest.mark.parametrize("how", ["wrong", "empty", "no ASCII", "upper case", "cut", "of other parts", "of another key"])
def test_a_signature_that_is_not_the_messages_is_refused(wire: Wire, how: str) -> None:  # Q6
    right = wire._signer.sign(GOOD)
    signature = {
        "wrong": b"0" * 64, "empty": b"", "no ASCII": b"\xff" * 64, "upper case": right.upper(), "cut": right[:-1],
        "of other parts": wire._signer.sign([*GOOD[:3], b'{"code":"x"}']), "of another key": Wire(b"k")._signer.sign(GOOD),
    }[how]  # fmt: skip
    with pytest.raises(BadSignature, match=r"^bad signature$"):
        wire.decode([b"<IDS|MSG>", signature, *GOOD], "shell")
    assert wire.decode([b"<IDS|MSG>", right, *GOOD], "shell").msg_id == "1"  # the forged one was not remembered


def test_identities_and_buffers_may_look_like_anything(wire: Wire) -> None:
    identities, buffers = (b"", b"\xff", b"a" * 300), (b"<IDS|MSG>", b"", b"{}")
    request = wire.decode([*identities, b"<IDS|MSG>", wire._signer.sign(GOOD), *GOOD, *buffers], "shell")
    assert (request.identities, request.buffers) == (identities, buffers)


@pytest.mark.parametrize("seed", range(20))
def test_random_frames_raise_nothing_but_badframes(wire: Wire, seed: int) -> None:  # Q6
    chance = random.Random(seed)
    pieces = [b"<IDS|MSG>", b"", b"{}", b"[]", b"\xff", b'{"msg_id":1}', b"client", wire._signer.sign(GOOD), *GOOD]
    for _ in range(200):
        frames = chance.choices(pieces, k=chance.randrange(10))
        if chance.random() < 0.5:  # signed, whatever it is
            parts = chance.choices(pieces, k=4)
            frames = [b"<IDS|MSG>", wire._signer.sign(parts), *parts]
        with suppress(BadFrames):
            assert wire.decode(frames, "shell").msg_type == "a"


def test_a_replay_is_refused(wire: Wire) -> None:  # Q7
    frames = sent(wire)
    wire.decode(frames, "shell")
    with pytest.raises(BadSignature, match="replay"):
        wire.decode(frames, "shell")


def test_without_a_key_nothing_is_signed_or_checked() -> None:
    wire = Wire(b"")
    frames = sent(wire)
    assert frames[2] == b""
    assert wire.decode(frames, "shell") and wire.decode(frames, "shell")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": [float("-inf")]}, '{"a":"nan","b":["-inf"]}'),
        ({"a": "x\ud800y"}, '{"a":"x\ufffdy"}'),
        ({"a": b"abc"}, '{"a":"YWJj"}'),
        ({1: 2, None: 3}, '{"1":2,"null":3}'),
        ({(1, 2): 3}, '{"(1, 2)":3}'),
        ({"a": 2**70}, f'{{"a":{2**70}}}'),
        ({"a": "ä\0"}, '{"a":"ä\\u0000"}'),
    ],
)
def test_odd_values_become_json(value: object, text: str) -> None:  # O19
    assert dumps(value).decode() == text


def test_what_json_cannot_hold_raises_in_the_caller() -> None:  # O18
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(TypeError):
        dumps({"a": object()})
    with pytest.raises(ValueError):
        dumps({"a": circle})


@pytest.mark.parametrize("value", ["A" * LARGE, b"\0" * LARGE, 'quote"' * LARGE, "ä" * LARGE])
def test_a_large_text_takes_the_short_way_and_stays_the_same(value: str | bytes) -> None:
    content = {"data": {"image/png": value, "text/plain": "<x>"}, "metadata": {}}
    assert json.loads(dumps_content(content)) == json.loads(dumps(content))


def test_fields_of_a_request_are_checked() -> None:
    request = Request({"msg_type": "x_request"}, {"code": 1, "n": True, "s": "t"})
    assert request.text("s") == "t" and request.flag("n") and request.integer("gone", default=3) == 3
    for wrong in (lambda: request.text("code"), lambda: request.integer("n"), lambda: request.text("gone")):
        with pytest.raises(BadContent, match="x_request"):
            wrong()


def test_an_empty_subshell_id_is_the_parent() -> None:  # Q8
    assert Request({"subshell_id": ""}, {}).subshell_id is None
    assert Request({"subshell_id": "a"}, {}).subshell_id == "a"


def test_replies_are_named_after_their_requests() -> None:
    assert reply_type("execute_request") == "execute_reply"
    assert error_content(KeyError("k")) == {"status": "error", "ename": "KeyError", "evalue": "'k'", "traceback": []}
