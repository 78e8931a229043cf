"""What takes long is a fault: a round trip, the wake-up of a stopped thread."""

import json
import time

from debug_client import LOOP


def test_a_round_trip_takes_milliseconds(client):  # 44 ms with two TCP ends that wait for each other
    took = []
    for _ in range(20):
        begin = time.monotonic()
        client.ask("threads")
        took.append(time.monotonic() - begin)

    assert sorted(took)[10] < 0.2, json.dumps(took)


def test_continue_wakes_the_thread_at_once(client):  # debugpy looks five times a second
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    took = []
    for _ in range(4):
        client.stopped()
        begin = time.monotonic()
        client.go_on()
        took.append(time.monotonic() - begin)

    assert client.outcome(cell) == "ok"
    assert sorted(took)[2] < 0.5, json.dumps(took)
