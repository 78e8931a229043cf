"""Random requests of several clients to several subshells, with interrupts between: every answer is complete and right.

IPYMINI_FUZZ=1 plays for minutes; IPYMINI_FUZZ_SEED plays again what has failed.
"""

import os
import random
import textwrap
import time
from typing import Any, NamedTuple

from harness import KernelUnderTest, brief, start_kernel
from subshells import create, delete, descriptors, gone, listed, settled


class Cell(NamedTuple):
    """A cell; `{0}` stands for a word that no other cell has, as they share a namespace."""

    code: str
    stdout: str = ""  # in the end
    result: str | None = None
    endless: bool = False  # ends with an interrupt, or its subshell


CELLS = {
    "result": Cell("'{0}'", result="'{0}'"),
    "prints": Cell(
        "for {0} in range(5): print('{0}', {0})",
        stdout="{0} 0\n{0} 1\n{0} 2\n{0} 3\n{0} 4\n",
    ),
    "sleeps": Cell(
        """
        import time
        print('{0} a')
        time.sleep(.003)
        print('{0} b')
        '{0}'
        """,
        stdout="{0} a\n{0} b\n",
        result="'{0}'",
    ),
    "awaits": Cell(
        """
        import asyncio
        print('{0} a')
        await asyncio.sleep(.003)
        print('{0} b')
        '{0}'
        """,
        stdout="{0} a\n{0} b\n",
        result="'{0}'",
    ),
    "computes": Cell("print('{0}', sum(range(100000)))", stdout="{0} 4999950000\n"),
    "nests": Cell(
        """
        import asyncio
        async def {0}():
            await asyncio.sleep(.001)
            return '{0}'
        asyncio.run({0}())
        """,
        result="'{0}'",
    ),
    "threads": Cell(
        """
        import threading
        {0} = threading.Thread(target=print, args=('{0}',))
        {0}.start()
        {0}.join()
        del {0}
        """,
        stdout="{0}\n",
    ),
    "fails": Cell("raise ValueError('{0}')"),
    "sleeps long": Cell("import time\nprint('{0}'); time.sleep(600)", stdout="{0}\n", endless=True),
    "awaits long": Cell("import asyncio\nprint('{0}'); await asyncio.sleep(600)", stdout="{0}\n", endless=True),
    "gathers": Cell("import asyncio\nawait asyncio.gather(*(asyncio.sleep(600) for _ in range(5)))", endless=True),
    "loops": Cell("print('{0}')\nwhile True: pass", stdout="{0}\n", endless=True),
    "awaits and loops": Cell("import asyncio\nwhile True: await asyncio.sleep(0)", endless=True),
    "waits": Cell("import threading; threading.Event().wait()", endless=True),
    "nests long": Cell("import asyncio; asyncio.run(asyncio.sleep(600))", endless=True),
    "asks": Cell("input('{0}')", endless=True),
}
KINDS = {  # what comes next, and how often
    "execute": 10, "complete": 2, "inspect": 1, "history": 1, "comm": 2, "interrupt": 2, "create": 2, "delete": 1, "pause": 2,
}  # fmt: skip


