"""A gateway on another machine: it starts a kernel with a command line, and learns, encrypted, where to find it.

The gateway is this test, which keeps to what Enterprise Gateway and gateway_provisioners do; test_gateways.py has theirs.
"""

import base64
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness import REPOSITORY, free_ports
from jupyter_client import BlockingKernelClient

from ipymini import launcher
from ipymini.remote import signal_relay

DEADLINE = 20.0
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
PRIVATE = generate_private_key(65537, 2048)
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def unsealed(answer):
    """Return what a launcher has answered, as a gateway reads it."""
    outer = json.loads(base64.b64decode(answer))
    assert outer["version"] == 1
    key = PRIVATE.decrypt(base64.b64decode(outer["key"]), PKCS1v15())
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()
    padded = decryptor.update(base64.b64decode(outer["conn_info"])) + decryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    return json.loads(unpadder.update(padded) + unpadder.finalize())


class Gateway:
    """A response address, the kernels that were started for it, and what a gateway does with them."""

    def __init__(self, home: Path):
        self.home = home
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(DEADLINE)
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.processes: list[subprocess.Popen[str]] = []

    def launch(self, *more, prefix="--", **env):
        given = {"kernel-id": "k-1", "response-address": self.address, "public-key": PUBLIC}
        words = [word for name, value in given.items() for word in (f"{prefix}{name}", value)]
        places = {name: str(self.home / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR")}
        process = subprocess.Popen(
            [sys.executable, "-m", "ipymini.launcher", *words, *more],
            env={**os.environ, **places, "PYTHONPATH": str(REPOSITORY), **env},
            cwd=self.home, stderr=(self.home / "log").open("w"), text=True, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def answer(self):
        """Return what the kernel says of itself."""
        try:
            connection, _ = self.server.accept()
        except TimeoutError:
            raise AssertionError(f"no kernel has answered\n{self.log()}") from None
        with connection:
            connection.settimeout(DEADLINE)
            return unsealed(b"".join(iter(lambda: connection.recv(65536), b"")))

    def log(self):
        return (self.home / "log").read_text()

    def tell(self, said, message):
        """Say something to the comm port, as gateways do: connect, write, hang up."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        with socket.create_connection(("127.0.0.1", said["comm_port"]), timeout=DEADLINE) as comm:
            comm.sendall(raw)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE)
        self.server.close()


@pytest.fixture
def gateway(tmp_path):
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.close()


@contextmanager
def client_of(said, ip="127.0.0.1"):
    """A client that knows what the kernel has answered."""
    client = BlockingKernelClient()
    client.load_connection_info({**said, "ip": ip})
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE)
        yield client
    finally:
        client.stop_channels()


def run(client, code):
    """Return the texts that a cell puts out; it must end well."""
    texts = []

    def look(message):
        if message["msg_type"] == "execute_result":
            texts.append(message["content"]["data"]["text/plain"])

    reply = client.execute_interactive(code, timeout=DEADLINE, allow_stdin=False, output_hook=look)
    assert reply["content"]["status"] == "ok"
    return texts


def until(there, what, gateway):
    end = time.monotonic() + DEADLINE
    while not there():
        assert time.monotonic() < end, f"{what}\n{gateway.log()}"
        time.sleep(0.02)


def test_a_gateway_learns_where_its_kernel_is_and_runs_a_cell(gateway):
    ports = free_ports(10)
    process = gateway.launch("--port-range", f"{ports[0]}..{ports[-1]}", "--spark-context-initialization-mode", "none")

    said = gateway.answer()

    assert (said["kernel_id"], said["pid"], said["pgid"], said["ip"]) == ("k-1", process.pid, process.pid, "0.0.0.0")
    taken = [said["comm_port"], *(said[f"{channel}_port"] for channel in CHANNELS)]
    assert len(set(taken)) == 6 and set(taken) <= set(ports)
    with client_of(said) as client:
        assert run(client, "40 + 2") == ["42"]
        # and: the connection file is where others look for it, and goes with the kernel
        file = gateway.home / "JUPYTER_RUNTIME_DIR" / "kernel-k-1.json"
        assert json.loads(file.read_text())["key"] == said["key"]
        client.shutdown()
        assert process.wait(DEADLINE) == 0
    assert not file.exists()
    until(lambda: refuses(said), "the signal relay outlives its kernel", gateway)


def refuses(said):
    """Whether the comm port is closed: what a gateway takes for the end of its kernel."""
    try:
        socket.create_connection(("127.0.0.1", said["comm_port"]), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_signals_come_by_the_comm_port_whatever_else_comes_there(gateway):
    gateway.launch("--ip", "127.0.0.1")
    said = gateway.answer()
    with client_of(said) as client:
        # given: nonsense, a port scan, and a crowd that connects and says nothing
        for nonsense in (b"{", b"[]", b"\xff", {"signum": 19}, {"signum": "2"}, {}, b"", b"x" * 5000):
            gateway.tell(said, nonsense)
        silent = [
            socket.create_connection(("127.0.0.1", said["comm_port"])) for _ in range(signal_relay.MAX_CONNECTIONS)
        ]
        gateway.tell(said, {"signum": 0})

        # when: a cell runs, with a process of its own
        asked = client.execute("import subprocess; print('begun'); subprocess.run(['sleep', '600'])")
        while client.get_iopub_msg(timeout=DEADLINE)["content"].get("text") != "begun\n":
            pass
        gateway.tell(said, {"signum": 2})

        # then
        reply = client.get_shell_msg(timeout=DEADLINE)
        assert (reply["parent_header"]["msg_id"], reply["content"]["ename"]) == (asked, "KeyboardInterrupt")
        assert run(client, "40 + 2") == ["42"]
        warnings = [line for line in gateway.log().splitlines() if "dropped a message to the gateway's port" in line]
        assert sum("come to" not in line for line in warnings) == 7
        assert len(warnings) <= signal_relay.MAX_WARNINGS
        for one in silent:
            one.close()


@pytest.mark.parametrize("prefix", ["--RemoteProcessProxy.", "--"], ids=["enterprise-gateway", "gateway-provisioners"])
def test_shutdown_by_the_comm_port_ends_the_kernel(gateway, prefix):
    process = gateway.launch(prefix=prefix)
    said = gateway.answer()
    with client_of(said):
        gateway.tell(said, {"shutdown": 1})
        assert process.wait(DEADLINE) == 0


def test_a_kernel_whose_c_code_holds_the_interpreter_can_be_killed(gateway):
    process = gateway.launch()
    said = gateway.answer()
    with client_of(said) as client:
        client.execute("print('begun', flush=True); import re; re.match('(a*)*b', 'a' * 60)")
        while client.get_iopub_msg(timeout=DEADLINE)["content"].get("text") != "begun\n":
            pass
        gateway.tell(said, {"signum": int(signal.SIGKILL)})
        assert process.wait(DEADLINE) == -signal.SIGKILL


def test_a_gateway_that_asks_for_encryption_gets_it(gateway):
    gateway.launch("--transport-encryption", "required")
    said = gateway.answer()
    assert len(said["curve_publickey"]) == len(said["curve_secretkey"]) == 40
    with client_of(said) as client:
        assert run(client, "40 + 2") == ["42"]
    assert "no curve keys" not in gateway.log()


def test_a_kernel_that_cannot_tell_its_gateway_does_not_stay(gateway):
    (gateway.home / "tempfile.py").write_text("raise ImportError('a file of the user's, in the working directory')")
    gateway.server.close()
    process = gateway.launch()
    assert process.wait(DEADLINE) == 1
    assert gateway.log().splitlines()[-1].startswith("ipymini: cannot tell the gateway at 127.0.0.1:")
    assert list((gateway.home / "JUPYTER_RUNTIME_DIR").iterdir()) == []


def test_a_range_that_is_too_small_is_one_line(gateway):
    ports = free_ports(3)
    process = gateway.launch("--port-range", f"{ports[0]}..{ports[-1]}")
    assert process.wait(DEADLINE) == 1
    said = gateway.log().splitlines()[-1]
    assert said.startswith("ipymini: no port is free for ") and said.endswith("choose a wider range")


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:", ":80", "h:0", "h:99999", "h:x"])
def test_a_response_address_that_is_none_is_refused(text):
    with pytest.raises(launcher.BadLaunch, match="IP:PORT"):
        launcher.parse_address(text)


@pytest.mark.parametrize("key", ["%%%", base64.b64encode(b"no key").decode()])
def test_a_public_key_that_is_none_is_refused(key):
    with pytest.raises(launcher.BadLaunch, match="--public-key"):
        launcher.sealer(key)(b"{}")


@pytest.mark.parametrize("name", ["../../x", "a b", ""])
def test_a_kernel_id_is_no_path(name, capsys):
    with pytest.raises(SystemExit):
        launcher.parse(["--kernel-id", name, "--response-address", "h:1", "--public-key", "k"])
    assert "--kernel-id" in capsys.readouterr().err


@pytest.mark.parametrize("policy", [None, "", "disabled", "{transport_encryption}"])
def test_no_policy_is_no_encryption(policy):
    assert launcher.curve(policy) == {}


@pytest.mark.parametrize("library", ["cryptography", "Cryptodome"])
def test_either_library_makes_answers_that_a_gateway_can_read(monkeypatch, library):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == library)
    for length in range(15, 18):  # round a block
        assert unsealed(launcher.sealer(PUBLIC)(json.dumps("ä" * length).encode())) == "ä" * length


def test_without_a_library_the_launcher_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(launcher.BadLaunch, match=r"pip install ipymini\[remote\]"):
        launcher.sealer(PUBLIC)


def test_the_kernelspec_in_the_documentation_is_one_that_the_launcher_takes():
    page = (REPOSITORY / "docs" / "remote.md").read_text(encoding="utf-8")
    argv = json.loads(page.partition("```json\n")[2].partition("```")[0])["argv"]
    assert argv[1:4] == ["-P", "-m", "ipymini.launcher"]

    values = {"kernel_id": "k-1", "port_range": "0..0", "response_address": "h:1", "public_key": PUBLIC}
    options, rest = launcher.parse([word.format(**values, transport_encryption="auto") for word in argv[4:]])

    assert rest == [] and set(values.items()) <= set(vars(options).items())
    assert options.transport_encryption == "auto"
