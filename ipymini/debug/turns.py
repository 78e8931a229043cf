"""turns: lets one client's requests begin one after another, and none of them wait for long. Serves nothing itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ipymini.protocol.originals import __builtins__, asyncio  # noqa: F401


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
