"""interrupts: which lanes an interrupt reaches, whether it comes as SIGINT or as interrupt_request.

How it ends what runs on one lane is that lane's matter (`execution.interruption`).
"""

from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ipymini.execution import loops, signals, waits
from ipymini.execution.lane import Lane
from ipymini.execution.strikes import ByException, BySignal
from ipymini.frontend.stdin import INTERRUPTED
from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__, os, signal, threading, time  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

OWN_SIGNAL = 2.0  # seconds within which our own SIGINT is handled, unless C code holds the main thread or ignores it


class Interrupts:
    """Of one kernel. Made on the thread that will serve its main lane; only the process's main thread gets signals."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self._main_has_signals = threading.current_thread() is threading.main_thread()
        self._own_signal_until = 0.0  # until then (monotonic) a SIGINT is ours: child lanes have had the interrupt
        self._by_signal: BySignal | None = None
        self._second: signals.Second | None = None
        self._waits_are_cut = False

    # ---- lanes ---------------------------------------------------------------------

    def main_lane(self) -> Lane:
        """Make the main lane."""
        if not self._main_has_signals:
            return self.lane_without_signals("ipymini-main")

        def by_signal(lane: Lane) -> BySignal:
            self._by_signal = BySignal(lane, self._kernel.debug.interrupt, self._ask_retry)
            return self._by_signal

        return Lane("ipymini-main", self._kernel.handle, interruption=by_signal)

    def lane_without_signals(self, name: str, ended: Callable[[Lane], None] = lambda lane: None) -> Lane:
        """Make a lane that runs cells on a thread that gets no signals."""
        kernel = self._kernel

        def by_exception(lane: Lane) -> ByException:
            return ByException(
                lane,
                kernel.debug.interrupt,
                later=kernel.channels.later,
                end_waits=lambda requests: self._end_waits(lane, requests),
            )

        lane = Lane(name, kernel.handle, interruption=by_exception, ended=lambda: ended(lane))
        return lane

    def start(self) -> None:
        """Prepare for the first cell. On the kernel's thread."""
        if self._by_signal is not None:
            self._second = signals.Second(self._by_signal.retry, self._kernel.channels.later)
            self._kernel.undo.append(self._second.undo)
        else:
            self.cut_waits()

    def cut_waits(self) -> None:
        """Let interrupts end the waits of lanes without signals. Once."""
        if not self._waits_are_cut:
            self._waits_are_cut = True
            self._kernel.undo.append(waits.install())

    # ---- interrupts ----------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether an interrupt would end something."""
        kernel = self._kernel
        lanes = (kernel.main, *kernel.subshells.every_lane())
        return kernel.questions.workers.is_running or any(lane.is_running for lane in lanes)

    def on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGINT: end what runs on every lane. Takes no lock; child lanes are left to the I/O thread."""
        ours, self._own_signal_until = time.monotonic() < self._own_signal_until, 0.0
        if not ours:
            self._kernel.channels.call_first(self._interrupt_others)
        if self._by_signal is not None:
            self._by_signal.on_signal(frame)

    def send(self, *, children: bool = True) -> None:
        """End what runs on every lane; nothing if nothing runs. Any thread.

        `children`: the processes of our group get the signal too, if we lead it.
        """
        main, busy = self._kernel.main, self._interrupt_others()
        if not self._main_has_signals:
            if main.is_running:
                main.interruption.interrupt()
            return
        leads = children and self._kernel.owns_process and os.getpgid(0) == os.getpid()
        if not (main.is_running or (busy and leads)):
            return
        if leads:
            self._own_signal_until = time.monotonic() + OWN_SIGNAL
            os.killpg(os.getpid(), signal.SIGINT)
        elif main.ident is not None:
            self._signal_main()

    def send_to(self, ident: int) -> None:
        """Interrupt the lane of one thread: what the debugger asks for where a stopped thread evaluates something."""
        if ident == self._kernel.main.ident and self._main_has_signals:
            self._signal_main()
        for lane in self._without_signals():
            if lane.ident == ident:
                lane.interruption.interrupt()

    def send_second(self) -> None:
        """Have the main thread handle its signals now; if an interrupt is pending, it looks again. Any thread."""
        if self._second is not None:
            self._second.send()

    def _signal_main(self) -> None:
        assert self._kernel.main.ident is not None
        self._own_signal_until = time.monotonic() + OWN_SIGNAL
        signal.pthread_kill(self._kernel.main.ident, signal.SIGINT)

    def _interrupt_others(self) -> bool:
        """End what runs on child lanes, and beside all lanes; return whether a child lane has something."""
        self._kernel.questions.workers.interrupt()
        busy = [lane for lane in self._kernel.subshells.every_lane() if lane.is_running]
        for lane in busy:
            lane.interruption.interrupt()
        return bool(busy)

    def _without_signals(self) -> list[Lane]:
        children = self._kernel.subshells.every_lane()
        return children if self._main_has_signals else [self._kernel.main, *children]

    def _end_waits(self, lane: Lane, requests: list[Request]) -> None:
        """End waits of a child lane that no exception reaches: for an answer, or inside `asyncio.run`."""
        self._kernel.stdin.abandon(requests, KeyboardInterrupt(INTERRUPTED))
        loops.wake(lane.ident)

    def _ask_retry(self, seconds: float) -> None:
        self._kernel.channels.later(seconds, self.send_second)
