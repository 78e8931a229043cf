"""requests: debug_requests, in the order of each client, and the debugger, imported by the first. Speaks no DAP."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ipymini.execution import context
from ipymini.execution.stacks import Called
from ipymini.protocol.messages import Content
from ipymini.protocol.originals import __builtins__, asyncio  # noqa: F401

if TYPE_CHECKING:
    from ipymini.debug.debugger import Debugger
    from ipymini.debug.tracer import Tracer

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
        self._latest: dict[str, asyncio.Task[Any]] = {}  # by client: what serves its latest request

    async def turn(self, client: str, patience: float = PATIENCE) -> None:
        """Wait until the calling task may serve a client's request. On the control lane.

        That is when the one before it has been served, or `patience` seconds later: one that hangs holds up nobody for
        longer. They begin in the order in which they came.
        """
        before = self._latest.get(client)
        self._latest = {one: task for one, task in self._latest.items() if not task.done()}
        if (here := context.current_task()) is not None:
            self._latest[client] = here
        if before is not None:
            await asyncio.wait([before], timeout=patience)

    async def answer(self, content: Content) -> Content:
        """Return the DAP response to a DAP request. On the control lane; IPython has to be there."""
        if self.debugger is None:
            from ipymini.debug.debugger import Debugger
            from ipymini.ipython.compiler import cell_file

            self.debugger = Debugger(
                emit=self._emit, namespace=self._namespace, cell_file=cell_file, strike=self._interrupt
            )
        return await self.debugger.answer(content)

    @property
    def tracer(self) -> "Tracer | None":
        """What stops cells, while a debugger is attached."""
        return self.debugger.tracer if self.debugger is not None and self.debugger.session.is_attached else None

    def enter_cell(self) -> None:
        """Put the calling lane's thread in order, before it runs a cell."""
        if (tracer := self.tracer) is not None:
            tracer.enter_cell()

    def take_strike(self) -> bool:
        """Whether the calling lane's thread was interrupted in the debugger, at the exception that ends its cell.

        That interrupt is forgotten: the cell ends with it now.
        """
        return (tracer := self.tracer) is not None and tracer.take_strike()

    def interrupt(self, ident: int, stack: Iterable[Called]) -> bool:
        """Whether a thread stands at a breakpoint: its cell ends with KeyboardInterrupt then."""
        return self.debugger is not None and self.debugger.interrupt(ident, stack)

    def stop(self) -> None:
        """End it: requests that wait are answered. Not on the control lane, which has to serve still."""
        if self.debugger is not None:
            self.debugger.stop()
