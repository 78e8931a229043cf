"""A bridge in the test's own process, without a kernel, and an iopub that only remembers what it said."""

import asyncio
import os
import sys
import threading
from contextlib import contextmanager

from ipymini.execution import context
from ipymini.protocol.messages import Request


class RecordingIOPub:
    """Remembers what is said as (msg_type, content), by the request that caused it."""

    ident = "engine"

    def __init__(self):
        self.said = []

    def send(self, msg_type, content, **envelope):
        self.said.append((context.current(), msg_type, content, envelope))

    def execute_input(self, code, execution_count):
        self.send("execute_input", {"code": code, "execution_count": execution_count})

    def execute_result(self, data, metadata, execution_count):
        self.send("execute_result", {"data": data, "metadata": metadata, "execution_count": execution_count})

    def error(self, ename, evalue, traceback):
        self.send("error", {"ename": ename, "evalue": evalue, "traceback": traceback})

    def display_data(self, data, metadata=None, transient=None, *, update=False, buffers=()):
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        self.send("update_display_data" if update else "display_data", content, buffers=buffers)

    def clear_output(self, wait=False):
        self.send("clear_output", {"wait": wait})


class Session:
    """A bridge, and one shell (main or sub) of it, as a client would see them."""

    def __init__(self, bridge, iopub, subshell_id=None):
        self.bridge, self.iopub, self.subshell_id = bridge, iopub, subshell_id
        self.shell = bridge.shell

    def request(self, msg_type="execute_request", **content):
        header = {"msg_id": os.urandom(4).hex(), "msg_type": msg_type, "session": "client"}
        if self.subshell_id:
            header["subshell_id"] = self.subshell_id
        return Request(header, content)

    async def execute_async(self, code, **options):
        with context.handling(request := self.request()):
            reply = await self.bridge.execute(code, **options)
        return reply, [(kind, content) for cause, kind, content, _ in list(self.iopub.said) if cause is request]

    def execute(self, code, **options):
        """Run a cell; return its reply and what was said meanwhile, as (msg_type, content)."""
        return asyncio.run(self.execute_async(code, **options))

    def value(self, code, **options):
        """Return the text of a cell's result, or None."""
        reply, said = self.execute(code, **options)
        assert reply["status"] == "ok", reply
        texts = [content["data"]["text/plain"] for kind, content in said if kind == "execute_result"]
        return texts[0] if texts else None


@contextmanager
def subshell(main):
    subshell_id = f"sub-{os.urandom(4).hex()}"
    main.bridge.open_subshell(subshell_id)
    try:
        yield Session(main.bridge, main.iopub, subshell_id)
    finally:
        main.bridge.close_subshell(subshell_id)


def at_once(functions):
    """Call functions, each on a thread of its own; the interpreter changes between them as often as it can."""
    threads = [threading.Thread(target=function) for function in functions]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(before)
