"""questions: who answers completion, inspection and the like while their lane is busy with a cell.

A request of these types waits GRACE for its own lane. If that is still busy, the language lane takes it over. The
language lane runs no user code: what may call a `__dir__` or a `__repr__` runs on a thread of its own (`workers`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ipymini.execution.lane import Lane
from ipymini.execution.workers import Workers
from ipymini.protocol.messages import Content, Request
from ipymini.protocol.originals import __builtins__  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

LANGUAGE = frozenset(
    {"complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request"}
)
RESCUED = LANGUAGE | {"kernel_info_request", "connect_request"}  # a new client's first words do not wait either
GRACE = 0.05  # seconds that such a request waits for its own lane


class Questions:
    """The language lane, which starts when it is first needed, and the workers beside it."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self.lane = Lane("ipymini-language", kernel.handle)
        self.workers = Workers("ipymini-beside", kernel.channels.later)

    def wait_for(self, lane: Lane, request: Request) -> None:
        """Give a request that was posted to a lane some time to be served there. I/O thread."""
        if request.msg_type in RESCUED:
            self._kernel.channels.later(GRACE, lambda: self._take_over(lane, request))

    def _take_over(self, lane: Lane, request: Request) -> None:
        if request in lane.queue:
            self.lane.start()  # first: it may fail where descriptors have run out, and the request waits on
        if lane.queue.take(request):
            self.lane.post(request)

    async def ask(self, request: Request, question: Callable[[], Content]) -> Content:
        """Return what a question is answered that may run user code. On the lane that serves the request.

        An interrupt ends it with KeyboardInterrupt; beside a lane that is busy with another it holds up nobody.
        """
        if self.lane.is_current_thread:
            return await self.workers.run(question)
        with self._kernel.lane_of(request).interruption.interruptible(request):
            return question()
