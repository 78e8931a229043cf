"""Which invariants some test names, and which none does yet. `python pytests/test_invariants.py` records it."""

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


def named():
    """Return {id: "file:line"} of the comments in the tests that begin with ids."""
    found = {}
    for path in sorted(HERE.rglob("test_*.py")):
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                match = token.type == tokenize.COMMENT and NAMED.match(token.string)
                if match:
                    for id in re.findall(r"[A-Z]\d+", match["ids"]):
                        found.setdefault(id, f"{path.name}:{token.start[0]}")
    return found


def record():
    """Write the signs anew, and print what no test names."""
    covered = named()
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
    assert {id: where for id, where in named().items() if id not in listed()} == {}


def test_the_list_says_which_invariants_no_test_names_yet(capsys):
    recorded = {id for id, (sign, _) in listed().items() if sign == "-"}
    open_now = set(listed()) - set(named())

    with capsys.disabled():
        print(f"[{len(open_now)} of {len(listed())} invariants have no test yet]", end=" ")
    assert recorded == open_now, "out of date: run `python pytests/test_invariants.py`"


if __name__ == "__main__":
    record()
