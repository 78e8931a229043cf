"""`%notebook FILE`: what it saves of each cell, where `ZMQDisplayPublisher.store_display_history` is on, and how much."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from harness import KernelUnderTest, start_kernel

from ipymini.ipython.display import LARGEST_KEPT, OUTPUT, PIECE

OPTION = "--ZMQDisplayPublisher.store_display_history=True"


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[KernelUnderTest]:
    with start_kernel(OPTION) as kernel:
        yield kernel


def saved(kernel: KernelUnderTest, path: Path, *cells: str, **header: Any) -> list[list[str]]:
    """Run cells; return what `%notebook` has saved of each, an output a line."""
    for code in cells:
        kernel.reply(kernel.send("execute_request", code=code, stop_on_error=False, header=header))
    done = kernel.reply(kernel.send("execute_request", code=f"%notebook {path}", header=header))
    assert done["status"] == "ok", done
    return [[brief(output) for output in cell.outputs] for cell in nbformat.read(path, 4).cells[-len(cells) :]]


def brief(output: Any) -> str:
    if output.output_type == "stream":
        return f"{output.name}:{output.text}"
    if output.output_type == "error":
        return f"error:{output.ename}:{output.evalue}"
    return f"{output.output_type}:{output.data['text/plain']}"


def test_texts_displays_results_and_errors_are_saved_in_order(kernel: KernelUnderTest, tmp_path: Path) -> None:
    assert saved(
        kernel,
        tmp_path / "saved.ipynb",
        "print('one'); print('two')",
        "import sys; print('out'); print('err', file=sys.stderr); print('more'); 5",
        "print('before'); display(7); print('after'); 8",
        "print('last'); 1/0",
    ) == [
        ["stdout:one\ntwo\n"],
        ["stdout:out\n", "stderr:err\n", "stdout:more\n", "execute_result:5"],
        ["stdout:before\n", "display_data:7", "stdout:after\n", "execute_result:8"],
        ["stdout:last\n", "error:ZeroDivisionError:division by zero"],
    ]


def test_the_text_of_children_threads_and_cells_that_wait_is_the_cells(kernel: KernelUnderTest, tmp_path: Path) -> None:
    assert saved(
        kernel,
        tmp_path / "saved.ipynb",
        "import subprocess; print('here'); done = subprocess.run(['echo', 'child'])",
        "import threading; one = threading.Thread(target=print, args=('thread',)); one.start(); one.join()",
        "import asyncio; await asyncio.sleep(0); print('waited')",
        "get_ipython().run_cell('print(9)');",
        "%%capture kept\nprint('captured')",
        "kept.show()",
    ) == [["stdout:here\nchild\n"], ["stdout:thread\n"], ["stdout:waited\n"], ["stdout:9\n"], [], ["stdout:captured\n"]]


def test_what_is_not_stored_is_not_saved(kernel: KernelUnderTest, tmp_path: Path) -> None:
    kernel.execute("print('silent')", silent=True)
    kernel.execute("print('unstored')", store_history=False)

    assert saved(kernel, tmp_path / "saved.ipynb", "print('stored')") == [["stdout:stored\n"]]


def test_the_text_of_a_subshells_cell_is_kept_with_it(kernel: KernelUnderTest) -> None:
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    texts = "[(n, o.output_type, o.bundle['stream']) for n, o in [(n, o) for n, kept in get_ipython().history_manager.outputs.items() for o in kept]]"
    for code in ("print('sub')", f"shown = {texts}"):
        kernel.reply(kernel.send("execute_request", code=code, header={"subshell_id": subshell}))

    assert kernel.execute("shown")[1] == ["execute_result:[(1, 'out_stream', ['sub', '\\n'])]"]
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_the_texts_of_a_cell_are_kept_up_to_a_limit(kernel: KernelUnderTest, tmp_path: Path) -> None:
    cells = (
        f"print('a' * {LARGEST_KEPT + 1})\nprint('more')\n'result'",
        f"for n in range({LARGEST_KEPT}): print('x', end='')",
        "for n in range(1000): print('out'); print('err', file=sys.stderr)",
    )
    first, second, third = saved(kernel, tmp_path / "saved.ipynb", *cells)

    cut = "\n[%notebook keeps no more of what this cell has printed]\n"
    assert first == [f"stdout:{'a' * (LARGEST_KEPT - OUTPUT - PIECE)}{cut}", "execute_result:'result'"]
    pieces = (LARGEST_KEPT - OUTPUT) // (1 + PIECE)
    assert second == [f"stdout:{'x' * pieces}{cut}"]
    assert third[:4] == ["stdout:out\n", "stderr:err\n"] * 2
    assert third[-1].endswith(cut) and len(third) == LARGEST_KEPT // (OUTPUT + 2 * PIECE + len("out\n")) + 1


def test_the_option_can_be_turned_on_and_off(own_kernel: KernelUnderTest, tmp_path: Path) -> None:
    option = "get_ipython().display_pub.store_display_history"

    assert saved(
        own_kernel,
        tmp_path / "saved.ipynb",
        "print('before')",
        f"{option} = True; print('on')",
        "print('there')",
        f"{option} = False; print('off')",
        "print('gone'); 5",
    ) == [[], ["stdout:on\n"], ["stdout:there\n"], [], ["execute_result:5"]]
    assert own_kernel.execute("import sys; sys.stdout._write.__name__")[1] == ["execute_result:'write'"]
