"""asyncio without pain: nested runs in plain cells, top-level await, tasks that go on, nest_asyncio, interrupts."""

from typing import Any

import pytest
from harness import KernelUnderTest

MAIN = "import asyncio\nasync def main(x=1):\n await asyncio.sleep(.001)\n print('in', x)\n return x * 2\n"
NESTED = {
    "asyncio.run": "asyncio.run(main())",
    "asyncio.run of gather": "async def both(): return (await asyncio.gather(main(), main()))[1]\nasyncio.run(both())",
    "asyncio.Runner": "with asyncio.Runner() as runner: runner.run(main()); result = runner.run(main())\nresult",
    "new loop": "loop = asyncio.new_event_loop()\nresult = loop.run_until_complete(main()); loop.close()\nresult",
    "run_forever": "loop = asyncio.new_event_loop(); box = []\nloop.create_task(main()).add_done_callback(lambda t: (box.append(t.result()), loop.stop()))\nloop.run_forever(); loop.close()\nbox[0]",
    "anyio.run": "import anyio\nanyio.run(main)",
    "anyio.from_thread": "import anyio.from_thread\nwith anyio.from_thread.start_blocking_portal() as portal: result = portal.call(main)\nresult",
    "from asyncio import run": "from asyncio import run\nrun(main())",
    "in a function": "def plain(): return asyncio.run(main())\nplain()",
    "in an async cell": "await asyncio.sleep(0)\nasyncio.run(main())",
    "in a coroutine": "async def outer(): return asyncio.run(main())\nawait outer()",
    "in a run in a run": "async def inner(): return asyncio.run(main())\nasyncio.run(inner())",
    "wait_for": "asyncio.run(asyncio.wait_for(main(), 20))",
    "task group": "async def group():\n async with asyncio.TaskGroup() as g: job = g.create_task(main())\n return job.result()\nasyncio.run(group())",
    "timeout": "async def limited():\n async with asyncio.timeout(20): return await main()\nasyncio.run(limited())",
    "to_thread": "async def threaded(): return await asyncio.to_thread(lambda: asyncio.run(main()))\nasyncio.run(threaded())",
    "subprocess": "async def child():\n p = await asyncio.create_subprocess_exec('true')\n return await main() + await p.wait()\nasyncio.run(child())",
}


@pytest.fixture(params=["main", "child"])
def shell(request: pytest.FixtureRequest, kernel: KernelUnderTest) -> Any:
    """What runs a cell in the main shell, or in a subshell."""
    if request.param == "main":
        yield kernel.execute
        return
    subshell_id = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    yield lambda code, **content: kernel.execute(code, header={"subshell_id": subshell_id}, **content)
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell_id))


@pytest.mark.parametrize("name", NESTED)
def test_a_second_loop_just_runs(kernel: KernelUnderTest, shell: Any, name: str) -> None:
    reply, outputs = shell(MAIN + NESTED[name])
    if name == "in a run in a run":  # inside a loop of the user's own, asyncio's rule stands
        assert (reply["ename"], "cannot be called from a running event loop" in reply["evalue"]) == (
            "RuntimeError",
            True,
        )
        return
    assert (reply["status"], outputs[-1]) == ("ok", "execute_result:2"), reply
    assert set("".join(line.removeprefix("stdout:") for line in outputs[:-1]).split("\n")) == {"in 1", ""}


def test_after_a_nested_run_the_lanes_own_loop_is_the_current_one(kernel: KernelUnderTest, shell: Any) -> None:
    code = (
        MAIN
        + "before = asyncio.get_running_loop()\nasyncio.run(main())\nasyncio.get_running_loop() is before is asyncio.get_event_loop()"
    )
    assert shell(code)[1] == ["stdout:in 1\n", "execute_result:True"]
    assert shell("before is asyncio.get_running_loop()")[1] == ["execute_result:True"]


def test_errors_and_exits_of_a_nested_run_leave_the_loop_right(kernel: KernelUnderTest, shell: Any) -> None:
    fails = "async def fails(): 1/0\nimport asyncio\nasyncio.run(fails())"
    assert shell(fails)[0]["ename"] == "ZeroDivisionError"
    assert shell(MAIN + "await main(2)")[1] == ["stdout:in 2\n", "execute_result:4"]
    assert shell("asyncio.run(main(3))")[1] == ["stdout:in 3\n", "execute_result:6"]


