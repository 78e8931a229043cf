#!/usr/bin/env python3
"""picture: draws the folders of ipymini and who imports whom, as Mermaid, from the imports. Imports none of them.

`python tools/picture.py` prints it; `python tools/picture.py --write` puts it between the markers of PAGE.

A solid arrow is an import when a module is loaded; a dotted one stands inside of a function, and is made when that is
called. An arrow is left out if longer ways of arrows lead there, too. Imports for the type checker do not count.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "ipymini"
PAGE = REPO / "docs" / "architecture.md"
BEGIN, END = "<!-- picture: python tools/picture.py --write -->\n", "<!-- /picture -->\n"

Arrow = tuple[str, str]  # from the folder that imports to the one that is imported


def folder_of(module: str) -> str:
    """Return the folder of `ipymini.folder.module`; "top" is the package's own; "": it is none of ours."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if package != PACKAGE.name or not first:
        return ""
    return first if (PACKAGE / first).is_dir() else "top" if (PACKAGE / f"{first}.py").is_file() else ""


def imports(node: ast.AST, later: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the full name of everything that is imported, and whether that stands inside of a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, later) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((f"{child.module}.{alias.name}", later) for alias in child.names)
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from imports(child, later or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def arrows() -> tuple[set[Arrow], set[Arrow]]:
    """Return the arrows of imports at loading, and those of the others."""
    loading: set[Arrow] = set()
    later: set[Arrow] = set()
    for path in PACKAGE.rglob("*.py"):
        importing = folder_of(".".join(path.relative_to(REPO).with_suffix("").parts))
        for name, is_later in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if (imported := folder_of(name)) not in ("", importing):
                (later if is_later else loading).add((importing, imported))
    return loading, later - loading


def leads(start: str, end: str, by: set[Arrow]) -> bool:
    """Return whether arrows lead from one folder to another."""
    reached, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        new = {to for origin, to in by if origin == here} - reached
        reached |= new
        waiting += new
    return end in reached


def reduced() -> tuple[list[Arrow], list[Arrow]]:
    """Return both kinds of arrows without those that others make up for."""
    loading, later = arrows()
    for arrow in sorted(loading):
        if leads(*arrow, loading - {arrow}):
            loading.discard(arrow)
    for arrow in sorted(later):
        if leads(*arrow, (loading | later) - {arrow}):
            later.discard(arrow)
    return sorted(loading), sorted(later)


def picture() -> str:
    """Return the picture."""
    loading, later = reduced()
    lines = [f"    {importing} --> {imported}" for importing, imported in loading]
    lines += [f"    {importing} -.-> {imported}" for importing, imported in later]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"]) + "\n"


def embedded() -> str:
    """Return the picture of the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Put the picture into the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + begin + picture() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    write() if "--write" in sys.argv else sys.stdout.write(picture())
