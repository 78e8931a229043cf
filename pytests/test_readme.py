"""README says what is true: the requests that are answered, the options, the variables, the files it points to."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ipymini.handlers import HANDLERS
from ipymini.tools import kernelspec

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
TEXTS = sorted(path for path in [*REPO.glob("*.md"), *(REPO / "docs").glob("*.md")])
HISTORIES = ("CHANGELOG.md", "DEVLOG.md")  # what they name was there once
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?|[\w-]+/")


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


def paths(text):
    """Return what a text names in backticks or in code, and looks like a file or a folder of this repository."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    words = {word.strip("`'\",;:()") for part in code for word in part.split()}
    folders = {path.name for place in (REPO, REPO / "ipymini") for path in place.iterdir() if path.is_dir()}
    of_python = (".py", ".md", ".ipynb", ".toml")
    found = {word for word in words if PATH.fullmatch(word)}
    return {word for word in found if word.partition("/")[0] in folders or word.endswith(of_python)}


@pytest.mark.parametrize("path", [path for path in TEXTS if path.name not in HISTORIES], ids=lambda path: path.name)
def test_every_path_that_a_text_names_exists(path):
    named = paths(path.read_text(encoding="utf-8"))

    assert {one for one in named if not any((place / one).exists() for place in (REPO, REPO / "ipymini"))} == set()


def test_the_paths_of_a_text_are_found():
    text = (
        "`python pytests/gone.py`, (`execution/lane.py`), `tools/`, `text/html`, `/tmp/x.py`\n```\nrun docs/x.md\n```\n"
    )

    assert paths(text) == {"pytests/gone.py", "execution/lane.py", "tools/", "docs/x.md"}


def test_the_evenings_reading_names_modules_and_the_script_counts_them():
    script = REPO / "tools" / "lines.py"
    modules = runpy.run_path(str(script))["evening"]()  # raises for a name that is neither module nor folder

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)

    counted = done.stdout.partition("the evening's reading\n")[2].splitlines()
    assert [line.split()[0] for line in counted] == [*modules, "sum"]
    assert sum(int(line.split()[2].replace(",", "")) for line in counted[:-1]) == int(
        counted[-1].split()[2].replace(",", "")
    )


def test_the_lines_of_a_module_are_counted_without_blanks_comments_and_docstrings():
    source = (
        '"""m: a module.\n\nMore.\n"""\n\nx = 1  # one\n# two\n\ndef f():\n    """Say."""\n    return """a\n\nb"""\n'
    )

    assert runpy.run_path(str(REPO / "tools" / "lines.py"))["count"](source) == (13, 4)
