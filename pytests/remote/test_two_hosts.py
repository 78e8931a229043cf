"""Two hosts: a kernel in one network namespace, its client in another, and a wire between them. Linux, as root.

Run as a program (`python test_two_hosts.py IP FILE|-`) this file is the client, on its own host.
"""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from harness import REPOSITORY
from jupyter_client import BlockingKernelClient

from ipymini.protocol import connection

DEADLINE = 30.0
KERNEL, CLIENT = "10.213.7.1", "10.213.7.2"

SLIDER = """
import ipywidgets
slider = ipywidgets.IntSlider(value=3)
slider.observe(lambda change: print('moved to', change.new, flush=True), 'value')
print(slider.model_id)
"""


# ---- the client's host ------------------------------------------------------------


def main(ip, file):
    """Be the client; with "-", be a gateway first, that learns from the launcher where the kernel is."""
    said = gateway(ip) if file == "-" else json.loads(Path(file).read_text())
    client = BlockingKernelClient()
    client.load_connection_info({**said, "ip": KERNEL})
    client.start_channels()
    client.wait_for_ready(timeout=DEADLINE)
    print(json.dumps(list(visit(client))), flush=True)
    client.stop_channels()


def gateway(ip):
    from test_launcher import PUBLIC, unsealed

    server = socket.create_server((ip, 0))
    server.settimeout(DEADLINE)
    print(json.dumps({"address": f"{ip}:{server.getsockname()[1]}", "public_key": PUBLIC}), flush=True)
    answer, _ = server.accept()
    answer.settimeout(DEADLINE)
    return unsealed(b"".join(iter(lambda: answer.recv(65536), b"")))


def visit(client):
    """Yield what a user sees of a cell, a widget, an interrupt and the end."""
    yield texts_of(client, client.execute("40 + 2"))

    [model] = texts_of(client, client.execute(SLIDER))[-1:]
    moved = client.session.msg(
        "comm_msg", {"comm_id": model.strip(), "data": {"method": "update", "state": {"value": 7}, "buffer_paths": []}}
    )
    client.shell_channel.send(moved)
    yield texts_of(client, moved["header"]["msg_id"])

    endless = client.execute("print('begun'); import time; time.sleep(600)")
    while client.get_iopub_msg(timeout=DEADLINE)["content"].get("text") != "begun\n":
        pass
    client.control_channel.send(client.session.msg("interrupt_request", {}))
    assert client.get_control_msg(timeout=DEADLINE)["msg_type"] == "interrupt_reply"
    yield texts_of(client, endless)

    client.shutdown()
    yield [client.get_control_msg(timeout=DEADLINE)["content"]["status"]]


def texts_of(client, msg_id):
    """Return what is said about a request on iopub."""
    found = []
    while True:
        message = client.get_iopub_msg(timeout=DEADLINE)
        content, kind = message["content"], message["msg_type"]
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        if kind == "stream":
            found.append(content["text"])
        elif kind == "execute_result":
            found.append(content["data"]["text/plain"])
        elif kind == "error":
            found.append(content["ename"])
        elif kind == "comm_msg":
            found.append(content["data"])
        elif kind == "status" and content["execution_state"] == "idle":
            return found


# ---- the test ----------------------------------------------------------------------


def ip(*words):
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=DEADLINE)
    except FileNotFoundError:
        raise AssertionError("this test needs network namespaces: install iproute2") from None
    assert done.returncode == 0, (
        "this test needs network namespaces, which take root (CAP_NET_ADMIN) on Linux: "
        f"`ip {' '.join(words)}` says: {done.stderr.strip()}"
    )


@pytest.fixture(scope="module")
def hosts():
    """The names of two namespaces, the kernel's and the client's, which reach each other and nothing else."""
    names = {KERNEL: f"ipymini-k{os.getpid()}", CLIENT: f"ipymini-c{os.getpid()}"}
    try:
        for name in names.values():
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "wire0",
            "netns",
            names[KERNEL],
            "type",
            "veth",
            "peer",
            "name",
            "wire0",
            "netns",
            names[CLIENT],
        )
        for address, name in names.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire0")
            ip("-n", name, "link", "set", "wire0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=DEADLINE)


@contextmanager
def on(host, home, *words):
    """A process of ours on one of the hosts; what it prints can be read line by line."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, *words],
        stdout=subprocess.PIPE, stderr=(home / "log").open("a"), text=True, start_new_session=True, cwd=home,
        env={
            **os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'pytests'}:{Path(__file__).parent}", "JUPYTER_WIDGETS_ECHO": "1",
            **{name: str(home / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")},
        },
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("encryption", ["plain", "curve"])
@pytest.mark.parametrize("road", ["file", "launcher"])
def test_a_client_on_another_host_works_as_on_this_one(hosts, tmp_path, road, encryption):
    us = str(Path(__file__))
    if road == "file":
        # given: both hosts have the connection file, as a shared home gives it to them
        keys = zmq.curve_keypair() if encryption == "curve" else (b"", b"")
        more = {"curve_publickey": keys[0].decode(), "curve_secretkey": keys[1].decode()}
        file = tmp_path / "kernel.json"
        connection.write(file, connection.new(ip=KERNEL, **more))
        with on(hosts[KERNEL], tmp_path, "-m", "ipymini", "-f", str(file), "--port-range=41000..41099") as kernel:
            until_bound(file, kernel, tmp_path)
            with on(hosts[CLIENT], tmp_path, us, CLIENT, str(file)) as client:
                seen = client.stdout.readline()
            assert kernel.wait(DEADLINE) == 0
    else:
        with on(hosts[CLIENT], tmp_path, us, CLIENT, "-") as client:
            told = json.loads(client.stdout.readline())
            options = ["--kernel-id", "k-2", "--port-range", "41000..42000", "--public-key", told["public_key"]]
            options += ["--transport-encryption", "required"] if encryption == "curve" else []
            launcher = ["-m", "ipymini.launcher", "--response-address", told["address"], *options]
            with on(hosts[KERNEL], tmp_path, *launcher) as kernel:
                seen = client.stdout.readline()
                assert kernel.wait(DEADLINE) == 0

    log = (tmp_path / "log").read_text()
    assert seen, log
    result, widget, interrupted, end = json.loads(seen)
    assert result == ["42"]
    assert "moved to 7\n" in widget
    assert {"method": "echo_update", "state": {"value": 7}, "buffer_paths": []} in widget
    assert interrupted[-1] == "KeyboardInterrupt"
    assert end == ["ok"]
    assert ("no curve keys" in log) is (encryption == "plain")


def until_bound(file, kernel, home):
    """Wait until the kernel has written its ports into the file."""
    end = time.monotonic() + DEADLINE
    while not json.loads(file.read_text())["shell_port"]:
        assert time.monotonic() < end and kernel.poll() is None, (home / "log").read_text()
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
