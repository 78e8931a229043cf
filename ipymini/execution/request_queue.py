"""request_queue: the requests of one lane, and which of them may start next. Runs nothing.

A request of a *serial* type (execute_request) waits for the one before it. Others start in their turn, and while a
serial one is suspended in an `await` they overtake those serial ones that still wait: that is how comm messages are
handled while a cell awaits. A request that has been started makes its first step before anything else starts.
"""

from collections import deque
from collections.abc import Callable, Iterator

from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__  # noqa: F401

SERIAL = frozenset({"execute_request"})


class RequestQueue:
    """Any thread puts and takes what waits: a deque, atomic. The rest belongs to the lane's thread."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self.running_cells: dict[Request, None] = {}  # serial requests being served: more than one while unlocked
        self._answered: set[Request] = set()  # of these: what is idle for its client, and about to end
        self.is_starting = False  # what was started last has not made its first step yet
        self._at_once = 1  # how many serial requests may run

    # ---- any thread ------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._waiting))

    def put(self, request: Request) -> None:
        """Add a request at the end."""
        self._waiting.append(request)

    def take(self, request: Request) -> bool:
        """Take one request back; return whether it still waited."""
        try:
            self._waiting.remove(request)
        except ValueError:
            return False
        return True

    def withdraw(self, msg_type: str | None = None) -> list[Request]:
        """Take back all that waits (of one type), oldest first."""
        return [request for request in self if msg_type in (None, request.msg_type) and self.take(request)]

    @property
    def is_occupied(self) -> bool:
        """Whether a request sent now would have to wait."""
        return bool(self.running_cells or self._waiting)

    @property
    def has_unanswered_cell(self) -> bool:
        """Whether a serial request is being served and its client does not know it to be idle."""
        return bool(self.running_cells.keys() - self._answered)

    # ---- the lane's thread -----------------------------------------------------------

    def start_next(self) -> Request | None:
        """Take out the request that may start now; None: nothing may."""
        if self.is_starting:
            return None
        request = self._next()
        if request is not None:
            self.is_starting = True
            if request.msg_type in SERIAL:
                self.running_cells[request] = None
        return request

    def _next(self) -> Request | None:
        try:
            if len(self.running_cells) < self._at_once:
                return self._waiting.popleft()
            for request in self:
                if request.msg_type not in SERIAL and self.take(request):
                    return request
        except IndexError:
            pass  # empty
        return None

    def answered(self, request: Request) -> None:
        """Take note that a request is about to be idle for its client: no interrupt from then on is meant for it."""
        self._answered.add(request)

    def served(self, request: Request) -> bool:
        """Take note that a request has been served; return whether a serial one may start now."""
        self._answered.discard(request)
        if request.msg_type not in SERIAL:
            return False
        del self.running_cells[request]
        return True

    def allow_one_more(self) -> Callable[[], None]:
        """Let one more serial request run beside the others, while these await; return the undo."""
        self._at_once += 1
        undone = False

        def undo() -> None:
            nonlocal undone
            if not undone:
                undone = True
                self._at_once -= 1

        return undo
