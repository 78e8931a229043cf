"""Real gateways start kernels through our launcher: gateway_provisioners here and over ssh, and Enterprise Gateway."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import REPOSITORY, free_ports
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.session import Session
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

pytestmark = pytest.mark.peers

DEADLINE = 30.0
ELSEWHERE = "127.0.0.2"  # an address that the provisioner does not take for this machine's, though it is

ARGV = [
    *(sys.executable, "-m", "ipymini.launcher", "--kernel-id", "{kernel_id}", "--port-range", "{port_range}"),
    *("--response-address", "{response_address}", "--public-key", "{public_key}"),
    *("--transport-encryption", "{transport_encryption}"),
]


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """Return gateway(host, encryption): a kernel manager whose provisioner starts kernels on that host."""
    directory = tmp_path / "kernels" / "far"
    directory.mkdir(parents=True)
    spec = {
        "argv": ARGV,
        "display_name": "far",
        "language": "python",
        "metadata": {
            "supported_encryption": ["curve"],
            "kernel_provisioner": {"provisioner_name": "distributed-provisioner"},
        },
    }
    (directory / "kernel.json").write_text(json.dumps(spec))
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("GP_UNAUTHORIZED_USERS", "nobody")  # containers run their tests as root
    from gateway_provisioners import distributed, response_manager

    monkeypatch.setattr(distributed, "kernel_log_dir", str(tmp_path))
    monkeypatch.setattr(response_manager, "local_ip", "127.0.0.1")

    def manager(host, encryption="disabled"):
        monkeypatch.setenv("GP_REMOTE_HOSTS", host)
        response_manager.ResponseManager.clear_instance()  # it belongs to the event loop of its first use
        return AsyncKernelManager(
            kernel_name="far",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")]),
            transport_encryption=encryption,
        )

    return manager


async def work(manager, log):
    """Start, run cells, interrupt, restart, and end a kernel, as a gateway's users do."""
    try:
        await asyncio.wait_for(manager.start_kernel(), DEADLINE)
        first = manager.provisioner.pid
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=DEADLINE)
        assert await result_of(client, "40 + 2") == "42"
        assert await result_of(client, "import os; os.getpid()") == str(first)
        assert await manager.is_alive()

        # an interrupt is a signal by the comm port
        client.execute("print('begun'); import time; time.sleep(600)")
        while (await client.get_iopub_msg(timeout=DEADLINE))["content"].get("text") != "begun\n":
            pass
        await manager.interrupt_kernel()
        reply = await client.get_shell_msg(timeout=DEADLINE)
        assert reply["content"]["ename"] == "KeyboardInterrupt"

        # a restart is another process, whose ports the same client may not know
        await asyncio.wait_for(manager.restart_kernel(), DEADLINE)
        client.stop_channels()
        assert manager.provisioner.pid != first
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=DEADLINE)
        assert await result_of(client, "40 + 2") == "42"

        last = manager.provisioner.pid
        await asyncio.wait_for(manager.shutdown_kernel(), DEADLINE)
        client.stop_channels()
        assert not await manager.is_alive()
        assert not Path(f"/proc/{last}/cmdline").exists() or not Path(f"/proc/{last}/cmdline").read_bytes()
    except BaseException:
        print(*(file.read_text() for file in log.glob("kernel-*.log")), sep="\n")
        raise
    finally:
        if manager.has_kernel:
            await manager.shutdown_kernel(now=True)


async def result_of(client, code):
    found = []

    def look(message):
        if message["msg_type"] == "execute_result":
            found.append(message["content"]["data"]["text/plain"])

    reply = await client.execute_interactive(code, timeout=DEADLINE, allow_stdin=False, output_hook=look)
    assert reply["content"]["status"] == "ok", reply
    return found[0] if found else None


@pytest.mark.parametrize("encryption", ["disabled", "required"])
def test_gateway_provisioners_start_a_kernel_here(gateway, tmp_path, encryption):
    asyncio.run(work(gateway("localhost", encryption), tmp_path))


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The other machine's ssh server: it lets in who knows the password, and runs what they say in a shell."""
    import paramiko
    from gateway_provisioners import distributed

    class Door(paramiko.ServerInterface):
        def check_auth_password(self, username, password):
            return paramiko.AUTH_SUCCESSFUL if password == "a password" else paramiko.AUTH_FAILED

        def check_channel_request(self, kind, chanid):
            return paramiko.OPEN_SUCCEEDED

        def check_channel_exec_request(self, channel, command):
            commands.append(command.decode())
            threading.Thread(target=run, args=(channel, command), daemon=True).start()
            return True

    def run(channel, command):
        done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, start_new_session=True, timeout=DEADLINE)
        channel.sendall(done.stdout)
        channel.send_exit_status(done.returncode)
        channel.close()

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # closed
            transport = paramiko.Transport(connection)
            transport.add_server_key(key)
            transport.start_server(server=Door())
            transports.append(transport)

    commands, transports, key = [], [], paramiko.RSAKey.generate(2048)
    server = socket.create_server((ELSEWHERE, 0))
    port = server.getsockname()[1]
    known = tmp_path / "HOME" / ".ssh" / "known_hosts"
    known.parent.mkdir(parents=True)
    known.write_text(f"[{ELSEWHERE}]:{port} {key.get_name()} {key.get_base64()}\n")
    monkeypatch.setenv("GP_REMOTE_PWD", "a password")
    monkeypatch.setattr(distributed, "ssh_port", port)
    threading.Thread(target=serve, daemon=True).start()
    yield commands
    server.close()
    for transport in transports:
        transport.close()


