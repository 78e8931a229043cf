"""ipyparallel's client and magics in our cells; its engines are ipykernel's, in processes of their own."""

import pytest
from harness import KernelUnderTest

pytestmark = pytest.mark.peers

DEADLINE = 120.0


def test_its_client_runs_functions_and_cells_on_engines(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel

    def run(code: str) -> list[str]:
        reply, outputs = kernel.execute(code, timeout=DEADLINE)
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
        return outputs

    run(
        "import ipyparallel\ncluster = ipyparallel.Cluster(n=2, log_level=40)\nclient = cluster.start_and_connect_sync()"
    )
    try:
        run("import comm; mine = comm.create_comm")
        assert run("client[:].map_sync(lambda x: x * x, range(4))")[-1] == "execute_result:[0, 1, 4, 9]"
        said = run("%%px --local\nprint('both here and there')")
        assert sum(line.count("both here and there") for line in said) == 3
        assert run("client[:].apply_sync(lambda: 1 / 1)")[-1] == "execute_result:[1.0, 1.0]"
        reply, outputs = kernel.execute("client[:].apply_sync(lambda: 1 / 0)", timeout=DEADLINE)
        assert reply["status"] == "error" and any("ZeroDivisionError" in line for line in outputs)
        assert run("comm.create_comm is mine")[-1] == "execute_result:True"
    finally:
        run("client.close(); cluster.stop_cluster_sync()")


def test_an_interrupt_ends_waiting_for_engines(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    start = "import ipyparallel\ncluster = ipyparallel.Cluster(n=1, log_level=40)\nclient = cluster.start_and_connect_sync()"
    assert kernel.execute(start, timeout=DEADLINE)[0]["status"] == "ok"
    try:
        waiting = kernel.send(
            "execute_request", code="import time\nwork = client[:].apply_async(time.sleep, 30)\nprint('on')\nwork.get()"
        )
        kernel.wait_for("iopub", "stream", msg_id=waiting, text="on", timeout=DEADLINE)
        kernel.interrupt()
        assert kernel.reply(waiting)["ename"] == "KeyboardInterrupt"
    finally:
        kernel.execute("client.close(); cluster.stop_cluster_sync()", timeout=DEADLINE)
