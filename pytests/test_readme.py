"""README says what is true: the requests that are answered, the options, the variables, the files it points to."""

import re
from pathlib import Path

import pytest

from ipymini.handlers import HANDLERS
from ipymini.tools import kernelspec

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
TEXTS = sorted(path for path in [*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])


def rows(heading):
    """Return the table under a heading as lists of cells, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_table_of_requests_is_the_table_of_handlers():
    told = {
        (channel, msg_type)
        for requests, channels, _ in rows("What it answers")
        for msg_type in re.findall(r"`(\w+)`", requests)
        for channel in channels.split(", ")
    }

    assert told == set(HANDLERS)


def test_the_variables_are_those_that_the_code_reads():
    told = {re.findall(r"`(\w+)`", row[0])[0] for row in rows("Environment variables")}
    sources = [*(REPO / "ipymini").rglob("*.py"), *(REPO / "pytests").rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"""["'](IPYMINI_[A-Z_]+)["']""", path.read_text("utf-8"))}

    assert told == read


def test_the_options_of_install_are_those_of_the_program(capsys):
    told = {option for row in rows("Install") for option in re.findall(r"--[a-z-]+", row[0])}

    with pytest.raises(SystemExit):
        kernelspec.run(["install", "--help"])

    known = set(re.findall(r"--[a-z-]+\b(?!_)", capsys.readouterr().out)) - {"--help"}
    assert told == {option for option in known if not option.startswith("--frozen")}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_file_that_a_text_points_to_exists(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    local = {(one or other).partition("#")[0] for one, other in links if "://" not in (one or other)}

    assert {link for link in local if link and not (path.parent / link).exists()} == set()