class Story(tuple[Any, ...]):
    """What happened to a request; pytest shortens what it shows of a plain tuple."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))


class Fuzz:
    """One round: random requests from several clients to several subshells, and what must be true of their answers."""

    def __init__(self, clients: list[KernelUnderTest], seed: str):
        self.clients, self.random = clients, random.Random(seed)
        self.alive: list[str] = []
        self.deleted: set[str] = set()
        # msg_id: client, kind, token, shell, interrupts before it
        self.sent: dict[str, tuple[KernelUnderTest, str, str, str | None, int]] = {}
        self.interrupts = 0

    def play(self, steps: int) -> None:
        for kind in self.random.choices(list(KINDS), list(KINDS.values()), k=steps):
            getattr(self, kind)()

    def send(self, kind: str, token: str, shell: str | None, msg_type: str, **content: Any) -> str:
        client = self.random.choice(self.clients)
        msg_id = client.send(msg_type, header={"subshell_id": shell}, **content)
        self.sent[msg_id] = (client, kind, token, shell, self.interrupts)
        return msg_id

    def shell(self) -> str | None:
        gone = self.random.choice(sorted(self.deleted)) if self.deleted and self.random.random() < 0.05 else None
        return gone or self.random.choice([None, *self.alive])

    def token(self) -> str:
        return f"t{self.random.getrandbits(40):010x}"

    def execute(self) -> None:
        kind, token = self.random.choice(list(CELLS)), self.token()
        stops = self.random.random() < 0.3
        code = textwrap.dedent(CELLS[kind].code).strip().format(token)
        self.send(kind, token, self.shell(), "execute_request", code=code, stop_on_error=stops, allow_stdin=True)

    def complete(self) -> None:
        self.send("complete", "zip", self.shell(), "complete_request", code="zi", cursor_pos=2)

    def inspect(self) -> None:
        self.send("inspect", "", self.shell(), "inspect_request", code="zip", cursor_pos=3, detail_level=0)

    def history(self) -> None:
        self.send("history", "", self.shell(), "history_request", hist_access_type="tail", n=5, raw=True, output=False)

    def comm(self) -> None:
        self.send("comm", self.token(), self.shell(), "comm_msg", comm_id="fuzz", data={})

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.random.random() < 0.5:
            self.clients[0].interrupt()
        else:
            self.clients[0].send("interrupt_request", channel="control")

    def create(self) -> None:
        if len(self.alive) < 5:
            self.alive.append(create(self.clients[0]))

    def delete(self) -> None:
        if self.alive:
            one = self.alive.pop(self.random.randrange(len(self.alive)))
            self.deleted.add(one)
            assert delete(self.clients[0], one) == {"status": "ok"}

    def pause(self) -> None:
        """Let the kernel get on, for as long as an answer takes."""
        self.clients[0].reply(self.clients[0].send("list_subshell_request", channel="control"))

    def done(self, msg_id: str) -> bool:
        client, kind, *_ = self.sent[msg_id]
        idle = any(one["channel"] == "iopub" and brief(one) == "status:idle" for one in client.seen[msg_id])
        return idle and (kind == "comm" or bool(client.reply_messages(msg_id)))

    def end(self) -> None:
        """Interrupt until everything has been answered, and delete what is left."""
        deadline = time.monotonic() + 60
        while waiting := [msg_id for msg_id in self.sent if not self.done(msg_id)]:
            self.interrupts += 1
            self.clients[0].ask_to_interrupt()
            for client in self.clients:
                client.drain()
            if time.monotonic() > deadline:
                report = [
                    (self.sent[one][1], self.sent[one][3], [brief(m) for m in self.sent[one][0].seen[one]])
                    for one in waiting
                ]
                raise AssertionError(f"no end of {report}\n{self.clients[0].report()}")
        for one in self.alive:
            self.deleted.add(one)
            delete(self.clients[0], one)

    def check(self) -> None:
        counts: set[tuple[str | None, int]] = set()
        for msg_id, (client, kind, token, shell, interrupts) in self.sent.items():
            said = [brief(one) for one in client.seen[msg_id] if one["channel"] == "iopub"]
            # What a collected coroutine or loop of an interrupted cell complains of has no cell that it belongs to.
            said = [line for line in said if not line.startswith("stderr:")]
            story = Story((kind, token, shell, said, [one["content"] for one in client.reply_messages(msg_id)]))
            while kind == "threads" and "error:KeyboardInterrupt:" in said and said[-1].startswith("stdout:"):
                said = said[:-1]  # nobody interrupts its thread
            assert (said[0], said[-1]) == ("status:busy", "status:idle"), story
            assert (said.count("status:busy"), said.count("status:idle")) == (1, 1), story
            if kind == "comm":
                continue
            (reply,) = story[-1]
            if reply.get("ename") == "UnknownSubshellError":
                assert shell in self.deleted and len(said) == 2, story
            elif kind == "complete":
                assert reply["status"] == "ok", story
                assert "zip" in reply["matches"] or (reply["matches"] == [] and self.interrupts > interrupts), story
            elif kind in CELLS:
                self.check_cell(kind, token, reply, said, story, interrupts)
                if reply["status"] == "ok":
                    assert (shell, reply["execution_count"]) not in counts, story
                    counts.add((shell, reply["execution_count"]))
            else:
                assert reply["status"] == "ok", story

    def check_cell(self, kind: str, token: str, reply: Any, said: list[str], story: Any, interrupts: int) -> None:
        _, stdout, result, endless = CELLS[kind]
        if reply["status"] == "aborted":
            assert len(said) == 2, story
            return
        text = "".join(line.removeprefix("stdout:") for line in said if line.startswith("stdout:"))
        results = [line.removeprefix("execute_result:") for line in said if line.startswith("execute_result:")]
        errors = [line for line in said if line.startswith("error:")]
        if reply["status"] == "ok":
            assert not endless and kind != "fails" and not errors, story
            assert text == stdout.format(token), story
            assert results == ([result.format(token)] if result else []), story
        elif reply["ename"] == "KeyboardInterrupt":
            assert self.interrupts > interrupts or story[2] in self.deleted, story
            assert stdout.format(token).startswith(text) or kind == "threads", story
            assert len(errors) <= 1, story
        else:
            assert (kind, reply["ename"]) == ("fails", "ValueError") and reply["evalue"] == token, str(story)

    def forget(self) -> None:
        for client in self.clients:
            client.drain()
            client.seen.clear()


def test_fuzz() -> None:  # B6, B8, B9, Q1, I17
    long = os.environ.get("IPYMINI_FUZZ", "") not in ("", "0")
    seconds = float(os.environ.get("IPYMINI_FUZZ_SECONDS", "600" if long else "5"))
    replay = os.environ.get("IPYMINI_FUZZ_SEED", "")
    seed, _, only = replay.partition(":")
    seed = seed or str(random.SystemRandom().getrandbits(32))
    with start_kernel() as kernel:
        clients = [kernel, kernel.second_client(), kernel.second_client()]
        kernel.execute(
            "import comm\n"
            "fuzz = comm.create_comm(target_name='fuzz', comm_id='fuzz')\n"
            "fuzz.on_msg(lambda message: None)"
        )
        primer = Fuzz(clients, seed)  # what comes with the first use of each thing stays
        primer.alive.append(create(kernel))
        for one in (None, *primer.alive):
            for kind in ("complete", "inspect", "history", "comm"):
                primer.shell = lambda one=one: one  # type: ignore[method-assign,misc]
                getattr(primer, kind)()
        blocked = kernel.send("execute_request", code="import time; print('on'); time.sleep(60)")
        kernel.wait_for("iopub", "stream", msg_id=blocked, text="on")
        primer.sent[blocked] = (kernel, "sleeps long", "", None, 0)
        primer.shell = lambda: None  # type: ignore[method-assign]
        for kind in ("complete", "history"):
            getattr(primer, kind)()  # on the language lane, while the main one is blocked
            asked = list(primer.sent)[-1]
            primer.sent[asked][0].reply(asked)
        primer.end()
        primer.forget()
        gone(kernel)
        before, deadline, number = descriptors(kernel), time.monotonic() + seconds, int(only or 0)
        while time.monotonic() < deadline:
            print(f"IPYMINI_FUZZ_SEED={seed}:{number}")  # pytest shows it when the round fails
            fuzz = Fuzz(clients, f"{seed}:{number}")
            fuzz.play(fuzz.random.randrange(10, 80))
            fuzz.end()
            fuzz.check()
            fuzz.forget()
            assert listed(kernel) == []
            assert kernel.execute("40 + 2")[1] == ["execute_result:42"]
            number += 1
        gone(kernel)
        # A loop of `asyncio.run` that is struck as it is made or closed is left to the collector, once a later error has
        # taken the place of the one that has it in its traceback.
        kernel.execute("1/0")
        kernel.execute("import gc, sys; sys.last_traceback = sys.last_value = None; gc.collect(); None")
        settled(kernel, before + 2)
        assert number > int(only or 0)
        for client in clients[1:]:
            client.client.stop_channels()
