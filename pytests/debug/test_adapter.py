"""Debug Adapter Protocol framing: bytes in, dicts out. No process, no sockets."""

import asyncio
import random

import pytest

from ipymini.debug.adapter import BadFrame, frame, read_message, response

MESSAGES = [
    {"seq": 1, "type": "request", "command": "threads"},
    {"seq": 2, "type": "event", "event": "output", "body": {"output": "naïve – 日本語 🐍"}},
    {"seq": 3, "type": "event", "event": "output", "body": {"output": "Content-Length: 7\r\n\r\n{}"}},
    {"seq": 4, "type": "response", "success": True, "body": {}},
]
STREAM = b"".join(map(frame, MESSAGES))


def read(*pieces):
    """Return the messages in these pieces of a stream, each of which comes when the one before it has been read."""

    async def main():
        reader, found = asyncio.StreamReader(), []

        async def read_all():
            while (message := await read_message(reader)) is not None:
                found.append(message)

        reading = asyncio.create_task(read_all())
        for piece in pieces:
            reader.feed_data(piece)
            for _ in range(3):
                await asyncio.sleep(0)
        reader.feed_eof()
        await asyncio.wait_for(reading, 20)
        return found

    return asyncio.run(main())


def test_a_message_comes_back_as_it_left():
    assert [read(frame(message)) for message in MESSAGES] == [[message] for message in MESSAGES]


def test_joined_packets_are_cut_apart():  # D1
    assert read(STREAM) == MESSAGES


def test_every_place_to_split_a_packet_is_harmless():  # D1: inside the header, and inside a character
    for place in range(len(STREAM)):
        assert read(STREAM[:place], STREAM[place:]) == MESSAGES


def test_random_pieces_are_harmless():  # D1
    choose = random.Random(7)
    for _ in range(50):
        rest, pieces = STREAM * 5, []
        while rest:
            size = choose.randint(1, 40)
            pieces.append(rest[:size])
            rest = rest[size:]

        assert read(*pieces) == MESSAGES * 5


def test_a_stream_that_ends_within_a_message_has_ended():
    assert read(STREAM + b"Content-Length: 20") == MESSAGES
    assert read(STREAM + b"Content-Length: 20\r\n\r\n{") == MESSAGES


def test_the_length_counts_bytes_also_of_raw_utf8():  # D1: others do not escape what is not ASCII
    body = '{"output": "日本語"}'.encode()

    assert read(b"Content-Length: %d\r\n\r\n%s" % (len(body), body)) == [{"output": "日本語"}]


def test_other_header_lines_and_other_cases_are_accepted():
    wire = b"Content-Type: application/json\r\ncontent-length:  2\r\n\r\n{}"

    assert read(wire) == [{}]


@pytest.mark.parametrize(
    "wire",
    [
        b"Content-Type: none\r\n\r\n{}",
        b"Content-Length: many\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: 2\r\n\r\n{]",
        b"Content-Length: 2\r\n\r\n[]",
        b"x" * 100_000,
    ],
)
def test_what_is_no_dap_is_said_to_be_none(wire):
    with pytest.raises(BadFrame):
        read(wire)


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

    assert response(request, 9, {}, refusal="nothing is stopped") == {
        "seq": 9,
        "type": "response",
        "request_seq": 41,
        "success": False,
        "command": "next",
        "body": {},
        "message": "nothing is stopped",
    }


def test_even_nonsense_gets_a_response():
    assert response({}, 9, {}, refusal="no command")["request_seq"] == 0
