"""sitecustomize: in a process with this folder on PYTHONPATH, each call and return of ipymini's is a line of a file.

The file is $CALLS. A line is `call folder.module.Class.function thread` or `return ...`, in the order in which things happen.
"""

import os
import sys
import threading
from types import FrameType
from typing import Any


def _record(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write, ident, threads = os.write, threading.get_ident, threading._active  # type: ignore[attr-defined]

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "return"):
            module = frame.f_globals.get("__name__") or ""
            if module.startswith("ipymini."):
                thread = threads.get(ident())
                line = f"{event} {module[8:]}.{frame.f_code.co_qualname} {thread.name if thread is not None else '?'}\n"
                write(file, line.replace(".<locals>", "").encode())

    threading.setprofile(profile)
    sys.setprofile(profile)


__name__ = "ipymini.execution.recording"  # or an interrupt could strike in `profile`, and Python would call it no more

if "CALLS" in os.environ:
    _record(os.environ["CALLS"])
