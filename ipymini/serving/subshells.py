"""subshells: the lanes beside the main one: made, found and deleted by id. Serves no requests itself. JEP 91."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ipymini.execution.lane import Lane
from ipymini.protocol.messages import Request, UnknownSubshell
from ipymini.protocol.originals import __builtins__, os, threading  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

COMM_ANSWERS = frozenset({"comm_msg", "comm_close"})  # may belong to another subshell than their header says
DELETED_AGAIN = 1.0  # seconds between the interrupts of a cell whose subshell has been deleted

Value = TypeVar("Value")


class Subshells:
    """Shared fields: `lanes`, `leaving`, `_redirected` are replaced under `_gate`; the I/O thread reads them bare."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self.lanes: dict[str, Lane] = {}  # by id, in the order in which they were made
        self.leaving: dict[str, Lane] = {}  # deleted ones whose lanes have not ended yet
        self._redirected: dict[str, str] = {}  # client session -> the subshell that its cells go to for now
        self._gate = threading.Lock()
        self._were_any = False

    def every_lane(self) -> list[Lane]:
        """Return the lanes of all subshells, of deleted ones until they have ended. Any thread."""
        return [*self.lanes.values(), *self.leaving.values()]

    def addressed(self, request: Request) -> Request:
        """Return a request with the subshell that it really is for. I/O thread.

        Cells of a client that `redirect` was called for go to its subshell, comm messages to the one that has the comm.
        """
        redirected = self._redirected.get(request.session)  # looked up once: other threads replace the table
        if redirected is not None and request.msg_type == "execute_request" and not request.subshell_id:
            return _sent_to(redirected, request)
        if request.msg_type in COMM_ANSWERS and self._were_any:
            target = self._kernel.bridge.comms.addressee(request)
            if target is None or target in self.lanes:  # else it has been deleted since
                return _sent_to(target, request)
        return request

    def open(self) -> str:
        """Make a lane with a run state of its own; return its id: it serves by then. Any lane.

        Raises OSError or RuntimeError if the system has no descriptors or threads left.
        """
        kernel, subshell_id = self._kernel, os.urandom(16).hex()
        self._were_any = True
        kernel.interrupts.cut_waits()
        kernel.bridge.open_subshell(subshell_id)
        lane = kernel.interrupts.lane_without_signals(
            f"ipymini-subshell-{subshell_id[:4]}", ended=lambda lane: self._ended(subshell_id, lane)
        )
        try:
            lane.start()
        except BaseException:
            kernel.bridge.close_subshell(subshell_id)
            raise
        with self._gate:
            self.lanes = {**self.lanes, subshell_id: lane}
        return subshell_id

    def delete(self, subshell_id: str, *, gently: bool = False) -> None:
        """Unlist a subshell, interrupt it (`gently`: let it finish its cells) and let its lane end. Any lane.

        Raises UnknownSubshell. Does not wait: the lane answers what it holds, and forgets its state, as its last act.
        """
        with self._gate:
            lane = self.lanes.get(subshell_id)
            if lane is None:
                raise self.unknown(subshell_id)
            self.leaving = {**self.leaving, subshell_id: lane}
            self.lanes = _without(self.lanes, subshell_id)
        if gently:
            lane.stop_when_idle()
        else:
            lane.stop()  # first: the cell behind the one that is interrupted must not start
            self._interrupt_until_ended(lane)

    def redirect(self, session: str) -> tuple[str, Callable[[], None]]:
        """Send what a client executes from now on to a new subshell; return its id and the undo. Any lane."""
        subshell_id = self.open()
        with self._gate:
            before = self._redirected.get(session)
            self._redirected = {**self._redirected, session: subshell_id}

        def undo() -> None:
            with self._gate:
                if self._redirected.get(session) == subshell_id:
                    self._redirected = _without(self._redirected, session)
                    if before in self.lanes:
                        self._redirected = {**self._redirected, session: str(before)}
                is_open = subshell_id in self.lanes
            if is_open:  # else a client has deleted it
                self.delete(subshell_id, gently=True)

        return subshell_id, undo

    def unknown(self, subshell_id: str) -> UnknownSubshell:
        """Return the error that says that there is no such subshell."""
        return UnknownSubshell(f"Unknown subshell_id {subshell_id!r}")

    def _interrupt_until_ended(self, lane: Lane) -> None:
        """Interrupt a deleted subshell's cell again and again: nobody else would, and it may catch some."""
        if not lane.join(0):
            lane.interruption.interrupt()
            self._kernel.channels.later(DELETED_AGAIN, lambda: self._interrupt_until_ended(lane))

    def _ended(self, subshell_id: str, lane: Lane) -> None:
        """Answer what a deleted subshell still held, and forget its run state. On its thread, as its last act."""
        error = KeyboardInterrupt("the subshell was deleted, and its cell would not end")
        self._kernel.replies.answer_unserved(lane, error, self.unknown(subshell_id))
        self._kernel.bridge.close_subshell(subshell_id)
        with self._gate:
            self.leaving = _without(self.leaving, subshell_id)


def _without(table: dict[str, Value], key: str) -> dict[str, Value]:
    return {other: value for other, value in table.items() if other != key}


def _sent_to(subshell_id: str | None, request: Request) -> Request:
    """Return the request for another subshell. Only our view of its header changes: answers repeat it as it came."""
    if subshell_id == request.subshell_id:
        return request
    return replace(request, header={**request.header, "subshell_id": subshell_id})
