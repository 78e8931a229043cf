"""The real gateway_provisioners start kernels through our launcher: on this machine, and over ssh on "another" one."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import REPOSITORY
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager

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