def test_gateway_provisioners_start_a_kernel_over_ssh(gateway, host, tmp_path):
    asyncio.run(work(gateway(ELSEWHERE, "required"), tmp_path))

    assert [("nohup" in command, "ipymini.launcher" in command) for command in host] == [(True, True)] * 2


OLD_ARGV = [
    *(sys.executable, "-m", "ipymini.launcher", "--RemoteProcessProxy.kernel-id", "{kernel_id}"),
    *("--RemoteProcessProxy.response-address", "{response_address}", "--RemoteProcessProxy.public-key", "{public_key}"),
    *("--RemoteProcessProxy.port-range", "{port_range}"),
    *("--RemoteProcessProxy.spark-context-initialization-mode", "none"),
]


@pytest.fixture
def enterprise_gateway(tmp_path):
    """The address of an Enterprise Gateway in an environment of its own: it wants a jupyter_client of years ago."""
    venv = tmp_path / "venv"
    python = sys.executable if sys.version_info < (3, 12) else shutil.which("python3.11")
    assert python, "Enterprise Gateway's pyzmq has no wheels for Python 3.12: this test needs a python3.11 as well"
    subprocess.run([python, "-m", "venv", str(venv)], check=True, timeout=120)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--only-binary=pyzmq"]
    subprocess.run([*pip, "jupyter_enterprise_gateway>=3.2"], check=True, timeout=600)
    directory = tmp_path / "kernels" / "far"
    directory.mkdir(parents=True)
    proxy = "enterprise_gateway.services.processproxies.distributed.DistributedProcessProxy"
    metadata = {"process_proxy": {"class_name": proxy, "config": {"remote_hosts": "localhost"}}}
    spec = {"argv": OLD_ARGV, "display_name": "far", "language": "python", "metadata": metadata}
    (directory / "kernel.json").write_text(json.dumps(spec))
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        **{name: str(tmp_path / name) for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")},
        "JUPYTER_PATH": str(tmp_path),
        "EG_RESPONSE_IP": "127.0.0.1",
        "EG_KERNEL_LOG_DIR": str(tmp_path),
        "EG_UNAUTHORIZED_USERS": "nobody",
    }
    port, log = free_ports(1)[0], (tmp_path / "gateway.log").open("w")
    server = subprocess.Popen(
        [venv / "bin" / "jupyter-enterprisegateway", "--ip=127.0.0.1", f"--port={port}", "--port_retries=0"],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(DEADLINE)
        print((tmp_path / "gateway.log").read_text())
        print(*(file.read_text() for file in tmp_path.glob("kernel-*.log")), sep="\n")


async def ask(address, method, path, **body):
    """Return what the gateway's REST interface says."""
    url = f"http://{address}/api/{path}"
    raw = None if method in ("GET", "DELETE") else json.dumps(body)
    reply = await AsyncHTTPClient().fetch(url, method=method, body=raw, request_timeout=DEADLINE)
    return json.loads(reply.body) if reply.body else None


async def cell_by_websocket(address, kernel_id, code, when_it_prints=None):
    """Return the results of a cell and how it ended, as a notebook's frontend learns it."""
    socket = await websocket_connect(f"ws://{address}/api/kernels/{kernel_id}/channels")
    message = Session().msg(
        "execute_request", {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    )
    await socket.write_message(json.dumps({**message, "channel": "shell"}, default=str))
    found = []
    while True:
        said = json.loads(await asyncio.wait_for(socket.read_message(), DEADLINE))
        if said["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        if said["msg_type"] == "stream" and when_it_prints is not None:
            await when_it_prints
        if said["msg_type"] == "execute_result":
            found.append(said["content"]["data"]["text/plain"])
        if said["msg_type"] == "status" and said["content"]["execution_state"] == "idle":
            socket.close()
            return found
        if said["msg_type"] == "error":
            found.append(said["content"]["ename"])


def test_enterprise_gateway_starts_a_kernel(enterprise_gateway):
    async def visit():
        def ask_for(method, path, **body):
            return ask(enterprise_gateway, method, path, **body)

        end = time.monotonic() + DEADLINE
        while True:
            try:
                await ask_for("GET", "kernelspecs")
                break
            except OSError:
                assert time.monotonic() < end, "the gateway does not start"
                await asyncio.sleep(0.1)
        kernel = (await ask_for("POST", "kernels", name="far", env={"KERNEL_USERNAME": "somebody"}))["id"]
        assert await cell_by_websocket(enterprise_gateway, kernel, "40 + 2") == ["42"]
        interrupt = ask_for("POST", f"kernels/{kernel}/interrupt")
        endless = "print('begun'); import time; time.sleep(600)"
        assert await cell_by_websocket(enterprise_gateway, kernel, endless, interrupt) == ["KeyboardInterrupt"]
        await ask_for("POST", f"kernels/{kernel}/restart")
        assert await cell_by_websocket(enterprise_gateway, kernel, "40 + 2") == ["42"]
        await ask_for("DELETE", f"kernels/{kernel}")

    asyncio.run(visit())
