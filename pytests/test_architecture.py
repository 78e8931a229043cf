"""docs/architecture.md says what is true: its picture of the imports, its walks and its answers name what is there."""

import ast
import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "ipymini"
PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")

DEFINITION = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
WALKS = ("execute", "print", "interrupt", "input", "debug", "subshell", "shutdown")
HOP = re.compile(r"(?P<number>\d+)\. `(?P<name>[\w.]+)` \((?P<thread>[^)]+)\) (?P<text>[^`].*\.)")
SUM = re.compile(r"\*\*(\d+) calls, (\d+) files, (\d+) thread changes\.\*\*")


def section(heading):
    """Return the text under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    rest = PAGE.split(f"\n{heading}\n")[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", rest)[0]


def rows(heading):
    """Return the first table under a heading as lists of cells, without its head."""
    table = re.search(r"(?:^\|.*\n)+", section(heading), flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def module_of(name):
    """Return the module of `folder.module.Class.method`, and the names that are left; None: there is no such module."""
    parts = name.split(".")
    for length in (2, 1):
        if PACKAGE.joinpath(*parts[:length]).with_suffix(".py").is_file():
            return ".".join(parts[:length]), parts[length:]
    return None, parts


def is_defined(name):
    """Whether a class, method or function of this name is in the code, and is no module only."""
    module, left = module_of(name)
    if module is None or not left:
        return False
    node = ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    for part in left:
        inside = (one for one in ast.walk(node) if one is not node and isinstance(one, DEFINITION))
        node = next((one for one in inside if one.name == part), None)
        if node is None:
            return False
    return True


def hops(walk):
    """Return the hops of a walk, one for each numbered line."""
    lines = re.findall(r"^\d+\..*(?:\n   .*)*", section(f"### {walk}"), flags=re.MULTILINE)
    found = [(line, HOP.fullmatch(re.sub(r"\n +", " ", line))) for line in lines]
    assert [line for line, match in found if match is None] == [], "1. `folder.module.Class.method` (thread) does this."
    return [match for _, match in found]


def test_the_picture_is_what_the_script_prints():
    script = runpy.run_path(str(REPO / "tools" / "picture.py"))

    assert script["embedded"]() == script["picture"](), "out of date: run `python tools/picture.py --write`"


def test_there_is_a_walk_for_each_of_these():
    assert tuple(re.findall(r"^### (\w+)$", section("## The walks"), flags=re.MULTILINE)) == WALKS


@pytest.mark.parametrize("walk", WALKS)
def test_every_hop_of_a_walk_is_in_the_code(walk):
    assert [hop["name"] for hop in hops(walk) if not is_defined(hop["name"])] == []


@pytest.mark.parametrize("walk", WALKS)
def test_the_hops_of_a_walk_are_numbered_and_run_on_threads_of_the_table(walk):
    threads = {row[0] for row in rows("## Threads")}

    assert [int(hop["number"]) for hop in hops(walk)] == list(range(1, len(hops(walk)) + 1))
    assert {hop["thread"] for hop in hops(walk)} - threads == set()


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_says_how_many_calls_files_and_thread_changes_it_has(walk):
    threads = [hop["thread"] for hop in hops(walk)]
    files = {module_of(hop["name"])[0] for hop in hops(walk)}
    changes = sum(before != after for before, after in pairwise(threads))

    told = SUM.search(section(f"### {walk}"))

    assert tuple(map(int, told.groups())) == (len(threads), len(files), changes)


def test_each_answer_names_functions_that_are_in_the_code():
    answers = [re.findall(r"`([\w.]+)`", row[2]) for row in rows("## Six questions")]

    assert [len(names) > 0 for names in answers] == [True] * 6
    assert [name for names in answers for name in names if not is_defined(name)] == []


def test_readme_and_this_page_and_one_more_file_answer_each_question():
    answers = [re.findall(r"`([\w.]+)`", row[2]) for row in rows("## Six questions")]

    assert "(docs/architecture.md#six-questions)" in (REPO / "README.md").read_text(encoding="utf-8")
    assert [len({module_of(name)[0] for name in names}) for names in answers] == [1] * 6
