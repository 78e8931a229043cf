"""requests: debug_requests, whose turn it is, and the debugger behind them, imported by the first. Speaks no DAP."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ipymini.execution.stacks import Called
from ipymini.protocol.messages import Content
from ipymini.protocol.originals import __builtins__, asyncio  # noqa: F401

if TYPE_CHECKING:
    from ipymini.debug.debugger import Debugger

PATIENCE = 0.1  # seconds that a debug_request waits for the one before it


class DebugRequests:
    """What the kernel knows of the debugger. Before the first debug_request there is none, and nothing happens."""

    def __init__(
        self,
        *,
        emit: Callable[[Content], None],
        namespace: Callable[[], dict[str, Any]],
        interrupt: Callable[[int], None],
    ):
        """`emit`: publish a debug_event; `namespace`: the user's; `interrupt`: the lane of a thread, by its ident."""
        self._emit, self._namespace, self._interrupt = emit, namespace, interrupt
        self.debugger: Debugger | None = None
        self.turns = Turns(PATIENCE)

    async def answer(self, content: Content) -> Content:
        """Return the DAP response to a DAP request. On the control lane; IPython has to be there."""
        if self.debugger is None:
            from ipymini.debug.debugger import Debugger
            from ipymini.ipython.compiler import cell_file

            self.debugger = Debugger(
                emit=self._emit, namespace=self._namespace, cell_file=cell_file, strike=self._interrupt
            )
        return await self.debugger.request(content)

    def enter_cell(self) -> None:
        """Put the calling lane's thread in order, before it runs a cell."""
        if self.debugger is not None:
            self.debugger.enter_cell()

    def take_strike(self) -> bool:
        """Whether the calling lane's thread was interrupted in the debugger, at the exception that ends its cell."""
        return self.debugger is not None and self.debugger.take_strike()

    def interrupt(self, ident: int, stack: Iterable[Called]) -> bool:
        """Whether a thread stands at a breakpoint: its cell ends with KeyboardInterrupt then."""
        return self.debugger is not None and self.debugger.interrupt(ident, stack)

    def stop(self) -> None:
        """End it: requests that wait are answered."""
        if self.debugger is not None:
            self.debugger.stop()


class Turns:
    """Whose turn it is, by client. For one event loop.

    A request begins when the one before it has ended, or `patience` seconds after it came: one that hangs holds up
    nobody for longer. They begin in the order in which they came, whatever the others do.
    """

    def __init__(self, patience: float):
        self.patience = patience
        self._latest: dict[str, asyncio.Future[None]] = {}  # by client: done when its latest request has ended

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for this client's turn; the next one's is when the block is left."""
        before = self._latest.get(client)
        ended = self._latest[client] = asyncio.get_running_loop().create_future()
        try:
            if before is not None:
                await asyncio.wait([before], timeout=self.patience)
            yield
        finally:
            ended.set_result(None)
            if self._latest.get(client) is ended:
                del self._latest[client]
