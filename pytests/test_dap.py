"""Debug Adapter Protocol framing: bytes in, dicts out. No process, no sockets."""

import random

import pytest

from ipymini.debug.dap import HEADER_LIMIT, BadFrame, Decoder, event, frame, response

MESSAGES = [
    {"seq": 1, "type": "request", "command": "threads"},
    {"seq": 2, "type": "event", "event": "output", "body": {"output": "naïve – 日本語 🐍"}},
    {"seq": 3, "type": "event", "event": "output", "body": {"output": "Content-Length: 7\r\n\r\n{}"}},
    {"seq": 4, "type": "response", "success": True, "body": {}},
]
STREAM = b"".join(map(frame, MESSAGES))


def test_a_message_comes_back_as_it_left():
    assert [Decoder().feed(frame(message)) for message in MESSAGES] == [[message] for message in MESSAGES]


def test_joined_packets_are_cut_apart():  # D1
    assert Decoder().feed(STREAM) == MESSAGES


def test_every_place_to_split_a_packet_is_harmless():  # D1: inside the header, and inside a character
    for place in range(len(STREAM)):
        decoder = Decoder()

        assert decoder.feed(STREAM[:place]) + decoder.feed(STREAM[place:]) == MESSAGES


def test_random_pieces_are_harmless():  # D1
    choose = random.Random(7)
    for _ in range(50):
        decoder, rest, came = Decoder(), STREAM * 5, []
        while rest:
            size = choose.randint(1, 40)
            came += decoder.feed(rest[:size])
            rest = rest[size:]

        assert came == MESSAGES * 5


def test_the_length_counts_bytes_also_of_raw_utf8():  # D1: others do not escape what is not ASCII
    body = '{"output": "日本語"}'.encode()

    assert Decoder().feed(b"Content-Length: %d\r\n\r\n%s" % (len(body), body)) == [{"output": "日本語"}]


def test_other_header_lines_and_other_cases_are_accepted():
    wire = b"Content-Type: application/json\r\ncontent-length:  2\r\n\r\n{}"

    assert Decoder().feed(wire) == [{}]


@pytest.mark.parametrize(
    "wire",
    [
        b"Content-Type: none\r\n\r\n{}",
        b"Content-Length: many\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: 2\r\n\r\n{]",
        b"Content-Length: 2\r\n\r\n[]",
        b"x" * (HEADER_LIMIT + 1),
    ],
)
def test_what_is_no_dap_is_said_to_be_none(wire):
    with pytest.raises(BadFrame):
        Decoder().feed(wire)


def test_a_response_names_its_request():
    request = {"seq": 41, "command": "next", "type": "request"}

    assert response(request, 9, {"a": 1}) == {
        "seq": 9,
        "type": "response",
        "request_seq": 41,
        "success": True,
        "command": "next",
        "body": {"a": 1},
    }


def test_a_refusal_says_why_and_has_a_body_all_the_same():
    request = {"seq": 41, "command": "next", "type": "request"}

    assert response(request, 9, message="nothing is stopped") == {
        "seq": 9,
        "type": "response",
        "request_seq": 41,
        "success": False,
        "command": "next",
        "body": {},
        "message": "nothing is stopped",
    }


def test_even_nonsense_gets_a_response():
    assert response({}, 9, message="no command")["request_seq"] == 0


def test_an_event_has_the_shape_of_the_protocol():
    assert event("terminated", 3, {}) == {"seq": 3, "type": "event", "event": "terminated", "body": {}}
