"""preload: imports what the first completion and the first traceback need, while the kernel has nothing to do."""

from typing import TYPE_CHECKING

from ipymini.protocol.originals import __builtins__, time  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

QUIET = 1.0  # seconds since the last cell


class Preload:
    """Fields: main lane; `_look` on the I/O thread."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self._begun = False
        self._last_cell = 0.0  # when it ended

    def cell_ended(self) -> None:
        """Wait for a quiet second from now on. After each cell."""
        self._last_cell = time.monotonic()
        if not self._begun:
            self._begun = True
            self._kernel.channels.later(QUIET, self._look)

    def _look(self) -> None:
        kernel = self._kernel
        if kernel.shutdown.has_begun:
            return
        if kernel.main.queue.is_occupied or time.monotonic() - self._last_cell < QUIET:
            kernel.channels.later(QUIET, self._look)
            return
        kernel.questions.workers.start(kernel.bridge.prime)
