"""debug_client: a frontend that debugs, for the tests in this folder. Holds no tests."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import KernelUnderTest

PROMPT = 0.2  # seconds within which control must answer, whatever the debugger does
DEADLINE = 20.0

LOOP = "total = 0\nfor i in range(4):\n    total += i\n    done = i\n"
FUNCTION = "def add(a, b):\n    c = a + b\n    return c\n\nr = add(1, 2)\nr = add(r, 3)\n"


class Client:
    """A frontend that debugs: sends debug_requests, runs cells, and remembers which events it has looked at."""

    def __init__(self, kernel: KernelUnderTest):
        self.kernel = kernel
        self.seq = 0
        self.looked_at: set[str] = set()
        kernel.drain()
        self.looked_at = {event["msg_id"] for event in self.events()}  # of the tests before

    def send(self, command: str, **arguments: Any) -> str:
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments}
        return self.kernel.send("debug_request", channel="control", **content)

    def answer(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the whole DAP response, checked to be one."""
        answer = self.kernel.reply(self.send(command, **arguments))
        expected = {"type": "response", "request_seq": self.seq, "command": command}
        assert {key: answer.get(key) for key in expected} == expected, answer
        assert isinstance(answer["seq"], int) and isinstance(answer["success"], bool), answer
        return answer

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the body of a response that has to be a yes."""
        answer = self.answer(command, **arguments)
        assert answer["success"], f"{command}: {answer.get('message')}\n{self.kernel.log.read_text()[-3000:]}"
        return answer["body"]

    def refused(self, command: str, **arguments: Any) -> str:
        """Return the message of a response that has to be a no."""
        answer = self.answer(command, **arguments)
        assert not answer["success"], answer
        return answer["message"]

    def event(self, name: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """Return the next debug_event of this name that has not been looked at: the whole message."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [event for event in self.events() if event["content"]["event"] == name]
            return bool(found)

        self.kernel.wait_until(there, timeout, f"debug_event {name}")
        self.looked_at.add(found[0]["msg_id"])
        return found[0]

    def events(self) -> list[dict[str, Any]]:
        """Return the debug_events that have come and have not been looked at, oldest first."""
        messages = [message for pool in self.kernel.seen.values() for message in pool]
        events = [one for one in messages if one["msg_type"] == "debug_event" and one["msg_id"] not in self.looked_at]
        return sorted(events, key=lambda one: one["content"]["seq"])

    def stopped(self, timeout: float = DEADLINE) -> dict[str, Any]:
        return self.event("stopped", timeout)["content"]["body"]

    def start(self, **arguments: Any) -> None:
        self.ask("initialize", clientID="test", adapterID="ipymini")
        self.ask("attach", **arguments)
        self.ask("configurationDone")

    def path(self, code: str) -> str:
        return self.ask("dumpCell", code=code)["sourcePath"]

    def break_at(self, code: str, *lines: int | dict[str, Any]) -> list[dict[str, Any]]:
        """Set the breakpoints of a cell; return debugpy's view of them."""
        wanted = [{"line": line} if isinstance(line, int) else line for line in lines]
        return self.ask("setBreakpoints", source={"path": self.path(code)}, breakpoints=wanted)["breakpoints"]

    def run(self, code: str, **kwargs: Any) -> str:
        return self.kernel.send("execute_request", code=code, **kwargs)

    def frames(self, thread: int = 1) -> list[dict[str, Any]]:
        return self.ask("stackTrace", threadId=thread)["stackFrames"]

    def lines(self, thread: int = 1) -> list[tuple[str, int]]:
        return [(frame["name"], frame["line"]) for frame in self.frames(thread)]

    def value(self, expression: str, thread: int = 1) -> str:
        return self.ask("evaluate", expression=expression, frameId=self.frames(thread)[0]["id"])["result"]

    def go_on(self, thread: int = 1) -> None:
        self.ask("continue", threadId=thread)

    def outcome(self, cell: str) -> str:
        """Return how a cell ended: ok, or the exception's name."""
        reply = self.kernel.reply(cell)
        return reply.get("ename") or reply["status"]

    def works_still(self) -> None:
        """Stop in a fresh cell and go on: the debugger is in order."""
        code = f"fresh = {self.seq}\nfresh += 1\n"
        self.break_at(code, 2)
        cell = self.run(code)
        assert self.stopped()["reason"] == "breakpoint"
        self.break_at(code)
        self.go_on()
        assert self.outcome(cell) == "ok"


@contextmanager
def promptly(seconds: float = PROMPT) -> Iterator[None]:
    """Fail if the block takes ten times as long: a deadline, no measure, on a machine that has other work."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert took < seconds * 10, f"took {took:.3f} s"