def test_running_the_lanes_own_loop_again_stays_an_error_that_says_so(kernel: KernelUnderTest, shell: Any) -> None:
    reply, _ = shell(MAIN + "job = main()\ntry: asyncio.get_event_loop().run_until_complete(job)\nfinally: job.close()")
    assert (reply["ename"], reply["evalue"]) == ("RuntimeError", "This event loop is already running")


def test_tasks_start_in_plain_cells_and_go_on_afterwards(kernel: KernelUnderTest, shell: Any) -> None:
    start = (
        "import asyncio\nticks = []\nasync def ticker():\n while True: ticks.append(1); await asyncio.sleep(.001)\n"
        "job = asyncio.create_task(ticker()); len(ticks)"
    )
    assert shell(start)[1] == ["execute_result:0"]
    assert shell("n = len(ticks)\nwhile len(ticks) < n + 3: await asyncio.sleep(.001)\njob.done()")[1] == [
        "execute_result:False"
    ]
    assert shell(
        "loop = asyncio.get_running_loop(); future = asyncio.ensure_future(asyncio.sleep(0, 'f')); await future"
    )[1] == ["execute_result:'f'"]
    assert shell("job.cancel(); await asyncio.gather(job, return_exceptions=True); job.cancelled()")[1] == [
        "execute_result:True"
    ]


def test_tasks_go_on_between_cells_without_any_traffic(kernel: KernelUnderTest, shell: Any) -> None:
    start = "import asyncio, threading\ndone = threading.Event()\nasync def later(): await asyncio.sleep(.01); done.set()\njob = asyncio.create_task(later())"
    assert shell(start)[0]["status"] == "ok"
    waiter = kernel.send(
        "execute_request",
        code="import threading; waits = threading.Thread(target=lambda: done.wait(20)); waits.start()",
    )
    kernel.reply(waiter)
    assert shell("while not done.is_set(): await asyncio.sleep(.001)\ndone.is_set()")[1] == ["execute_result:True"]


def test_primitives_of_one_cell_work_in_the_next(kernel: KernelUnderTest, shell: Any) -> None:
    shell("import asyncio; queue, lock, event = asyncio.Queue(), asyncio.Lock(), asyncio.Event()")
    shell("async def fill():\n async with lock: await queue.put(7)\n event.set()\njob = asyncio.create_task(fill())")
    assert shell("await event.wait(); await queue.get()")[1] == ["execute_result:7"]


def test_a_contextvar_set_in_a_cell_is_seen_in_the_next(kernel: KernelUnderTest, shell: Any) -> None:
    assert (
        shell("import asyncio, contextvars; v = contextvars.ContextVar('v', default=0); token = v.set(1)")[0]["status"]
        == "ok"
    )
    assert shell("v.get()")[1] == ["execute_result:1"]
    assert shell("await asyncio.sleep(0); _ = v.set(2)")[0]["status"] == "ok"
    assert shell("await asyncio.sleep(0); v.get()")[1] == ["execute_result:2"]
    assert shell("async def reads(): v.set(v.get() + 1); return v.get()\nasyncio.run(reads()), v.get()")[1] == [
        "execute_result:(3, 2)"
    ]
    assert shell("await asyncio.create_task(reads()), v.get()")[1] == ["execute_result:(3, 2)"]


@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_nest_asyncio_is_harmless(own_kernel: KernelUnderTest, module: str) -> None:
    kernel = own_kernel
    subshell_id = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    kernel.execute(
        "import asyncio\nticks = []\nasync def ticker():\n while True: ticks.append(1); await asyncio.sleep(.001)\njob = asyncio.create_task(ticker())"
    )
    assert kernel.execute(f"import {module}; {module}.apply()")[0]["status"] == "ok"
    for where in (None, subshell_id):
        header = {"subshell_id": where}
        assert kernel.execute(MAIN + "asyncio.run(main())", header=header)[1] == ["stdout:in 1\n", "execute_result:2"]
        assert kernel.execute("asyncio.get_event_loop().run_until_complete(main(2))", header=header)[1] == [
            "stdout:in 2\n",
            "execute_result:4",
        ]
        assert kernel.execute("await main(3)", header=header)[1] == ["stdout:in 3\n", "execute_result:6"]
        assert (
            kernel.execute("await asyncio.gather(*(main(n) for n in range(3)))", header=header)[1][-1]
            == "execute_result:[0, 2, 4]"
        )
    many = [kernel.send("execute_request", code=f"{n}") for n in range(20)]
    assert [kernel.reply(one)["status"] for one in many] == ["ok"] * 20
    assert kernel.execute("n = len(ticks)\nwhile len(ticks) < n + 3: await asyncio.sleep(.001)\njob.done()")[1] == [
        "execute_result:False"
    ]
    for where in (None, subshell_id):
        for code in ("await asyncio.sleep(60)", "asyncio.run(asyncio.sleep(60))", "import time; time.sleep(60)"):
            cell = kernel.send("execute_request", code=f"print('on'); {code}", header={"subshell_id": where})
            kernel.wait_for("iopub", "stream", msg_id=cell)
            kernel.ask_to_interrupt()
            assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert kernel.execute("await main(4)")[1] == ["stdout:in 4\n", "execute_result:8"]


