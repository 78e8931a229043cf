"""request_queue: which request may start next. In memory."""

import pytest

from ipymini.execution.request_queue import RequestQueue
from ipymini.protocol.messages import Request


def request(msg_id: str, msg_type: str = "execute_request") -> Request:
    return Request({"msg_id": msg_id, "msg_type": msg_type}, {})


CELL, SECOND, COMM, INFO = request("1"), request("2"), request("3", "comm_msg"), request("4", "kernel_info_request")


@pytest.fixture
def queue() -> RequestQueue:
    return RequestQueue()


def put(queue: RequestQueue, *requests: Request) -> None:
    for one in requests:
        queue.put(one)


def starts(queue: RequestQueue) -> list[Request]:
    """Start what may start; each makes its first step, and is suspended."""
    started = []
    while (one := queue.start_next()) is not None:
        started.append(one)
        queue.is_starting = False
    return started


def test_requests_start_in_the_order_in_which_they_came(queue: RequestQueue) -> None:
    put(queue, COMM, INFO, CELL)
    assert starts(queue) == [COMM, INFO, CELL]


def test_a_cell_waits_for_the_one_before_it_and_others_overtake_it(queue: RequestQueue) -> None:
    put(queue, CELL, SECOND, COMM, INFO)
    assert starts(queue) == [CELL, COMM, INFO]
    assert queue.served(CELL)
    assert starts(queue) == [SECOND]


def test_nothing_starts_before_what_has_been_started_made_its_first_step(queue: RequestQueue) -> None:
    put(queue, CELL, COMM)
    assert queue.start_next() is CELL
    assert queue.start_next() is None
    queue.is_starting = False
    assert queue.start_next() is COMM


def test_one_more_cell_runs_beside_the_first_until_that_is_undone(queue: RequestQueue) -> None:
    put(queue, CELL, SECOND)
    assert starts(queue) == [CELL]
    undo = queue.allow_one_more()
    assert starts(queue) == [SECOND]
    undo()
    undo()
    queue.served(CELL)
    put(queue, CELL)
    assert starts(queue) == []
    queue.served(SECOND)
    assert starts(queue) == [CELL]


def test_what_is_taken_back_does_not_start(queue: RequestQueue) -> None:
    put(queue, CELL, COMM, SECOND)
    assert (queue.take(COMM), queue.take(COMM)) == (True, False)
    assert queue.withdraw("execute_request") == [CELL, SECOND]
    assert (starts(queue), bool(queue)) == ([], False)


def test_a_cell_is_running_until_its_client_knows_it_to_be_idle(queue: RequestQueue) -> None:
    put(queue, CELL)
    assert (queue.is_occupied, queue.has_unanswered_cell) == (True, False)
    starts(queue)
    assert (queue.is_occupied, queue.has_unanswered_cell) == (True, True)
    queue.answered(CELL)
    assert (queue.is_occupied, queue.has_unanswered_cell) == (True, False)
    queue.served(CELL)
    assert (queue.is_occupied, queue.has_unanswered_cell) == (False, False)
