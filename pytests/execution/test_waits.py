"""Waits of a thread that gets no signals: they can be interrupted, and are waits all the same. No kernel."""

import threading
import time
from collections.abc import Iterator

import pytest

from ipymini.execution import waits


@pytest.fixture
def installed() -> Iterator[None]:
    undo = waits.install()
    yield
    undo()


def test_no_notification_is_lost_between_two_slices(monkeypatch: pytest.MonkeyPatch, installed: None) -> None:
    monkeypatch.setattr(waits, "SLICE", 0.001)
    condition, waiting, came = threading.Condition(), threading.Event(), []

    def wait() -> None:
        leave = waits.enroll(waits.Waker())
        try:
            with condition:
                waiting.set()
                came.append(condition.wait(10))
        finally:
            leave()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    with condition:  # now it waits
        time.sleep(0.05)  # many slices end, and none of them can take the condition's lock back
        condition.notify()
    thread.join(20)

    assert came == [True]


@pytest.mark.parametrize("timeout", [0, 0.001, 0.12])
def test_a_wait_ends_in_time_without_a_notification(installed: None, timeout: float) -> None:
    leave = waits.enroll(waits.Waker())
    try:
        assert threading.Event().wait(timeout) is False
        condition = threading.Condition()
        with condition:
            assert condition.wait(timeout) is False
            assert not condition._waiters
    finally:
        leave()
