"""shutdown: the end of a kernel, from the request to the last frame. Ends no single cell: that is `interrupts`.

Theory. The end is asked for by shutdown_request, `exit` in a cell, SIGTERM or SIGHUP, the death of the parent process,
or a crash of the I/O thread. Then, each step behind the one before it:

1. `begin`: no new work is taken; who asks for some is told so.
2. `stop`: every lane is interrupted, again and again, until the main lane has ended.
3. `close`, on the main lane's thread: what waits is answered, IPython writes its history, exit functions run,
   shutdown_reply is published, the sockets are closed, what was replaced in the process is put back.

User code may hold up 2 and 3. After END_BY, or EXIT_BY with exit functions, the I/O thread does what is left of 3
and ends the process (`_end_now`).
"""

import atexit
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ipymini.execution import processes, sockets
from ipymini.execution.lane import Lane
from ipymini.protocol.messages import KernelStopping
from ipymini.protocol.originals import __builtins__, logger, os, threading  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

log = logger("ipymini.serving.shutdown")

# Seconds.
AFTER_EXIT = 0.5  # between the reply to a cell that calls `exit` and `stop`: jupyter console reads it before
INTERRUPT_EVERY = 0.1  # while cells run
END_BY = 0.9  # after `stop`: when cells may hold up the end no longer
EXIT_BY = 1.8  # after `stop`: when exit functions may hold it up no longer
JOIN_OTHERS = 0.2  # for each other lane, when the main lane has ended
JOIN_CONTROL = 0.3  # for the last replies on control


class Shutdown:
    """Shared fields: `has_begun` and `_is_announced` are set once, under `_once`; the others by one thread each."""

    def __init__(self, kernel: "Kernel"):
        self._kernel = kernel
        self.has_begun = False  # no new work is taken
        self.is_terminated = False  # by SIGTERM or SIGHUP
        self._restart = False
        self.exit_asked = False
        self._lanes_ended = False
        self._ends_now = False
        self._is_announced = False
        self._once = threading.Lock()

    # ---- any thread ------------------------------------------------------------------

    def begin(self, *, restart: bool = False) -> bool:
        """Take no new work from now on. Return the restart flag, of the first call."""
        with self._once:
            if not self.has_begun:
                self.has_begun, self._restart = True, restart
        return self._restart

    def ask_exit(self) -> None:
        """`exit` was called in a cell, or at the start: stop once its reply is on its way."""
        self.exit_asked = True

    def stop(self) -> None:
        """End what runs, and the kernel's `run` with it. Does not wait. A second call is harmless."""
        self.begin()
        later = self._kernel.channels.later
        later(END_BY, lambda: None if self._lanes_ended else self._end_now())
        later(EXIT_BY, self._end_now)
        self._kernel.outbox.call(self._interrupt_until_ended)

    def on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGHUP: stop in good order; a cell that runs now has no result, neither ok nor an error.

        Who watches the process (nbclient, papermill, servers) then says that the kernel died, and takes no half-run
        notebook for a whole one.
        """
        self.is_terminated = True
        self._kernel.outbox.call(self.stop)

    def stop_if_asked(self, msg_type: str = "") -> bool:
        """After the reply to a request of this type: stop if that, or a cell, has asked for it; return whether."""
        if msg_type == "shutdown_request":
            self.stop()
        elif self.exit_asked:
            self.begin()
            self._kernel.channels.later(AFTER_EXIT, self.stop)
        return self.has_begun

    # ---- the I/O thread ----------------------------------------------------------------

    def _interrupt_until_ended(self) -> None:
        """Interrupt until the main lane has ended: user code may catch one, or be between two cells."""
        if not self._lanes_ended:
            self._interrupt_lanes()
            self._kernel.channels.later(INTERRUPT_EVERY, self._interrupt_until_ended)

    def _interrupt_lanes(self) -> None:
        kernel = self._kernel
        for lane in self._lanes_of_cells():
            lane.stop()  # first: who fails now leaves it to us to answer what waits behind
        kernel.stdin.abandon_all(KernelStopping())
        kernel.interrupts.send(children=False)

    def _end_now(self) -> None:
        """User code has held up the end for too long: answer what waits, say so, and close the sockets."""
        log.warning("user code held up the shutdown")
        self._ends_now = True
        for lane in self._lanes_of_cells():
            self._kernel.replies.answer_unserved(lane, KernelStopping(), begun=list(lane.interruption.open))
        self._announce()
        self._kernel.channels.begin_closing()

    def on_io_ended(self, crashed: bool) -> None:
        """The sockets are closed. As the I/O thread's last act."""
        if self._kernel.owns_process and (crashed or self._ends_now):
            processes.end_group()
            os._exit(1 if crashed else 0)
        if crashed:  # the process is a program's, which goes on; no timer can end the lanes now
            self.begin()
            while not (self._lanes_ended or self._kernel.main.join(INTERRUPT_EVERY)):
                self._interrupt_lanes()

    # ---- the main lane's thread ----------------------------------------------------------

    def close(self, end_bridge: Callable[[], object] | None) -> None:
        """Do what is left when the main lane has ended, or could not start; whatever fails, our children end last."""
        try:
            self._close(end_bridge)
        finally:
            if self._kernel.owns_process:
                processes.end_group()

    def _close(self, end_bridge: Callable[[], object] | None) -> None:
        kernel = self._kernel
        self.begin()
        others = kernel.subshells.every_lane()
        kernel.questions.workers.interrupt()
        kernel.questions.lane.stop()
        for lane in (*others, *([kernel.questions.lane] if kernel.questions.lane.thread else [])):
            lane.join(JOIN_OTHERS)  # their last replies leave before the sockets close
        self._lanes_ended = True
        kernel.debug.stop()  # its requests are served on control
        for lane in (kernel.main, kernel.questions.lane, kernel.control, *others):
            lane.stop()
            kernel.replies.answer_unserved(lane, KernelStopping())
        kernel.control.join(JOIN_CONTROL)  # a debug_request that waited has its answer now
        if end_bridge is not None:
            end_bridge()
        if kernel.owns_process:
            sockets.keep_frames()
            atexit._run_exitfuncs()
        self._announce()
        kernel.channels.close()
        for undo in reversed(kernel.undo):
            undo()

    def _announce(self) -> None:
        """Publish shutdown_reply and remove the connection file, once: the I/O thread may do it during `close`."""
        with self._once:
            if self._is_announced:
                return
            self._is_announced = True
        kernel = self._kernel
        content = {"status": "ok", "restart": self._restart}
        topic = f"kernel.{kernel.iopub.ident}.shutdown".encode()
        kernel.iopub.send("shutdown_reply", content, topic=topic, parent=None)
        if kernel.owned_file is not None:
            kernel.owned_file.unlink(missing_ok=True)

    def _lanes_of_cells(self) -> list[Lane]:
        kernel = self._kernel
        return [kernel.main, kernel.questions.lane, *kernel.subshells.every_lane()]
