"""signal_relay: a process beside the kernel that passes a gateway's signals on to it. Knows no messages of Jupyter's.

A gateway cannot send signals to another machine: it connects to a port, writes one JSON object and closes.
{"signum": n} is a signal (0: is the port still there?), {"shutdown": 1} is the end. This is a process of its own,
because nobody inside of a kernel can end it while C code holds the interpreter. It ends when the kernel has ended.

The protocol does not say who is speaking. So that whoever can reach the port can do little else than what the
protocol is for, only a few signals are passed on, and a message must be short and arrive soon.
"""

import asyncio
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from typing import Any

log = logging.getLogger("ipymini.remote.signal_relay")

SIGNALS = frozenset({0, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1})  # USR1: a dump of all stacks
MAX_BYTES = 1024  # of a message
MESSAGE_TIMEOUT = 5.0  # seconds that a message may take to arrive
MAX_CONNECTIONS = 32  # at a time; one more, and the oldest is closed
MAX_WARNINGS = 20  # so that strangers cannot fill the log
TERM_GRACE = 1.0  # seconds that a shutdown_request has to arrive by itself, before SIGTERM is sent in its place
POLL_INTERVAL = 1.0  # seconds between two looks at the kernel where the system has no pidfd


def start(listener: socket.socket) -> int:
    """Fork the relay of this process, which has no threads yet; return its id. It takes `listener` over."""
    kernel = os.getpid()
    child = os.fork()
    if child:
        listener.close()
        return child
    try:
        os.setsid()  # what is meant for the kernel's group is not for the relay: it ends when the kernel has ended
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(Relay(kernel).serve(listener))
    except BaseException:
        log.exception("the signal relay crashed: the kernel gets no more signals from its gateway")
    os._exit(0)


class Relay:
    """Takes messages from connections, and signals the process `kernel`, which is its parent. On one loop."""

    def __init__(self, kernel: int):
        self._kernel = kernel
        self._open: dict[asyncio.Task[None], None] = {}  # one for each connection, the oldest first
        self._end: asyncio.TimerHandle | None = None
        self._warnings = 0

    async def serve(self, listener: socket.socket) -> None:
        """Serve until the kernel has ended."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        with suppress(AttributeError, OSError):
            loop.add_reader(os.pidfd_open(self._kernel), os._exit, 0)
        while os.getppid() == self._kernel:
            with suppress(TimeoutError, ConnectionError):  # nobody came, or they have left already
                connection, _ = await asyncio.wait_for(loop.sock_accept(listener), POLL_INTERVAL)
                task = loop.create_task(self._receive(connection))
                self._open[task] = None
                task.add_done_callback(self._open.pop)
                if len(self._open) > MAX_CONNECTIONS:
                    self._warn("too many do not come to their end")
                    next(iter(self._open)).cancel()
            await asyncio.sleep(0)  # one reads before the next one is accepted: a crowd closes nobody who has spoken

    async def _receive(self, connection: socket.socket) -> None:
        """Take one message; it is complete when they have closed the connection."""
        text = b""
        with connection:
            try:
                async with asyncio.timeout(MESSAGE_TIMEOUT):
                    while len(text) <= MAX_BYTES and (more := await self._read(connection)):
                        text += more
            except TimeoutError:
                self._warn("it did not come to its end")
                return
        if len(text) > MAX_BYTES:
            self._warn(f"it has more than {MAX_BYTES} bytes")
        elif text:  # else they only looked whether the port is there
            self._handle(text)

    async def _read(self, connection: socket.socket) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(connection, MAX_BYTES + 1)
        except ConnectionError:
            return b""

    def _handle(self, text: bytes) -> None:
        try:
            wanted: Any = json.loads(text)
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, dict):
            self._warn("it is no JSON object")
            return
        if wanted.get("shutdown") and self._end is None:
            log.info("the gateway ends the kernel")
            self._end = asyncio.get_running_loop().call_later(TERM_GRACE, self._signal, signal.SIGTERM)
        number = wanted.get("signum")
        if number is None:
            if "shutdown" not in wanted:
                self._warn("it has neither signum nor shutdown")
        elif not isinstance(number, int) or number not in SIGNALS:
            self._warn("its signum is none that a gateway needs")
        elif number:
            self._signal(number)

    def _signal(self, number: int) -> None:
        """Signal the kernel; with its group, if it leads one, when that is an interrupt: `!sleep` must end too."""
        if os.getppid() != self._kernel:
            return
        log.info("the gateway sends signal %d", number)
        if number == signal.SIGINT and os.getpgid(self._kernel) == self._kernel:
            os.killpg(self._kernel, number)
        else:
            os.kill(self._kernel, number)

    def _warn(self, why: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            more = "; no more of these are reported" if self._warnings == MAX_WARNINGS else ""
            log.warning("dropped a message to the gateway's port: %s%s", why, more)
