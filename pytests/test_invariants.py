"""Which invariants some test names, and which none does yet. `python pytests/test_invariants.py` records it.

A comment names invariants for the test function that it stands in; any other comment names none.
"""

import ast
import functools
import re
import tokenize
from pathlib import Path

HERE = Path(__file__).resolve().parent
LISTED = HERE / "invariants.txt"
LINE = re.compile(r"(?P<sign>[+-]) (?P<id>[A-Z]\d+) +(?P<text>\S.*)")
NAMED = re.compile(r"#\s*(?P<ids>[IOQSLBDP]\d{1,2}(?:,\s*[IOQSLBDP]\d{1,2})*)\b")


def listed():
    """Return {id: (sign, text)} as recorded."""
    lines = (LINE.fullmatch(line) for line in LISTED.read_text(encoding="utf-8").splitlines())
    return {match["id"]: (match["sign"], match["text"]) for match in lines if match}


def collected(path):
    """Return {name: lines} of the functions of a file that pytest collects."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    levels = [module.body, *(node.body for node in module.body if isinstance(node, ast.If))]
    functions = [node for level in levels for node in level if isinstance(node, ast.FunctionDef)]
    return {one.name: range(one.lineno, one.end_lineno + 1) for one in functions if one.name.startswith("test")}


@functools.cache
def named(here=HERE):
    """Return ({id: "file::test"}, ["file:line"]): what tests name, and the comments that name ids for no test."""
    found, lost = {}, []
    for path in sorted(here.rglob("test_*.py")):
        tests = collected(path)
        with tokenize.open(path) as file:
            comments = [one for one in tokenize.generate_tokens(file.readline) if one.type == tokenize.COMMENT]
        for comment in comments:
            if match := NAMED.match(comment.string):
                around = [name for name, lines in tests.items() if comment.start[0] in lines]
                for name in around:
                    found.update(dict.fromkeys(re.findall(r"[A-Z]\d+", match["ids"]), f"{path.name}::{name}"))
                if not around:
                    lost.append(f"{path.name}:{comment.start[0]}")
    return found, lost


def record():
    """Write the signs anew, and print what no test names."""
    covered, _ = named()
    lines = []
    for line in LISTED.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line)
        if match:
            line = ("+" if match["id"] in covered else "-") + line[1:]
        lines.append(line)
    LISTED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for id, (sign, text) in listed().items():
        if sign == "-":
            print(f"{id:4} {text}")


def test_every_line_of_the_list_is_a_heading_or_an_invariant():
    lines = [line for line in LISTED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len(lines) == len(listed())  # no id twice


def test_tests_name_invariants_that_exist():
    found, lost = named()
    assert {id: where for id, where in found.items() if id not in listed()} == {}
    assert lost == [], "ids in comments that stand in no test"


def test_the_list_says_which_invariants_no_test_names_yet(capsys):
    recorded = {id for id, (sign, _) in listed().items() if sign == "-"}
    open_now = set(listed()) - set(named()[0])

    with capsys.disabled():
        print(f"[{len(open_now)} of {len(listed())} invariants have no test yet]", end=" ")
    assert recorded == open_now, "out of date: run `python pytests/test_invariants.py`"


def test_a_comment_names_ids_for_the_test_that_it_stands_in(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "def test_it():  # I1\n    assert True\n# I2\ndef helper():  # I3\n    def test_inside(): ...  # I4\n"
    )

    assert named(tmp_path) == ({"I1": "test_x.py::test_it"}, ["test_x.py:3", "test_x.py:4", "test_x.py:5"])


if __name__ == "__main__":
    record()
