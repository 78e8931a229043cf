"""completion: complete_reply out of IPython's completer. Runs no code of its own.

Names that exist are found first, by IPython's own matchers, in a millisecond. Jedi, which reads the code without
running it, takes a hundred times as long and is asked only if they find nothing. IPYMINI_USE_JEDI=1 asks it
always, 0 never; `c.Completer.use_jedi = False` also means never.
"""

import os
import threading
from typing import Any

from ipymini.messages import Content


class Completion:
    """All completions of a kernel. The lock: `provisionalcompleter` swaps warning filters of the whole process."""

    def __init__(self, shell: Any):
        self._shell = shell
        self._lock = threading.Lock()
        self._jedi = os.environ.get("IPYMINI_USE_JEDI", "")
        self._types = os.environ.get("IPYMINI_EXPERIMENTAL_COMPLETIONS", "1") != "0"
        self._wants_jedi: bool | None = None  # what the configuration said

    def complete(self, code: str, cursor_pos: int) -> Content:
        """Return the content of complete_reply. Any thread."""
        with self._lock:
            found = self._find(code, max(0, min(cursor_pos, len(code))))
        start = found[0].start if found else cursor_pos
        end = found[0].end if found else cursor_pos
        metadata: Content = {}
        if self._types:
            metadata["_jupyter_types_experimental"] = [
                {"start": one.start, "end": one.end, "text": one.text, "type": one.type, "signature": one.signature}
                for one in found
            ]
        return {
            "status": "ok",
            "matches": [one.text for one in found],
            "cursor_start": start,
            "cursor_end": end,
            "metadata": metadata,
        }

    def _find(self, code: str, cursor_pos: int) -> list[Any]:
        completer = self._shell.Completer
        if self._wants_jedi is None:
            self._wants_jedi = bool(completer.use_jedi)
        jedi = self._jedi != "0" and (self._wants_jedi or self._jedi == "1")
        found = self._ask(completer, code, cursor_pos, jedi=jedi and self._jedi == "1")
        if jedi and self._jedi != "1" and not found:
            found = self._ask(completer, code, cursor_pos, jedi=True)
        return found

    @staticmethod
    def _ask(completer: Any, code: str, cursor_pos: int, *, jedi: bool) -> list[Any]:
        from IPython.core.completer import provisionalcompleter, rectify_completions

        completer.use_jedi = jedi
        with provisionalcompleter():
            return list(rectify_completions(code, completer.completions(code, cursor_pos)))

    def prime(self) -> None:
        """Make the completer and import jedi: its first completion takes a second."""
        with self._lock:
            self._find("pri", 3)
            if self._jedi != "0" and self._wants_jedi:
                self._ask(self._shell.Completer, "import os; os.pa", 16, jedi=True)
