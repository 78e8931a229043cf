"""Libraries that compute: threads, processes, compilers and clusters in cells; results, texts and ends are right."""

from pathlib import Path
from typing import Any

import pytest
from harness import KernelUnderTest, start_kernel

pytestmark = pytest.mark.peers

DEADLINE = 120.0  # seconds: compilers and clusters start slowly on a machine that does other things too


def run(kernel: KernelUnderTest, code: str, **content: Any) -> list[str]:
    """Run a cell that must succeed; return its outputs."""
    reply, outputs = kernel.execute(code, timeout=DEADLINE, **content)
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
    return outputs


CHILDREN = "import psutil; {one.pid for one in psutil.Process().children(recursive=True) if one.status() != 'zombie'}"


def test_numba_finds_what_it_has_compiled_for_a_cell_before(tmp_path: Path) -> None:
    function = "import numba\n@numba.njit(cache=True)\ndef triple(x):\n    return 3 * x\ntriple(14)"
    hits = "sum(triple.stats.cache_hits.values()), sum(triple.stats.cache_misses.values())"
    for expected in ((0, 1), (1, 0)):
        with start_kernel(env={"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}) as kernel:
            assert run(kernel, function) == ["execute_result:42"]
            assert run(kernel, hits) == [f"execute_result:{expected}"]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib_runs_functions_of_cells(own_kernel: KernelUnderTest, backend: str) -> None:
    code = (
        "from joblib import Parallel, delayed\n"
        "def square(x):\n    print(f'squaring {x}\\n', end='', flush=True)\n    return x * x\n"
        f"Parallel(n_jobs=2, backend={backend!r})(delayed(square)(x) for x in range(4))"
    )
    outputs = run(own_kernel, code)
    assert outputs[-1] == "execute_result:[0, 1, 4, 9]"
    said = "".join(line.removeprefix("stdout:") for line in outputs[:-1])
    assert sorted(said.splitlines()) == [f"squaring {x}" for x in range(4)]  # whole lines, and of all processes


def test_joblibs_memory_knows_a_cells_function_again(tmp_path: Path) -> None:
    code = (
        f"from joblib import Memory\nmemory = Memory({str(tmp_path)!r}, verbose=0)\n"
        "@memory.cache\ndef slow(x):\n    print('computed')\n    return x + 1\nslow(1)"
    )
    with start_kernel() as kernel:
        assert run(kernel, code) == ["stdout:computed\n", "execute_result:2"]
        assert run(kernel, code) == ["execute_result:2"]
    with start_kernel() as kernel:
        assert run(kernel, code) == ["execute_result:2"]


def test_dill_saves_a_session_and_another_kernel_goes_on_with_it(tmp_path: Path) -> None:
    file = str(tmp_path / "session")
    code = "import sys\ny = 40\ndef add(x): return x + y\nclass Kind: out = sys.stdout\none = Kind()"
    with start_kernel() as kernel:
        run(kernel, code)
        assert run(kernel, f"import dill; dill.dump_session({file!r})") == []
    with start_kernel() as kernel:
        assert run(kernel, f"import dill; dill.load_session({file!r})") == []
        assert run(kernel, "add(2), type(one) is Kind, one.out is sys.stdout") == ["execute_result:(42, True, True)"]
        assert run(kernel, "_[0]") == ["execute_result:42"]


@pytest.mark.parametrize("library", ["dill", "cloudpickle"])
def test_everything_in_a_fresh_namespace_can_be_pickled(own_kernel: KernelUnderTest, library: str) -> None:
    code = (
        f"import {library} as library\nfor name, value in list(globals().items()):\n"
        "    back = library.loads(library.dumps(value))\n    if callable(value): print(name, type(back) is type(value))"
    )
    names = ["get_ipython", "exit", "quit", "open"]
    assert run(own_kernel, code) == ["stdout:" + "".join(f"{name} True\n" for name in names)]


CLUSTER = "from dask.distributed import Client, LocalCluster\n"
LOCALLY = "n_workers=2, threads_per_worker=1, dashboard_address=None"


def test_dask_computes_with_processes_and_shows_its_progress(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    run(kernel, f"{CLUSTER}client = Client({LOCALLY}, processes=True)")
    assert run(kernel, "client.submit(lambda x: x + 1, 41).result()") == ["execute_result:42"]
    said = run(
        kernel, "from dask.distributed import progress\nwork = client.map(lambda x: x, range(20)); progress(work)"
    )
    assert "display_data:VBox()" in said  # its bar, made of widgets
    assert run(kernel, "sum(client.gather(work))")[-1] == "execute_result:190"
    reply, _ = kernel.execute("client", timeout=DEADLINE)
    assert reply["status"] == "ok"
    run(kernel, "client.close(); client.cluster.close()")
    assert run(kernel, CHILDREN.replace("{one", "workers = {one") + "\nlen(workers) < 2")[-1] == "execute_result:True"


def test_dask_computes_in_the_process_and_in_await(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    code = f"{CLUSTER}with Client({LOCALLY}, processes=False) as client:\n    total = client.submit(sum, [40, 2]).result()\ntotal"
    assert run(kernel, code)[-1] == "execute_result:42"
    code = (
        f"{CLUSTER}async with LocalCluster({LOCALLY}, processes=False, asynchronous=True) as cluster:\n"
        "    async with Client(cluster, asynchronous=True) as client:\n"
        "        total = await client.submit(sum, [40, 2])\n"
        "total"
    )
    assert run(kernel, code)[-1] == "execute_result:42"
    assert run(kernel, "40 + 2") == ["execute_result:42"]


def test_an_interrupt_ends_waiting_for_dask_and_the_cluster_lives(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    run(kernel, f"{CLUSTER}import time\nclient = Client({LOCALLY}, processes=False)")
    waiting = kernel.send(
        "execute_request", code="future = client.submit(time.sleep, 30)\nprint('on')\nfuture.result()"
    )
    kernel.wait_for("iopub", "stream", msg_id=waiting, text="on")
    kernel.interrupt()
    assert kernel.reply(waiting)["ename"] == "KeyboardInterrupt"
    assert run(kernel, "client.submit(sum, [40, 2]).result()")[-1] == "execute_result:42"


def test_ray_runs_a_cells_function_and_its_output_arrives(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    run(kernel, "import ray\nray.init(num_cpus=2, include_dashboard=False, log_to_driver=True)")
    said = run(
        kernel,
        "@ray.remote\ndef square(x):\n    print('squaring', x)\n    return x * x\n"
        "import time\nvalues = ray.get([square.remote(x) for x in range(3)])\nvalues",
    )
    assert said[-1] == "execute_result:[0, 1, 4]"
    kernel.wait_for("iopub", "stream", text="squaring", timeout=DEADLINE)
    from_a_driver = "from ray._private.utils import *\nfrom ray.widgets.util import in_notebook\nin_notebook()"
    assert run(kernel, from_a_driver)[-1] == "execute_result:True"
    run(kernel, "ray.shutdown()")


def test_torchs_data_loader_has_workers(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    code = (
        "import torch\nfrom torch.utils.data import DataLoader, Dataset\n"
        "class Squares(Dataset):\n"
        "    def __len__(self): return 8\n"
        "    def __getitem__(self, index):\n        print(f'item {index}\\n', end='', flush=True)\n        return torch.tensor(index * index)\n"
        "loader = DataLoader(Squares(), batch_size=2, num_workers=2)\n"
        "sum(int(batch.sum()) for batch in loader)"
    )
    outputs = run(kernel, code)
    assert outputs[-1] == "execute_result:140"
    said = "".join(line.removeprefix("stdout:") for line in outputs[:-1])
    assert sorted(said.splitlines()) == [f"item {index}" for index in range(8)]
    assert run(kernel, f"{CHILDREN}")[-1] == "execute_result:set()"


POOLS = {
    "multiprocessing, fork": "import multiprocessing\npool = multiprocessing.get_context('fork').Pool(2)",
    "executor, fork": (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('fork'))"
    ),
}


@pytest.mark.parametrize("pool", POOLS)
def test_forked_pools_run_functions_of_cells(own_kernel: KernelUnderTest, pool: str) -> None:
    kernel = own_kernel
    run(kernel, "def square(x):\n    print(f'squaring {x}\\n', end='', flush=True)\n    return x * x")
    outputs = run(kernel, f"{POOLS[pool]}\nwith pool:\n    values = list(pool.map(square, range(4)))\nvalues")
    assert outputs[-1] == "execute_result:[0, 1, 4, 9]"
    said = "".join(line.removeprefix("stdout:") for line in outputs[:-1])
    assert sorted(said.splitlines()) == [f"squaring {x}" for x in range(4)]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_fresh_processes_run_functions_of_modules(own_kernel: KernelUnderTest, tmp_path: Path, method: str) -> None:
    kernel = own_kernel
    (tmp_path / "squares.py").write_text(
        "def square(x):\n    print(f'squaring {x}\\n', end='', flush=True)\n    return x * x\n"
    )
    run(kernel, f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import squares, multiprocessing")
    code = f"with multiprocessing.get_context({method!r}).Pool(2) as pool: values = pool.map(squares.square, range(4))\nvalues"
    outputs = run(kernel, code)
    assert outputs[-1] == "execute_result:[0, 1, 4, 9]"
    said = "".join(line.removeprefix("stdout:") for line in outputs[:-1])
    assert sorted(said.splitlines()) == [f"squaring {x}" for x in range(4)]


def test_nest_asyncio_harms_nobody(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    run(kernel, "import nest_asyncio; nest_asyncio.apply()\nimport asyncio")
    assert run(kernel, "async def main(): await asyncio.sleep(0); return 42\nasyncio.run(main())") == [
        "execute_result:42"
    ]
    assert run(kernel, "await main()") == ["execute_result:42"]
    assert run(kernel, "asyncio.get_event_loop().run_until_complete(main())") == ["execute_result:42"]
    waiting = kernel.send("execute_request", code="print('on'); await asyncio.sleep(60)")
    kernel.wait_for("iopub", "stream", msg_id=waiting, text="on")
    kernel.interrupt()
    assert kernel.reply(waiting)["ename"] == "KeyboardInterrupt"


CHECKS = {
    "scooby": ("import scooby; scooby.in_ipykernel()", "True"),
    "scooby's report": ("'Jupyter' in repr(scooby.Report()), 'text/html' in get_ipython().display_formatter.format(scooby.Report())[0]", "(True, True)"),
    "pyvista": ("import pyvista; pyvista.Sphere().n_points > 100", "True"),
    "polars": ("import polars._utils.various as various; various._in_notebook()", "True"),
    "pandas": ("from pandas.io.formats import console; (console.in_ipython_frontend(), console.in_interactive_session())", "(True, True)"),
    "rich": ("import rich.console; rich.console.Console().is_jupyter", "True"),
    "dask": ("from distributed.utils import is_kernel; is_kernel()", "True"),
    "click": ("import click, sys; click.utils.should_strip_ansi(sys.stdout)", "False"),
    "tqdm": ("import tqdm.autonotebook as auto; 'notebook' in auto.tqdm.__module__", "True"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_libraries_see_that_they_are_in_a_notebook(kernel: KernelUnderTest, name: str) -> None:
    code, expected = CHECKS[name]
    assert run(kernel, code)[-1] == f"execute_result:{expected}"


def test_loguru_colours_what_it_logs(kernel: KernelUnderTest) -> None:
    said = run(kernel, "import loguru; loguru.logger.warning('look out')")
    assert len(said) == 1 and said[0].startswith("stderr:") and "look out" in said[0] and "\x1b[" in said[0]
