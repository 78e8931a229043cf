#!/usr/bin/env python3
"""lines: counts the lines of ipymini by folder and module, and those of the evening's reading. Changes nothing.

`python tools/lines.py`. What belongs to the evening's reading, and in which order, README says: each name in backticks
in the numbered list of its section SECTION is a module or a folder. "Code" leaves out blanks, comments and docstrings.
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "ipymini"
SECTION = "Read it in one evening"
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def modules() -> dict[str, Path]:
    """Return the file of each module by its name without `ipymini.`, folder by folder; the top comes first."""
    paths = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent, path.name))
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def folder_of(module: str) -> str:
    """Return the folder of a module; "top" is the package's own."""
    return module.rpartition(".")[0] or "top"


def count(source: str) -> tuple[int, int]:
    """Return how many lines a source has, and how many of them are code."""
    texts = source.splitlines()
    with_tokens: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            with_tokens.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            with_tokens.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(texts), sum(1 for line in with_tokens if texts[line - 1].strip())


def evening() -> list[str]:
    """Return the modules of the evening's reading in README's order. Raises KeyError for a name that is none."""
    section = (REPO / "README.md").read_text(encoding="utf-8").split(f"## {SECTION}\n")[1].split("\n## ")[0]
    known, found = modules(), []
    for line in re.findall(r"^\d+\. (.*)$", section, flags=re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", line):
            inside = [module for module in known if module == name or folder_of(module) == name]
            if not inside:
                raise KeyError(f"README's {SECTION!r} names {name!r}: there is no such module or folder")
            found += [module for module in inside if module not in found]
    return found


def report() -> str:
    """Return the table."""
    counted = {module: count(path.read_text(encoding="utf-8")) for module, path in modules().items()}

    def row(name: str, counts: list[tuple[int, int]]) -> str:
        return f"{name:32}{sum(total for total, _ in counts):8,}{sum(code for _, code in counts):8,}"

    rows = [f"{'':32}{'lines':>8}{'code':>8}"]
    for folder in dict.fromkeys(map(folder_of, counted)):
        inside = [module for module in counted if folder_of(module) == folder]
        rows.append(row(folder, [counted[module] for module in inside]))
        rows += [row(f"  {module.rpartition('.')[2]}", [counted[module]]) for module in inside]
    rows += [row("all", list(counted.values())), "", "the evening's reading"]
    rows += [row(f"  {module}", [counted[module]]) for module in evening()]
    rows.append(row("  sum", [counted[module] for module in evening()]))
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(report() + "\n")
