"""wire and messages: frames and values, without a process."""

import json

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
