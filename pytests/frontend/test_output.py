"""Streams, displays and descriptors: every piece of text reaches its cell, once, whole and in order."""

import sys

import pytest
from harness import KernelUnderTest


def text_of(outputs: list[str], name: str = "stdout") -> str:
    return "".join(line.removeprefix(f"{name}:") for line in outputs if line.startswith(f"{name}:"))


def test_streams_keep_their_order_among_each_other_and_displays(kernel: KernelUnderTest) -> None:  # O6, O7
    code = (
        "import sys\nfrom IPython.display import display\n"
        "for n in range(30): print(n, end=';'); display(n); print('e', file=sys.stderr)\nprint('end', end='')\n'result'"
    )
    expected = [line for n in range(30) for line in (f"stdout:{n};", f"display_data:{n}", "stderr:e\n")]
    assert kernel.execute(code)[1] == [*expected, "stdout:end", "execute_result:'result'"]


def test_text_without_a_newline_is_seen_while_the_cell_runs(kernel: KernelUnderTest) -> None:  # O8, O27
    cell = kernel.send(
        "execute_request",
        code="import threading\ngate = threading.Event()\nprint('partial', end='')\ninput()",
        allow_stdin=True,
    )
    kernel.wait_for("iopub", "stream", msg_id=cell, text="partial")
    kernel.answer_input("")
    assert kernel.reply(cell)["status"] == "ok"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("for n in range(10_000): print(n)", "".join(f"{n}\n" for n in range(10_000))),
        (
            "import sys\nfor n in range(100_000): _ = sys.stdout.write(str(n % 10))",
            "".join(str(n % 10) for n in range(100_000)),
        ),
        ("print('x' * 5_000_000)", "x" * 5_000_000 + "\n"),
        ("print('a\\0b')", "a\0b\n"),
        ("print('a\\ud800b')", "a\ufffdb\n"),
    ],
)
def test_every_character_arrives_before_idle(kernel: KernelUnderTest, code: str, expected: str) -> None:  # O9, O19, O20
    reply, outputs = kernel.execute(code, timeout=60)
    assert (reply["status"], text_of(outputs)) == ("ok", expected)


def test_a_flood_is_few_messages(kernel: KernelUnderTest) -> None:  # O10, O11
    cell = kernel.send("execute_request", code="for n in range(50_000): print('x')")
    messages = [message for message in kernel.iopub(cell, timeout=60) if message["msg_type"] == "stream"]
    assert "".join(message["content"]["text"] for message in messages) == "x\n" * 50_000
    assert len(messages) < 500


def test_every_display_of_a_flood_arrives(kernel: KernelUnderTest) -> None:  # O9
    reply, outputs = kernel.execute("from IPython.display import display\nfor n in range(3000): display(n)", timeout=60)
    assert (reply["status"], outputs) == ("ok", [f"display_data:{n}" for n in range(3000)])


def test_threads_and_tasks_print_into_the_cell_that_started_them(kernel: KernelUnderTest) -> None:  # O1, O2, O3, O12
    first = kernel.send(
        "execute_request",
        code="import threading, asyncio\nfrom concurrent.futures import ThreadPoolExecutor\ngo = threading.Event(); pool = ThreadPoolExecutor(1)\n"
        "class Mine(threading.Thread):\n def run(self): go.wait(10); print('subclass')\n"
        "workers = [threading.Thread(target=lambda: (go.wait(10), print('thread'))), Mine(), threading.Timer(.01, lambda: (go.wait(10), print('timer')))]\n"
        "for worker in workers: worker.start()\n"
        "item = pool.submit(lambda: (go.wait(10), print('pool')))\n"
        "item.add_done_callback(lambda _: print('done'))\n"
        "async def task():\n await asyncio.to_thread(go.wait, 10); print('task')\n"
        "job = asyncio.create_task(task())",
    )
    assert kernel.reply(first)["status"] == "ok"
    kernel.outputs(first)
    second = "go.set()\nfor worker in workers: worker.join()\nitem.result(); await job; pool.submit(print, 'item').result()\nprint('mine')"
    assert text_of(kernel.execute(second)[1]) == "item\nmine\n"
    for word in ("thread", "subclass", "timer", "pool", "done", "task"):
        kernel.wait_for("iopub", "stream", msg_id=first, text=word)


