"""cells: what a running cell may ask of its kernel: let others run, a subshell for what comes, waiting messages.

`from ipymini import unlock, subshell, process_events`. Each is undone at the end of its `with` block, however the
block ends. Outside a kernel of ours they raise NoKernel.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ipymini.execution import context
from ipymini.protocol.messages import IpyminiError, Request
from ipymini.protocol.originals import __builtins__, contextmanager  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel


class NoKernel(IpyminiError):
    """There is no ipymini kernel in this process, or no cell runs."""


_kernel: "Kernel | None" = None


def serve(kernel: "Kernel | None") -> None:
    """Say which kernel the functions below speak to. Called by the kernel itself."""
    global _kernel
    _kernel = kernel


def kernel() -> "Kernel | None":
    """Return the kernel of this process, if there is one."""
    return _kernel


def _here() -> "tuple[Kernel, Request]":
    request = context.current()
    if _kernel is None or request is None:
        raise NoKernel("expected to be called by a cell of an ipymini kernel: there is none in this process")
    return _kernel, request


@contextmanager
def unlock() -> Iterator[None]:
    """Let queued cells run while this one awaits, until the end of the block.

    >>> with unlock():
    ...     await server.serve()     # the cells below this one run meanwhile

    The other cells run on the same thread, between two steps of this one; each keeps its own output.
    """
    kernel, request = _here()
    undo = kernel.lane_of(request).unlock()
    try:
        yield
    finally:
        undo()


@contextmanager
def subshell() -> Iterator[str]:
    """Send the cells that this client runs from now on to a temporary subshell, until the end of the block.

    >>> with subshell():
    ...     train(model)             # blocks; cells sent meanwhile run beside it, on a thread of their own

    Yields the subshell's id. Cells that were queued before stay where they are.
    """
    kernel, request = _here()
    subshell_id, undo = kernel.subshells.redirect(request.session)
    try:
        yield subshell_id
    finally:
        undo()


def process_events() -> int:
    """Handle the comm messages (and completions, inspections, ...) that wait, from inside a synchronous cell.

    Returns how many were handled. Call it in a loop to let sliders and buttons work while the cell goes on:

    >>> while not button_was_clicked:
    ...     process_events()
    ...     time.sleep(0.01)

    On another thread than the cell's lane it does nothing and returns 0.
    """
    kernel, request = _here()
    lane = kernel.lane_of(request)
    return lane.serve_waiting() if lane.is_current_thread else 0
