"""harness: a real kernel process and what it says, collected by the request that caused it. Asserts nothing itself.

Five verbs: `send`, `reply`, `replies`, `outputs`, `answer_input`. Every wait has a deadline; on a timeout all that
was seen and the kernel's thread stacks are in the error.
"""

import math
import os
import random
import signal
import tempfile
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket as probe_socket
from typing import Any

import zmq
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.session import Session

REPOSITORY = Path(__file__).resolve().parent.parent
KERNELS = REPOSITORY / "share" / "jupyter" / "kernels"
CHANNELS = ("shell", "control", "stdin", "iopub")
DEADLINE = 50.0  # seconds: the patience of a busy machine, no measure of speed; less than the minute that cells sleep


class KernelUnderTest:
    """One client of one kernel. `second_client()` makes another client of the same kernel."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient, log: Path):
        self.manager, self.client, self.log = manager, client, log
        self.seen: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by parent msg_id, in order of arrival
        self.poller = zmq.Poller()
        self._channels = {getattr(client, f"{name}_channel").socket: name for name in CHANNELS}
        for socket in self._channels:
            self.poller.register(socket, zmq.POLLIN)

    # ---- the five verbs ------------------------------------------------------

    def send(
        self,
        msg_type: str,
        *,
        channel: str = "shell",
        buffers: Any = None,
        metadata: Any = None,
        header: Any = None,
        parent: Any = None,
        **content: Any,
    ) -> str:
        """Send a request; return its msg_id. An execute_request gets the usual defaults."""
        if msg_type == "execute_request":
            usual = {
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            }
            content = {**usual, **content}
        message = self.client.session.msg(msg_type, content, parent=parent, metadata=metadata)
        message["header"].update(header or {})
        socket = getattr(self.client, f"{channel}_channel").socket
        self.client.session.send(socket, message, buffers=buffers)
        return str(message["header"]["msg_id"])

    def reply(self, msg_id: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """Return the reply's content, once there."""
        return self.replies(msg_id, timeout=timeout)[msg_id]

    def replies(self, *msg_ids: str, timeout: float = DEADLINE) -> dict[str, dict[str, Any]]:
        """Return the replies' contents by msg_id, once all are there."""
        self.wait_until(lambda: all(self.reply_messages(one) for one in msg_ids), timeout, f"replies to {msg_ids}")
        return {one: self.reply_messages(one)[0]["content"] for one in msg_ids}

    def outputs(self, msg_id: str, timeout: float = DEADLINE) -> list[str]:
        """Return what iopub said about a request, up to idle, each message as one line; neighbouring texts as one."""
        lines: list[str] = []
        for message in self.iopub(msg_id, timeout):
            line, name = brief(message), message["content"].get("name") if message["msg_type"] == "stream" else None
            if name and lines and lines[-1].startswith(f"{name}:"):
                lines[-1] += line.removeprefix(f"{name}:")  # how text is cut into messages is the clock's doing
            else:
                lines.append(line)
        return lines

    def answer_input(self, value: str, timeout: float = DEADLINE, **parent: Any) -> dict[str, Any]:
        """Wait for an input_request, answer it, and return its content."""

        def waiting() -> list[dict[str, Any]]:
            return [
                message
                for msg_id, pool in list(self.seen.items())
                for message in pool
                if message["msg_type"] == "input_request" and not self.reply_messages(msg_id)  # else: withdrawn
            ]

        self.wait_until(lambda: bool(waiting()), timeout, "input_request")
        request = waiting()[0]
        self.send("input_reply", channel="stdin", value=value, parent=parent.get("parent", request["header"]))
        self.seen[request["parent_header"]["msg_id"]].remove(request)
        return dict(request["content"])

    # ---- what they are made of -------------------------------------------------

    def execute(self, code: str, timeout: float = DEADLINE, **content: Any) -> tuple[dict[str, Any], list[str]]:
        """Run a cell; return the reply's content and the outputs between execute_input and idle."""
        msg_id = self.send("execute_request", code=code, **content)
        reply = self.reply(msg_id, timeout)
        said = self.outputs(msg_id, timeout)
        return reply, [line for line in said if not line.startswith(("status:", "execute_input:"))]

    def iopub(self, msg_id: str, timeout: float = DEADLINE) -> list[dict[str, Any]]:
        """Return the iopub messages of a request, up to its idle."""
        self.wait_until(
            lambda: any(brief(one) == "status:idle" for one in self.messages("iopub", msg_id)),
            timeout,
            f"idle of {msg_id}",
        )
        return self.messages("iopub", msg_id)

    def reply_messages(self, msg_id: str) -> list[dict[str, Any]]:
        """Return the replies that have come to a request so far: there should be one."""
        return self.messages("shell", msg_id) + self.messages("control", msg_id)

    def wait_for(
        self, channel: str, msg_type: str, timeout: float = DEADLINE, msg_id: str | None = None, text: str = ""
    ) -> dict[str, Any]:
        """Wait for a message of this type on a channel, of one request or any; return the first."""

        def found() -> list[dict[str, Any]]:
            pools = [self.seen[msg_id]] if msg_id else list(self.seen.values())
            return [
                message
                for pool in pools
                for message in pool
                if message["channel"] == channel and message["msg_type"] == msg_type and text in brief(message)
            ]

        self.wait_until(lambda: bool(found()), timeout, f"{msg_type} {text!r} on {channel}")
        return found()[0]

    def interrupt(self) -> None:
        """Send SIGINT as a server does: to the kernel's process group."""
        self.manager.interrupt_kernel()

    def ask_to_interrupt(self) -> dict[str, Any]:
        """Interrupt by message."""
        return self.reply(self.send("interrupt_request", channel="control"))

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr]

    def second_client(self) -> "KernelUnderTest":
        """Return another client of the same kernel, connected and welcome."""
        client = self.manager.client(session=Session(key=self.manager.session.key))  # one session sees no message twice
        client.start_channels()
        other = KernelUnderTest(self.manager, client, self.log)
        other.wait_for("iopub", "iopub_welcome")
        return other

    def messages(self, channel: str, msg_id: str) -> list[dict[str, Any]]:
        """Return what was seen on a channel for a request."""
        return [message for message in self.seen[msg_id] if message["channel"] == channel]

    def wait_until(self, there: Any, timeout: float, what: str) -> None:
        """Receive messages until `there()`; fail with a report if that takes longer than `timeout` seconds."""
        end = time.monotonic() + timeout
        while not there():
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} within {timeout:g} s\n{self.report()}")
            arrived = self.poller.poll(min(left, 0.5) * 1000)
            for socket, _ in arrived:
                self._take(socket)
            self.drain(most=100)  # `there` looks at all that has come: not for each message of a flood
            if not arrived and not self.manager.is_alive():
                raise AssertionError(f"no {what}: the kernel has ended\n{self.report()}")

    def drain(self, most: float = math.inf) -> None:
        """Take what has arrived, without waiting; stop after `most` rounds."""
        while most > 0 and (ready := self.poller.poll(0)):
            most -= 1
            for socket, _ in ready:
                self._take(socket)

    def _take(self, socket: Any) -> None:
        message = self.client.session.recv(socket, copy=True)[1]
        message["channel"] = self._channels[socket]
        self.seen[message["parent_header"].get("msg_id", "")].append(message)

    def report(self) -> str:
        """Return all that was seen, and the end of the kernel's log."""
        lines = [
            f"  {message['channel']}: {brief(message)}  <- {parent[-8:]}"
            for parent, pool in self.seen.items()
            for message in pool
        ]
        if self.manager.is_alive():
            os.kill(self.pid, signal.SIGUSR1)  # faulthandler writes every thread's stack to the log
            time.sleep(0.3)  # it is a signal handler in C: nothing tells when it is done
        return (
            "seen:\n"
            + "\n".join(lines[-60:])
            + f"\nkernel alive: {self.manager.is_alive()}, log:\n"
            + self.log.read_text()[-6000:]
        )