@pytest.mark.parametrize("how", ["sigint", "message"])
@pytest.mark.parametrize(
    "code",
    [
        "asyncio.run({0})",
        "with asyncio.Runner() as runner: runner.run({0})",
        "asyncio.new_event_loop().run_until_complete({0})",
    ],
)
def test_an_interrupt_inside_a_nested_run_ends_it(kernel: KernelUnderTest, code: str, how: str) -> None:
    blocks = "import asyncio, time\nasync def blocks(): print('on'); await asyncio.sleep(.001); time.sleep(60)\nasync def waits(): print('on'); await asyncio.sleep(60)\n"
    for main in ("waits()", "blocks()"):
        cell = kernel.send("execute_request", code=blocks + code.format(main))
        kernel.wait_for("iopub", "stream", msg_id=cell)
        kernel.interrupt() if how == "sigint" else kernel.ask_to_interrupt()
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
        assert kernel.execute(MAIN + "await main(asyncio.run(main()))")[1][-1] == "execute_result:4"


def test_a_nested_run_cleans_up_when_interrupted(kernel: KernelUnderTest) -> None:  # I14
    code = "import asyncio\nasync def cleans():\n try: print('on'); await asyncio.sleep(60)\n finally: await asyncio.sleep(0); print('clean')\nasyncio.run(cleans())"
    cell = kernel.send("execute_request", code=code)
    kernel.wait_for("iopub", "stream", msg_id=cell)
    kernel.interrupt()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert "clean\n" in "".join(kernel.outputs(cell)[2:])


@pytest.mark.parametrize(
    "damage",
    [
        "asyncio._set_running_loop(None)",
        "asyncio._set_running_loop(asyncio.new_event_loop())",
        "\nasync def leave(): asyncio.tasks._leave_task(asyncio.get_running_loop(), asyncio.current_task())\nawait leave()",
    ],
)
def test_what_an_interrupted_run_leaves_behind_is_put_right(kernel: KernelUnderTest, shell: Any, damage: str) -> None:
    # An interrupt can strike `asyncio.run` as it cleans up: it is played here, for it takes the fuzz test to meet it.
    assert shell(f"import asyncio; {damage}")[0]["status"] == "ok"
    assert shell("await asyncio.create_task(asyncio.sleep(0, 'right'))")[1] == ["execute_result:'right'"]
    assert shell("asyncio.run(asyncio.sleep(0, 'nested'))")[1] == ["execute_result:'nested'"]


def test_a_failing_cell_is_answered_whatever_asyncio_holds_to_be_running(kernel: KernelUnderTest, shell: Any) -> None:
    # The abort fence awaits in the step in which the cell has failed.
    damage = "import asyncio; other = asyncio.new_event_loop(); other.close(); asyncio._set_running_loop(other); 1/0"
    assert shell(damage, stop_on_error=True)[0]["ename"] == "ZeroDivisionError"
    assert shell("await asyncio.sleep(0, 'right')")[1] == ["execute_result:'right'"]


def test_a_coroutine_that_is_left_alone_is_reported_like_elsewhere(kernel: KernelUnderTest) -> None:
    failing = "import asyncio\nasync def fails(): raise ValueError('alone')\njob = asyncio.create_task(fails()); await asyncio.sleep(0); del job\nimport gc; gc.collect(); None"
    text = "".join(kernel.execute(failing)[1])
    assert "Task exception was never retrieved" in text and "ValueError: alone" in text