if sys.version_info >= (3, 14):  # there is no such pool before

    def test_a_pool_of_interpreters_takes_items(kernel: KernelUnderTest) -> None:
        code = "from concurrent.futures import InterpreterPoolExecutor\nwith InterpreterPoolExecutor(1) as pool: result = pool.submit(pow, 2, 5).result()\nresult"
        assert kernel.execute(code)[1] == ["execute_result:32"]


def test_a_thread_is_not_taken_for_an_ended_one_of_the_same_number(kernel: KernelUnderTest) -> None:  # P5, O3
    kernel.execute("import threading; one = threading.Thread(target=print, args=('first',)); one.start(); one.join()")
    reused = (
        "import _thread, time\nidents = []\n"
        "def work():\n if _thread.get_ident() == one.ident: print('its successor')\n idents.append(_thread.get_ident())\n"
        "while one.ident not in idents and len(idents) < 1000:\n"
        " before = len(idents); _thread.start_new_thread(work, ())\n"
        " while len(idents) == before: time.sleep(.001)"
    )
    assert kernel.execute(reused)[1] == ["stdout:its successor\n"]


def test_threads_lose_no_line_and_tear_none(kernel: KernelUnderTest) -> None:  # O14
    code = (
        "import threading, sys\ndef writes(k):\n for n in range(500): _ = sys.stdout.write(f'{k}:{n}\\n')\n"
        "threads = [threading.Thread(target=writes, args=(k,)) for k in range(8)]\n"
        "for one in threads: one.start()\nfor one in threads: one.join()"
    )
    lines = text_of(kernel.execute(code)[1]).splitlines()
    assert sorted(lines) == sorted(f"{k}:{n}" for k in range(8) for n in range(500))
    for k in range(8):
        assert [line for line in lines if line.startswith(f"{k}:")] == [f"{k}:{n}" for n in range(500)]


def test_descriptors_reach_the_cell_on_the_right_stream(kernel: KernelUnderTest) -> None:  # O15, O20
    code = (
        "import os, subprocess, sys, ctypes\n_ = sys.stdout.buffer.write(b'bytes\\n')\nos.system('echo system')\nsubprocess.run(['sh', '-c', 'echo child; echo problem >&2'])\n"
        "subprocess.run(['echo', 'through stdout'], stdout=sys.stdout)\nos.write(1, b'raw\\n')\nos.write(2, 'ä\\n'.encode())\n"
        "libc = ctypes.CDLL(None); libc.puts(b'from C'); libc.fflush(None)\nNone"
    )
    outputs = kernel.execute(code)[1]
    assert sorted(text_of(outputs).splitlines()) == ["bytes", "child", "from C", "raw", "system", "through stdout"]
    assert sorted(text_of(outputs, "stderr").splitlines()) == ["problem", "ä"]


def test_native_code_that_holds_the_gil_may_print_a_lot(kernel: KernelUnderTest) -> None:
    code = "import ctypes\nlibc = ctypes.PyDLL(None)\nfor _ in range(200): libc.printf(b'x' * 1000)\nlibc.fflush(None); None"
    assert len(text_of(kernel.execute(code)[1])) == 200_000


def test_python_text_and_children_keep_their_order(kernel: KernelUnderTest) -> None:
    code = "import os\nfor n in range(5):\n print('python', n)\n os.system(f'echo child {n}')"
    assert text_of(kernel.execute(code)[1]) == "".join(f"python {n}\nchild {n}\n" for n in range(5))


def test_a_forked_child_prints_once_and_whole_lines(kernel: KernelUnderTest) -> None:  # O16, O13
    code = (
        "import os\nprint('before')\npid = os.fork()\nif pid == 0:\n"
        " for n in range(200): print('child', n)\n os._exit(0)\nos.waitpid(pid, 0); print('after')"
    )
    lines = text_of(kernel.execute(code)[1]).splitlines()
    assert sorted(lines) == sorted(["before", "after", *(f"child {n}" for n in range(200))])


