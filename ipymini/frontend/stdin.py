"""stdin: ask a frontend for a line and wait for it. Does not replace `input` itself: `install` does, once.

Each question has a waiter of its own, so several lanes may ask at once and be answered in any order. An answer
belongs to the waiter whose input_request it names as its parent; frontends that name none (jupyter_client's
`input`) answer the oldest question of their session. What answers no waiter is ignored.
Spec: "Messages on the stdin (ROUTER/DEALER) channel".
"""

import builtins
import getpass
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from queue import Empty, SimpleQueue
from typing import Any

from ipymini.execution import context
from ipymini.execution.channels import Channels
from ipymini.execution.stacks import safe_point
from ipymini.protocol.messages import IpyminiError, Message, Request
from ipymini.protocol.originals import __builtins__, logger, os, suppress, threading  # noqa: F401

log = logger("ipymini.frontend.stdin")

END_OF_FILE = "\x04"  # the value that a frontend sends for Ctrl-D
INTERRUPTED = "Interrupted by user"  # what the KeyboardInterrupt says, as ipykernel's does


class StdinNotSupported(IpyminiError):
    """The frontend said allow_stdin=False, or the cell that asks has ended."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One question that waits. `answers` takes a str or an exception: SimpleQueue is safe in signal handlers."""

    request: Request
    asked_id: str = field(default_factory=lambda: os.urandom(16).hex())  # the msg_id of the input_request
    answers: "SimpleQueue[str | BaseException]" = field(default_factory=SimpleQueue)


class Stdin:
    """The questions that wait.

    `_waiters` and `_open` are replaced under `_gate`, never changed: signal handlers and the I/O thread read them
    bare. Interrupts do not strike in this module but in `_wait`, so the lock is never held by interrupted code.
    """

    def __init__(self, channels: Channels):
        self._channels = channels
        self._gate = threading.Lock()
        self._waiters: tuple[Waiter, ...] = ()
        self._open: frozenset[Request] = frozenset()  # requests whose cells run and may ask
        self.unsupported: Callable[[str], Exception] = StdinNotSupported  # IPython's own class, once it is there
        # What cannot wait for an answer (windows); returns the seconds until it is due again, or None: never.
        self.meanwhile: Callable[[], float | None] = lambda: None

    def allow(self, request: Request) -> None:
        """Let the cell of this request ask, until `disallow`."""
        with self._gate:
            self._open = self._open | {request}

    def disallow(self, request: Request) -> None:
        """The cell has ended: questions of its threads fail from now on, and those that wait end."""
        with self._gate:
            self._open = self._open - {request}
        self.abandon([request], self.unsupported("input was requested by a cell that has ended"))

    def ask(self, prompt: str, *, password: bool = False) -> str:
        """Ask the frontend for one line and wait for it.

        Runs on the thread that executes the cell, or one that the cell started; never on the I/O thread (it
        would wait for itself). Raises `unsupported` if the request said allow_stdin=False or has ended, EOFError
        if the user sent Ctrl-D, KeyboardInterrupt if the lane is interrupted while waiting.
        """
        request = context.current()
        refusal = self.unsupported(
            f"{'getpass' if password else 'raw_input'} was called, but this frontend does not support input requests."
        )
        if request is None:
            raise refusal
        waiter = Waiter(request)
        with self._gate:
            if request not in self._open:  # from here on `disallow` finds the waiter
                raise refusal
            self._waiters = (*self._waiters, waiter)
        try:
            content = {"prompt": str(prompt), "password": password}
            message = Message("input_request", content, request.header_json, msg_id=waiter.asked_id)
            self._channels.send_while(lambda: waiter in self._waiters, "stdin", message, request.identities)
            answer = self._wait(waiter)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(INTERRUPTED) from None
        finally:
            with self._gate:
                self._waiters = tuple(other for other in self._waiters if other is not waiter)
        if isinstance(answer, BaseException):
            raise answer
        if answer == END_OF_FILE:
            raise EOFError
        return answer

    @safe_point
    def _wait(self, waiter: Waiter) -> "str | BaseException":
        while (seconds := self.meanwhile()) is not None:
            with suppress(Empty):
                return waiter.answers.get(timeout=seconds)
        return waiter.answers.get()

    def answer(self, reply: Request) -> None:
        """Take an input_reply. Runs on the I/O thread."""
        waiter = self._addressee(reply)
        if waiter is None:
            log.debug("ignored input_reply: nobody waits for it msg_id=%s", reply.msg_id[:8])
            return
        value = reply.content.get("value", "")
        waiter.answers.put(value if isinstance(value, str) else "")

    def _addressee(self, reply: Request) -> Waiter | None:
        same_client = [waiter for waiter in self._waiters if waiter.request.identities == reply.identities]
        asked = reply.parent_header.get("msg_id")
        if not asked:
            return same_client[0] if same_client else None
        for waiter in same_client:
            if asked in (waiter.asked_id, waiter.request.msg_id):
                return waiter
        return None

    def abandon(self, requests: Iterable[Request], error: BaseException) -> None:
        """End the questions of these requests with an error. From any thread, also in a signal handler."""
        wanted = set(requests)
        for waiter in self._waiters:
            if waiter.request in wanted:
                waiter.answers.put(error)

    def abandon_all(self, error: BaseException) -> None:
        """End every question: the kernel stops."""
        self.abandon([waiter.request for waiter in self._waiters], error)

    def install(self, *, shared: bool = False) -> Callable[[], None]:
        """Replace `input` and `getpass.getpass` for the whole process, once; return the undo.

        `shared`: the program around the kernel keeps them for itself; what a cell has caused asks the frontend.

        Not around each cell: an async cell that awaits before `input()`, and a subshell's cell that ends
        meanwhile, must find it in place.
        """
        before: tuple[Any, Any] = (builtins.input, getpass.getpass)

        @wraps(before[0])
        def kernel_input(prompt: object = "", /) -> str:
            if shared and context.own() is None:
                return str(before[0](prompt))
            return self.ask(str(prompt))

        def kernel_getpass(prompt: str = "Password: ", stream: Any = None, **unsupported: Any) -> str:
            if shared and context.own() is None:
                return str(before[1](prompt, stream, **unsupported))
            if stream is not None or unsupported:
                warnings.warn(
                    "stream and echo_char have no effect: the frontend shows the prompt", UserWarning, stacklevel=2
                )
            return self.ask(prompt, password=True)

        builtins.input, getpass.getpass = kernel_input, kernel_getpass

        def undo() -> None:
            builtins.input, getpass.getpass = before

        return undo
