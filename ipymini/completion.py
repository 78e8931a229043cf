"""completion: what may stand at the cursor, and documentation for what does. Decides nothing about threads but one lock.

IPython's own matchers look at the objects that exist, in a fraction of a millisecond. Jedi reads code, knows names
that have not been executed, and costs a second the first time and up to 100 ms later: it is asked only where the
matchers find nothing, unless IPYMINI_USE_JEDI=1 says always, or 0 (or `Completer.use_jedi = False`) never.
"""

import os
import threading
from collections.abc import Iterable
from typing import Any

from ipymini.messages import Content

# IPython's provisionalcompleter swaps the process's warning filters; two at once would leave the wrong ones.
_lock = threading.RLock()
_TYPES = "_jupyter_types_experimental"


def complete(shell: Any, code: str, cursor_pos: int) -> Content:
    """Return the content of complete_reply. `cursor_pos` counts code points. Any thread."""
    from IPython.core.completer import provisionalcompleter, rectify_completions

    cursor_pos = max(0, min(cursor_pos, len(code)))
    with _lock, provisionalcompleter():
        found = list(rectify_completions(code, _found(shell.Completer, code, cursor_pos)))
    start, end = (found[0].start, found[0].end) if found else (cursor_pos, cursor_pos)
    metadata: Content = {}
    if os.environ.get("IPYMINI_EXPERIMENTAL_COMPLETIONS", "1") != "0":
        metadata[_TYPES] = [
            {"start": one.start, "end": one.end, "text": one.text, "type": one.type, "signature": one.signature}
            for one in found
        ]
    return {
        "matches": [one.text for one in found],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": metadata,
        "status": "ok",
    }


def _found(completer: Any, code: str, cursor_pos: int) -> Iterable[Any]:
    switch = os.environ.get("IPYMINI_USE_JEDI")
    jedi_allowed = completer.jedi_wanted if switch is None else switch != "0"
    if completer.use_jedi:  # set by the user in this session: `%config Completer.use_jedi = True`
        return list(completer.completions(code, cursor_pos))
    if switch != "1":
        found = [one for one in completer.completions(code, cursor_pos) if one.type != "<unknown>" or one.text]
        if found or not jedi_allowed or not _may_know(code, cursor_pos):
            return found
    completer.use_jedi = True
    try:
        return list(completer.completions(code, cursor_pos))
    finally:
        completer.use_jedi = False


def _may_know(code: str, cursor_pos: int) -> bool:
    """Whether there is something for jedi to look at: a name or an attribute before the cursor."""
    before = code[:cursor_pos]
    return bool(before) and (before[-1].isidentifier() or before[-1] in "._0123456789" or before[-1] == "(")


def inspect(shell: Any, code: str, cursor_pos: int, detail_level: int, omit_sections: Iterable[str]) -> Content:
    """Return the content of inspect_reply: text/plain, and text/html if the shell is so configured. Any thread."""
    from IPython.utils.tokenutil import token_at_cursor

    name = token_at_cursor(code, max(0, min(cursor_pos, len(code))))
    with _lock:
        try:
            bundle = shell.object_inspect_mime(name, detail_level=detail_level, omit_sections=tuple(omit_sections))
        except KeyError:
            return {"status": "ok", "found": False, "data": {}, "metadata": {}}
    if not shell.enable_html_pager:
        bundle.pop("text/html", None)
    bundle.pop("application/json", None)  # JupyterLab would show it as a tree in the tooltip
    return {"status": "ok", "found": True, "data": bundle, "metadata": {}}


def prime(shell: Any) -> None:
    """Import what the first completion, the first inspection and the first traceback need: over a second of work."""
    complete(shell, "pri", 3)
    inspect(shell, "print", 5, 0, ())
    completer = shell.Completer
    if completer.jedi_wanted and os.environ.get("IPYMINI_USE_JEDI") != "0":
        import jedi

        # Not through the completer: its lock would keep a real request waiting for as long as this takes.
        jedi.Interpreter("import os\nos.pa", [{}]).complete(2, 5)