def test_a_child_that_returns_from_the_cell_ends(kernel: KernelUnderTest) -> None:  # O16
    reply, outputs = kernel.execute(
        "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('parent' if pid else 'child')"
    )
    assert sorted(text_of(outputs).splitlines()) == ["child", "parent"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_with_functions_of_the_notebook(kernel: KernelUnderTest, method: str) -> None:  # O17
    code = (
        "import multiprocessing\ndef loud(n): print('worker', n); return n * n\n"
        f"with multiprocessing.get_context('{method}').Pool(2) as pool: print(pool.map({'loud' if method == 'fork' else 'abs'}, [1, 2, 3]))"
    )
    reply, outputs = kernel.execute(code, timeout=60)
    expected = ["[1, 4, 9]", "worker 1", "worker 2", "worker 3"] if method == "fork" else ["[1, 2, 3]"]
    assert sorted(text_of(outputs).splitlines()) == expected


def test_what_cannot_be_sent_is_an_error_in_its_cell(kernel: KernelUnderTest) -> None:  # O18
    code = "from IPython.display import display\ndisplay({'application/json': object()}, raw=True)"
    reply, outputs = kernel.execute(code)
    assert (reply["ename"], outputs[0].split(":")[1]) == ("TypeError", "TypeError")


def test_nan_and_infinity_are_displayed(kernel: KernelUnderTest) -> None:  # O19
    code = "from IPython.display import display\ndisplay({'application/json': {'a': float('nan')}}, raw=True)"
    reply, outputs = kernel.execute(code)
    assert (reply["status"], outputs) == ("ok", ["display_data:['application/json']"])


def test_clear_output_and_updates_come_in_order(kernel: KernelUnderTest) -> None:  # O24
    code = (
        "from IPython.display import clear_output, display\nprint('a'); clear_output(wait=True); print('b')\n"
        "handle = display(1, display_id=True); handle.update(2)"
    )
    assert kernel.execute(code)[1] == [
        "stdout:a\n",
        "clear_output:True",
        "stdout:b\n",
        "display_data:1",
        "update_display_data:2",
    ]


def test_stdout_is_a_text_stream_like_others(kernel: KernelUnderTest) -> None:  # O25
    code = (
        "import sys, io, contextlib\nout = sys.stdout\n"
        "facts = (out.fileno(), out.encoding.lower(), out.writable(), out.readable(), out.closed, out.name, out.isatty())\n"
        "with contextlib.redirect_stdout(io.StringIO()) as text: print('caught')\n"
        "sys.stdout = io.StringIO(); print('gone'); sys.stdout = out\n"
        "try: out.write(b'x')\nexcept TypeError: print('typed')\nfacts, text.getvalue()"
    )
    expected = (1, "utf-8", True, False, False, "stdout", False), "caught\n"
    assert kernel.execute(code)[1] == ["stdout:typed\n", f"execute_result:{expected!r}"]


def test_a_nested_traceback_is_shown_without_failing_the_cell(kernel: KernelUnderTest) -> None:  # O22
    reply, outputs = kernel.execute("get_ipython().run_cell('1/0'); print('on')")
    assert (reply["status"], outputs) == ("ok", ["error:ZeroDivisionError:division by zero", "stdout:on\n"])
    assert kernel.execute("%tb")[0]["status"] == "ok"


def test_a_write_in_a_destructor_or_signal_handler_is_safe(kernel: KernelUnderTest) -> None:  # O13, I23
    code = (
        "import gc, signal, os\nclass Loud:\n def __del__(self): print('del')\n"
        "for n in range(300):\n a = Loud(); a.self = a; print('x', end='')\ndel a; gc.collect(); None"
    )
    assert text_of(kernel.execute(code)[1]).count("del") == 300


def test_the_kernels_own_log_and_root_logger_stay_out_of_cells(kernel: KernelUnderTest) -> None:
    assert kernel.execute("import logging; logging.getLogger().handlers")[1] == ["execute_result:[]"]
    reply, outputs = kernel.execute("logging.basicConfig(level='INFO', force=True); logging.info('hello')")
    assert outputs == ["stderr:INFO:root:hello\n"]


def test_a_printed_line_is_one_message(kernel: KernelUnderTest) -> None:
    # `print` writes the line and its end one after the other, and the I/O thread may wake between the two
    for _ in range(50):
        request = kernel.send("execute_request", code="print('hello')")
        kernel.reply(request)

        texts = [message["content"]["text"] for message in kernel.iopub(request) if message["msg_type"] == "stream"]
        assert texts == ["hello\n"]
