"""The notebooks in examples/, run from top to bottom by nbclient and papermill: every output is the expected one."""

import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from ipymini.tools import kernelspec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEADLINE = 60  # seconds a cell may take

PLOT = "display:image/png"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Return notebook(name, engine=, **parameters): what came of it; the same again costs nothing."""
    own = tmp_path_factory.mktemp("notebooks")
    kernelspec.install(own / "data" / "kernels", "ipymini", kernelspec.make_spec(python=sys.executable))
    executed = {}

    def execute(name, engine, parameters):
        path, written = EXAMPLES / f"{name}.ipynb", own / f"{engine}-{name}.ipynb"
        cells = nbformat.read(path, as_version=4)
        if engine == "papermill":
            command = [sys.executable, "-m", "papermill", str(path), str(written), "--no-progress-bar"]
            command += ["--execution-timeout", str(DEADLINE)]
            for parameter, value in parameters.items():
                command += ["-p", parameter, str(value)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5 * DEADLINE, cwd=own)
            # papermill runs on after a cell that may raise, and then says all the same that it has raised.
            raises = any("raises-exception" in cell.metadata.get("tags", ()) for cell in cells.cells)
            assert (done.returncode, "PapermillExecutionError" in done.stderr) == (int(raises), raises), done.stderr
            return nbformat.read(written, as_version=4)
        nbclient.NotebookClient(cells, timeout=DEADLINE, resources={"metadata": {"path": str(own)}}).execute()
        return cells

    def notebook(name, engine="nbclient", **parameters):
        key = (name, engine, *parameters.items())
        if key not in executed:
            executed[key] = execute(name, engine, parameters)
        return executed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(own / "data"))  # looked at before the environment's and the user's
        patch.setenv("IPYTHONDIR", str(own / "ipython"))
        yield notebook


def said(output):
    """Return one output as "kind:text"; of rich ones the richest type, and the text where it is short."""
    if output.output_type == "stream":
        return f"{output.name}:{output.text}"
    if output.output_type == "error":
        return f"error:{output.ename}: {output.evalue}"
    kind = "result" if output.output_type == "execute_result" else "display"
    for mime in ("image/png", "application/vnd.jupyter.widget-view+json", "text/html"):
        if mime in output.data:
            return f"{kind}:{mime}"
    return f"{kind}:{output.data['text/plain']}"


def outputs(notebook, cell_id):
    """Return what a cell said, in order; neighbouring pieces of one stream are one."""
    [cell] = [cell for cell in notebook.cells if cell.id == cell_id]
    joined = []
    for output in cell.outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1]["text"] += output.text
        else:
            joined.append(nbformat.from_dict(output))
    return [said(output) for output in joined]


@pytest.fixture(params=["nbclient", pytest.param("papermill", marks=pytest.mark.slow)])
def engine(request):
    return request.param


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_example_is_valid_clean_and_on_our_kernel(path):
    notebook = nbformat.read(path, as_version=4)

    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "ipymini"
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert notebook.cells[0].source.startswith("# ")


def test_the_tour(notebook, engine):
    tour = notebook("tour", engine)

    assert outputs(tour, "streams") == ["stdout:to stdout\n", "stderr:to stderr\n", "stdout:to stdout again\n"]
    assert outputs(tour, "system") == ["stdout:from a shell\nfrom a child process\n"]
    assert outputs(tour, "rich") == [
        "display:<IPython.core.display.Markdown object>",
        "display:text/html",
        "result:{'a': 1, 'b': [1, 2, 3]}",
    ]
    assert outputs(tour, "update") == ["display:'a display that is updated in place: 5'"]
    assert outputs(tour, "plot") == [PLOT]
    assert outputs(tour, "slider") == ["result:application/vnd.jupyter.widget-view+json"]
    assert outputs(tour, "slider-from-python") == ["result:'n squared is 49'"]
    assert outputs(tour, "error") == ["error:ZeroDivisionError: division by zero"]
    assert outputs(tour, "error-group") == ["error:ExceptionGroup: several things went wrong (2 sub-exceptions)"]
    assert outputs(tour, "gather") == [
        "stdout:tea is ready\ncoffee is ready\ntogether faster than one after the other: True\n"
    ]
    assert outputs(tour, "task-later") == ["result:True"]
    assert outputs(tour, "thread") == ["stdout:hello from a thread\n"]
    assert outputs(tour, "ask") == ["stdout:Hello, nobody!\n"]
    assert outputs(tour, "last") == ["result:43"]
    assert outputs(tour, "bash") == ["stdout:one\ntwo\nthree\n"]
    assert outputs(tour, "capture") == []
    assert outputs(tour, "captured") == ["result:('kept in a variable\\n', True)"]
    last = next(cell.execution_count for cell in tour.cells if cell.id == "last")
    assert outputs(tour, "in-out") == [f"stdout:6 * 7\n43\n{last - 1:4}: 6 * 7\n{last:4}: _ + 1\n"]


def test_the_tours_traceback_shows_the_lines_of_the_cell(notebook):
    [cell] = [cell for cell in notebook("tour").cells if cell.id == "error"]
    [error] = cell.outputs

    text = "\n".join(error.traceback)
    assert text.count("Cell") >= 2  # the call and the function, each by its cell
    assert "interactiveshell" not in text
    assert "ipymini" not in text


def test_cells_are_counted_from_one_without_gaps(notebook, engine):
    counts = [cell.execution_count for cell in notebook("tour", engine).cells if cell.cell_type == "code"]

    assert counts == list(range(1, len(counts) + 1))


def test_pandas_and_matplotlib(notebook, engine):
    weather = notebook("pandas_matplotlib", engine)

    assert outputs(weather, "data") == ["result:text/html"]
    assert outputs(weather, "shape") == ["stdout:1098 rows, 3 stations, 0 gaps\n"]
    assert outputs(weather, "monthly") == ["result:text/html"]
    assert outputs(weather, "styled") == ["result:text/html"]
    assert outputs(weather, "lines") == [PLOT]
    assert outputs(weather, "describe") == ["result:text/html"]
    assert outputs(weather, "bars") == [PLOT]
    assert outputs(weather, "conclusion") == ["stdout:warmest month: coast 7, plain 7, summit 7\n"]


def test_asyncio(notebook, engine):
    cells = notebook("asyncio", engine)

    assert outputs(cells, "loop") == ["result:True"]
    assert outputs(cells, "same-loop") == ["result:True"]
    assert outputs(cells, "workers") == ["stdout:12 items by 3 workers; sum 66\n"]
    assert outputs(cells, "syntax") == ["stdout:begin counting\nCOUNTING [5, 3, 1]\n2\n1\nend counting\n"]
    assert outputs(cells, "timeout") == ["stdout:gave up in time\n"]
    assert outputs(cells, "group") == ["error:ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"]
    assert outputs(cells, "after-group") == ["stdout:never more than 2 at a time\n"]
    assert outputs(cells, "between") == []
    assert outputs(cells, "between-later") == ["stdout:set in an earlier cell\n5 beats; {'set in an earlier cell'}\n"]
    assert outputs(cells, "threads") == ["stdout:thread 0\nthread 1\nthread 2\n", "result:[0, 1, 4]"]
    assert outputs(cells, "process") == ["result:('hello from a child process', 0)"]


def check_long_output(long, lines):
    numbered = "".join(f"{number:06d} the quick brown fox jumps over the lazy dog\n" for number in range(lines))
    turns = [f"{name}:{name[3:]} {number}\n" for number in range(20) for name in ("stdout", "stderr")]
    percents = "".join(f"\r{percent:3d} %" for percent in range(0, 101, 5))

    assert outputs(long, "many-lines") == ["stdout:" + numbered]
    assert outputs(long, "characters") == ["stdout:" + ("0123456789" * (lines // 10)) + "\n"]
    assert outputs(long, "turns") == turns
    assert outputs(long, "long-line") == ["stdout:" + "x" * 10 * lines + "|\n"]
    assert outputs(long, "unicode") == ["stdout:naïve\nΕλλάδα\n日本語\n🦊 fox\ntab\there\n\x1b[32mgreen\x1b[0m\n"]
    assert outputs(long, "carriage-return") == ["stdout:" + percents]
    assert outputs(long, "clear") == ["stdout:100 %\n"]
    assert outputs(long, "logging") == ["stderr:" + "".join(f"step {number} of 200\n" for number in range(1, 201))]


def test_a_long_text_output(notebook):
    # O7, O9, O19, O24
    check_long_output(notebook("long_output"), lines=20_000)


def test_papermill_passes_parameters(notebook):
    long = notebook("long_output", "papermill", lines=500)

    check_long_output(long, lines=500)
    assert long.metadata.papermill.exception is None
