"""lane, context, channels: order, parents and interrupts, in this process and without sockets where possible."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

from ipymini.execution import channels, context, interruption, loops, outbox, strikes
from ipymini.execution.lane import Lane
from ipymini.execution.stacks import door, safe_point, shielded
from ipymini.execution.strikes import ByException
from ipymini.protocol.connection import Connection
from ipymini.protocol.messages import Message, Request

SOON = 10.0  # seconds: a deadline, no measure


def request(name: str, msg_type: str = "execute_request") -> Request:
    return Request({"msg_id": name, "msg_type": msg_type}, {})


class Served:
    """A lane on a thread of its own whose requests run the given coroutine functions by name."""

    def __init__(self, **work: Any):
        self.work, self.log, self.done = work, [], threading.Semaphore(0)
        self.ended_waits: list[list[Request]] = []
        self.later: Any = lambda seconds, look: None
        self.lane = Lane(
            "test",
            self.handle,
            interruption=lambda lane: ByException(
                lane, later=lambda *when: self.later(*when), end_waits=self.ended_waits.append
            ),
        )
        self.lane.start()

    async def handle(self, request: Request) -> None:
        self.log.append(f"begin {request.msg_id}")
        try:
            if work := self.work.get(request.msg_id):
                await work(request)
        except BaseException as error:
            self.log.append(f"{type(error).__name__} {request.msg_id}")
        self.log.append(f"end {request.msg_id}")
        self.done.release()

    def serve(self, *requests: Request) -> list[str]:
        for one in requests:
            self.lane.post(one)
        for _ in requests:
            assert self.done.acquire(timeout=SOON), self.log
        return self.log

    def close(self) -> None:
        self.lane.stop()
        assert self.lane.join(SOON)


@pytest.fixture
def serving() -> Any:
    made: list[Served] = []

    def make(**work: Any) -> Served:
        made.append(Served(**work))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_a_cell_serves_itself_does_not_overtake_what_has_been_started(serving: Any) -> None:  # Q12
    async def polls(request: Request) -> None:
        for number in range(2):
            served.lane.post(requests[number])
        await asyncio.sleep(0)  # the lane has started the first one by now, and it has not begun
        while len(served.log) < 5:
            served.lane.serve_waiting()
            await asyncio.sleep(0)

    requests = [request(f"comm {number}", "comm_msg") for number in range(2)]
    served = serving(cell=polls)
    served.serve(request("cell"))
    for _ in requests:
        assert served.done.acquire(timeout=SOON), served.log
    comms = [f"{state} comm {number}" for number in range(2) for state in ("begin", "end")]
    assert served.log == ["begin cell", *comms, "end cell"]


def test_executes_run_one_after_the_other_also_when_they_await(serving: Any) -> None:  # Q12
    async def waits(request: Request) -> None:
        await asyncio.sleep(0.01)

    log = serving(a=waits, b=waits).serve(request("a"), request("b"))
    assert log == ["begin a", "end a", "begin b", "end b"]


def test_others_overtake_only_while_an_execute_awaits(serving: Any) -> None:  # Q10, O4
    gate = asyncio.Event()

    async def waits(request: Request) -> None:
        await gate.wait()

    async def opens(request: Request) -> None:
        gate.set()

    log = serving(a=waits, c=opens).serve(request("a"), request("b"), request("c", "comm_msg"))
    assert log == ["begin a", "begin c", "end c", "end a", "begin b", "end b"]


def test_nothing_overtakes_executes_that_do_not_await(serving: Any) -> None:
    log = serving().serve(request("a"), request("b"), request("c", "comm_msg"))
    assert log == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


@pytest.mark.parametrize("kind", ["execute_request", "comm_msg"])
def test_what_waits_for_another_stays_in_the_queue_and_can_be_taken(serving: Any, kind: str) -> None:  # Q10
    holding, go = threading.Event(), threading.Event()
    first, second, third = request("a", kind), request("b", "comm_msg"), request("c", "comm_msg")

    async def holds(request: Request) -> None:
        holding.set()
        assert go.wait(SOON)

    served = serving(a=holds)
    # All are there before the lane looks into its queue.
    served.lane.soon(lambda: [served.lane.post(one) for one in (first, second, third)])
    assert holding.wait(SOON)
    assert served.lane.queue.take(second)
    go.set()
    for _ in range(2):
        assert served.done.acquire(timeout=SOON), served.log
    assert served.log == ["begin a", "end a", "begin c", "end c"]


def test_what_a_request_sets_in_a_contextvar_the_next_one_sees(serving: Any) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    async def sets(request: Request) -> None:
        await asyncio.sleep(0)
        variable.set(7)

    async def reads(request: Request) -> None:
        seen.append(variable.get())

    serving(a=sets, b=reads).serve(request("a"), request("b"))
    assert seen == [7]


def test_each_step_has_its_own_request_as_parent(serving: Any) -> None:  # O4
    gate, seen = asyncio.Event(), []

    async def waits(request: Request) -> None:
        await gate.wait()
        seen.append(context.own())

    async def opens(request: Request) -> None:
        seen.append(context.own())
        gate.set()

    cell, comm = request("a"), request("c", "comm_msg")
    serving(a=waits, c=opens).serve(cell, comm)
    assert seen == [comm, cell]


def test_a_withdrawn_request_is_not_served(serving: Any) -> None:  # Q3
    started, gate = threading.Event(), threading.Event()

    async def blocks(request: Request) -> None:
        started.set()
        assert gate.wait(SOON)

    served = serving(a=blocks)
    first, second, third = request("a"), request("b"), request("c", "comm_msg")
    for one in (first, second, third):
        served.lane.post(one)
    assert started.wait(SOON)
    assert served.lane.queue.withdraw("execute_request") == [second]
    gate.set()
    served.done.acquire(timeout=SOON)
    served.done.acquire(timeout=SOON)
    assert served.log == ["begin a", "end a", "begin c", "end c"]


def interruptible(served_lane: list[Lane], work: Any) -> Any:
    """Return a handler whose work runs above a door, as cells do."""

    @door
    async def run(request: Request) -> None:
        with served_lane[0].interruption.interruptible(request):
            await work(request)

    return run


def test_a_thread_that_has_moved_on_since_the_look_is_looked_at_again(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # I17
    # given: a cell that goes on, while it is decided whether the place that it was at may be struck
    started, moved, there, struck, lane = threading.Event(), threading.Event(), threading.Event(), [], []
    look = strikes.verdict

    def slow_look(stack: Any) -> str:
        found = look(stack)
        if not moved.is_set():
            moved.set()
            assert there.wait(SOON)
        return found

    async def works(request: Request) -> None:
        started.set()
        try:
            while not moved.is_set():
                pass
            there.set()
        except KeyboardInterrupt:
            struck.append("too early")
        while True:
            pass

    served = serving(a=interruptible(lane, works))
    lane.append(served.lane)
    served.lane.post(request("a"))
    assert started.wait(SOON)
    monkeypatch.setattr(strikes, "verdict", slow_look)
    served.later = lambda seconds, look: threading.Timer(seconds, look).start()

    # when
    served.lane.interruption.interrupt()

    # then
    assert served.done.acquire(timeout=SOON)
    assert (served.log[1], struck) == ("KeyboardInterrupt a", [])


def test_a_strike_that_is_swallowed_before_its_sender_goes_on_is_made_again(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # I17
    # given: a destructor; whoever interrupts it gets the processor back when it has swallowed the KeyboardInterrupt
    started, swallowed, lane = threading.Event(), threading.Event(), []
    really = strikes.raise_at

    def raise_and_wait(*where: Any) -> bool:
        hits = really(*where)
        assert swallowed.wait(SOON) or not hits
        return hits

    async def works(request: Request) -> None:
        started.set()
        try:
            while True:
                pass
        except KeyboardInterrupt:
            lane[0].interruption.on_swallowed()  # as `sys.unraisablehook` does
            swallowed.set()
        while True:
            pass

    served = serving(a=interruptible(lane, works))
    lane.append(served.lane)
    served.lane.post(request("a"))
    assert started.wait(SOON)
    monkeypatch.setattr(strikes, "raise_at", raise_and_wait)
    served.later = lambda seconds, look: threading.Timer(seconds, look).start()

    # when
    served.lane.interruption.interrupt()

    # then
    assert served.done.acquire(timeout=SOON)
    assert served.log[1] == "KeyboardInterrupt a"


@pytest.mark.parametrize("how", ["await", "loop", "sleep", "condition"])
def test_an_interrupt_ends_what_a_child_lane_runs_and_nothing_later(serving: Any, how: str) -> None:  # I17, I18, I19
    import time

    from ipymini.execution import waits

    undo, started, lane = waits.install(), threading.Event(), []

    async def works(request: Request) -> None:
        started.set()
        if how == "await":
            await asyncio.sleep(SOON * 3)
        elif how == "sleep":
            time.sleep(SOON * 3)
        elif how == "condition":
            threading.Event().wait(SOON * 3)
        while how == "loop":
            pass

    served = serving(a=interruptible(lane, works))
    lane.append(served.lane)
    first = request("a")
    try:
        served.lane.post(first)
        assert started.wait(SOON)
        served.lane.interruption.interrupt()
        assert served.done.acquire(timeout=SOON)
        assert served.log[1] == ("CancelledError a" if how == "await" else "KeyboardInterrupt a")
        served.log.clear()
        assert served.serve(request("b")) == ["begin b", "end b"]
    finally:
        undo()


def test_no_wakeup_is_lost_and_what_a_stopped_lane_has_not_begun_can_be_taken_back(serving: Any) -> None:  # P1
    served = serving()
    posted = [[request(f"{thread}-{turn}") for turn in range(200)] for thread in range(4)]

    def post(requests: list[Request]) -> None:
        for one in requests:
            served.lane.post(one)
            if turn_about := int(one.msg_id[-1]) % 3:  # let the lane fall asleep now and then
                threading.Event().wait(turn_about / 10_000)

    threads = [threading.Thread(target=post, args=(requests,)) for requests in posted]
    for thread in threads:
        thread.start()
    for _ in range(800):
        assert served.done.acquire(timeout=SOON), served.log[-3:]
    for requests in posted:
        ours = [line for line in served.log if line.startswith(f"begin {requests[0].msg_id[0]}-")]
        assert ours == [f"begin {one.msg_id}" for one in requests]  # of each sender, in order

    begun, go = threading.Event(), threading.Event()

    async def hold(_: Request) -> None:
        begun.set()
        go.wait(SOON)

    served.work["holding"] = hold
    waiting = [request("waiting"), request("waiting too")]
    for one in (request("holding"), *waiting):
        served.lane.post(one)
    assert begun.wait(SOON)
    served.lane.stop()
    go.set()
    assert served.lane.join(SOON)
    assert served.lane.queue.withdraw() == waiting
    assert not served.lane.post(request("late"))  # its sender is told, and answers


@pytest.mark.parametrize("mark", [shielded, safe_point])
def test_an_interrupt_ends_the_kernels_waits_only_when_it_strikes(serving: Any, mark: Any) -> None:  # I17
    began, go, lane = threading.Event(), threading.Event(), []

    @mark
    def waits_for_us() -> None:
        began.set()
        assert go.wait(SOON)

    async def works(request: Request) -> None:
        waits_for_us()

    served = serving(a=interruptible(lane, works))
    lane.append(served.lane)
    asks = request("a")
    served.lane.post(asks)
    assert began.wait(SOON)
    served.lane.interruption.interrupt()
    assert served.ended_waits == ([] if mark is shielded else [[asks]])
    go.set()
    assert served.done.acquire(timeout=SOON)
    assert ("KeyboardInterrupt a" in served.log) == (mark is safe_point)


class StruckOnReturn(Coroutine[Any, Any, None]):
    """A coroutine whose first step is struck as it returns to who called `send`: Python 3.13 may do that."""

    def __init__(self, work: Any):
        self._work, self._struck = work, False
        self.throw, self.close, self.__await__ = work.throw, work.close, work.__await__

    cr_frame = property(lambda self: self._work.cr_frame)

    def send(self, value: Any) -> Any:
        waits_for = self._work.send(value)
        if not self._struck:
            self._struck = True
            raise KeyboardInterrupt
        return waits_for

    throw = close = __await__ = lambda self, *args: None


def test_an_interrupt_that_strikes_as_a_cell_suspends_is_the_cells(serving: Any) -> None:  # I2, I17
    lane: list[Lane] = []

    async def works(request: Request) -> None:
        await asyncio.sleep(0)

    served = serving(a=interruptible(lane, works))
    lane.append(served.lane)
    served.lane._handle = lambda request: StruckOnReturn(served.handle(request))
    assert served.serve(request("a")) == ["begin a", "KeyboardInterrupt a", "end a"]


@pytest.mark.parametrize(("how", "error"), [("plain", "KeyboardInterrupt"), ("task", "CancelledError")])
def test_an_interrupt_that_meets_the_kernel_at_work_strikes_as_that_ends(
    serving: Any, how: str, error: str
) -> None:  # I17
    names: dict[str, Any] = {"began": threading.Event(), "go": threading.Event(), "interruption": interruption}
    exec(
        "def work():\n began.set(); go.wait(10)\n if interruption.any_pending: interruption.strike_if_pending()", names
    )
    shielded(names["work"])

    async def works_and_goes_on() -> None:
        names["work"]()
        served.log.append("went on")

    async def works(request: Request) -> None:
        await (works_and_goes_on() if how == "plain" else asyncio.gather(works_and_goes_on()))

    lane: list[Lane] = []
    looks: list[Any] = []
    served = serving(a=interruptible(lane, works))
    served.later = lambda seconds, look: looks.append(look)
    lane.append(served.lane)
    served.lane.post(request("a"))
    assert names["began"].wait(SOON)
    served.lane.interruption.interrupt()
    names["go"].set()
    assert served.done.acquire(timeout=SOON)
    assert served.log[1:] == [f"{error} a", "end a"]
    for look in looks:
        look()  # too late: it was for "a"
    served.log.clear()
    assert served.serve(request("b")) == ["begin b", "end b"]


def test_an_interrupt_of_an_idle_lane_does_nothing(serving: Any) -> None:  # I1
    served = serving()
    served.lane.interruption.interrupt()
    assert served.serve(request("a")) == ["begin a", "end a"]


def test_threads_and_executor_items_keep_the_request_that_started_them() -> None:  # O1, O2, P4
    undo, seen = context.install(), []
    try:
        with ThreadPoolExecutor(1) as pool:
            for name in ("a", "b"):
                with context.handling(request(name)):
                    thread = threading.Thread(target=lambda: seen.append(context.own()))
                    thread.start()
                    thread.join(SOON)
                    seen.append(pool.submit(context.own).result(SOON))
            assert pool.submit(context.own).result(SOON) is None
    finally:
        undo()
    assert [one.msg_id for one in seen] == ["a", "a", "b", "b"]


# ---- loops inside of loops -------------------------------------------------------------------------


def test_no_loop_is_kept_alive_because_it_ran() -> None:  # B9
    undo = loops.install(lambda loop: False)
    try:
        loop = asyncio.new_event_loop()
        entries: list[Any] = []
        loop.call_soon(lambda: entries.append(loops._running[threading.get_ident()]))  # what an interrupt may leave
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        del loop
        gc.collect()
        assert [entry() for entry in entries] == [None]
    finally:
        undo()


# ---- a subscriber that reads late -------------------------------------------------------------------


def test_writers_go_on_when_a_late_subscriber_has_read_everything() -> None:  # O11
    served = channels.Channels(Connection(key="k"), lambda request: None)
    served.start()
    context = zmq.Context()
    late = context.socket(zmq.SUB)
    late.rcvhwm = 1
    late.rcvtimeo = int(SOON * 1000)
    try:
        late.connect(served.connection.endpoint("iopub"))
        late.subscribe(b"")
        assert b"iopub_welcome" in b"".join(late.recv_multipart())
        big, count = Message("display_data", {"data": {"text/plain": "y" * 30_000}}, b"{}"), 0
        while not (served._sockets.subscribers.stuck and served.outbox.backlog > outbox.BUDGET):
            served.outbox.send("iopub", big, patient=False)
            count += 1
        written = threading.Event()
        threading.Thread(
            target=lambda: (served.outbox.write(None, "stdout", "last"), written.set()), daemon=True
        ).start()
        for _ in range(count):
            late.recv_multipart()
        assert written.wait(SOON)
        assert b"last" in late.recv_multipart()[-1]
    finally:
        context.destroy(linger=0)
        served.close()


def test_who_is_interrupted_does_not_wait_for_room() -> None:  # I17
    interrupted, looks = threading.Event(), threading.Semaphore(0)

    def is_interrupted() -> bool:
        looks.release()
        return interrupted.is_set()

    served = channels.Channels(Connection(key="k"), lambda request: None, is_interrupted=is_interrupted)
    served.outbox.backlog = outbox.BUDGET + 1  # and nobody sends, yet
    written = threading.Event()
    threading.Thread(target=lambda: (served.outbox.write(None, "stdout", "last"), written.set()), daemon=True).start()
    try:
        assert looks.acquire(timeout=SOON) and looks.acquire(timeout=SOON)  # it waits, and looks again
        assert not written.is_set()
        interrupted.set()
        assert written.wait(SOON)
    finally:
        served.start()
        served.close()