def free_ports(count: int) -> range:
    """Return so many ports in a row that nobody has now; below those that the system gives out to all who ask."""
    for _ in range(1000):
        low = random.SystemRandom().randrange(10_000, 30_000)  # a test may have seeded the other one
        ports = range(low, low + count)
        try:
            for port in ports:
                with closing(probe_socket()) as probe:
                    probe.bind(("0.0.0.0", port))
        except OSError:
            continue
        return ports
    raise AssertionError(f"no {count} ports in a row are free between 10000 and 30000")


def brief(message: dict[str, Any]) -> str:
    """Return a message as one line: its type and what matters of its content."""
    kind, content = message["msg_type"], message["content"]
    if kind == "status":
        return f"status:{content['execution_state']}"
    if kind == "stream":
        return f"{content['name']}:{content['text']}"
    if kind == "execute_input":
        return f"execute_input:{content['code']}"
    if kind in ("execute_result", "display_data", "update_display_data"):
        return f"{kind}:{content['data'].get('text/plain', sorted(content['data']))}"
    if kind == "error":
        return f"error:{content['ename']}:{content['evalue']}"
    if kind == "clear_output":
        return f"clear_output:{content['wait']}"
    if kind == "debug_event":
        return f"debug_event:{content['event']}"
    return kind


@contextmanager
def start_kernel(
    *options: str,
    kernel_name: str = "ipymini",
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    **traits: Any,
) -> Any:
    """Start a kernel with a home of its own, and end it; yields a KernelUnderTest that has been welcomed."""
    with tempfile.TemporaryDirectory(prefix="ipymini-test-") as home:
        manager = KernelManager(
            kernel_name=kernel_name, kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(KERNELS)]), **traits
        )
        if manager.transport == "tcp":  # others get the manager's own choice from the system before the kernel binds
            manager.cache_ports = False
            names = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
            for name, port in zip(names, free_ports(len(names)), strict=True):
                setattr(manager, name, port)
        log = Path(home) / "kernel.log"
        environment = {
            **os.environ,
            "IPYTHONDIR": home,
            "MPLCONFIGDIR": home,
            "PYTHONPATH": str(REPOSITORY),
            **(env or {}),
        }
        output = log.open("wb")  # stays open: a manager that restarts the kernel passes it on again
        manager.start_kernel(extra_arguments=list(options), env=environment, cwd=cwd, stdout=output, stderr=output)
        client = manager.client()
        client.start_channels()
        kernel = KernelUnderTest(manager, client, log)
        try:
            kernel.wait_for("iopub", "iopub_welcome")
            kernel.reply(kernel.send("kernel_info_request"))
            yield kernel
        finally:
            client.stop_channels()
            if manager.has_kernel:
                manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
            output.close()
