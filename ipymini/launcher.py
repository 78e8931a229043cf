"""launcher: `python -m ipymini.launcher`: a kernel that a gateway starts on another machine. Serves no requests itself.

Enterprise Gateway and gateway_provisioners start a kernel on another machine (over ssh, in a container, on a cluster)
with a command line that names the kernel, a range of ports, an address and a public key. The kernel chooses its ports,
tells them to that address, encrypted for that key, and takes signals on one more port (`remote.signal_relay`).

The answer is base64 of a JSON object: `version` 1; `key`, an AES key, encrypted for the public key (RSA, PKCS #1 v1.5);
`conn_info`, the connection file and `pid`, `pgid`, `comm_port`, `kernel_id`, encrypted with that key (AES-128, ECB,
PKCS #7). It is their format; `key` and `conn_info` are base64 too.
"""

from ipymini.protocol import import_guard

if __name__ == "__main__":
    import_guard.leave_out()  # before any other import

import argparse
import atexit
import base64
import binascii
import importlib.util
import json
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipymini.protocol import connection
from ipymini.protocol.messages import IpyminiError
from ipymini.remote import signal_relay

log = logging.getLogger("ipymini.launcher")

VERSION = 1  # of the answer
BLOCK = 16  # bytes: of AES, and of our key for it
ANSWER_TIMEOUT = 10.0  # seconds for the gateway to take the answer
EVERYWHERE = "0.0.0.0"


class BadLaunch(IpyminiError):
    """The kernel cannot be started as the command line says; the text says why."""


def main(argv: list[str] | None = None) -> int:
    """Start a kernel as a gateway's command line says. Returns an exit code only if that fails."""
    from ipymini import __main__ as command_line

    options, rest = parse(sys.argv[1:] if argv is None else argv)
    command_line.start_logging("DEBUG" if "--debug" in rest else os.environ.get("IPYMINI_LOG_LEVEL", "WARNING"))
    try:
        address = parse_address(options.response_address)
        seal = sealer(options.public_key)
        wanted = connection.parse_port_range(options.port_range or "")
        listener = listen(options.ip, wanted)
        comm_port = listener.getsockname()[1]
        signal_relay.start(listener)  # before anything large is imported
        given = {"ip": options.ip, "port_range": options.port_range or "", **curve(options.transport_encryption)}
        file = write_file(options.kernel_id, connection.new(kernel_name="ipymini", **given))
    except IpyminiError as error:
        print(f"ipymini: {error}", file=sys.stderr)
        return 1
    atexit.register(file.unlink, missing_ok=True)

    def answer(bound: connection.Connection) -> None:
        more = {"pid": os.getpid(), "pgid": os.getpgid(0), "comm_port": comm_port, "kernel_id": options.kernel_id}
        send(address, seal(json.dumps({**bound.as_dict(), **more}).encode()))

    code = command_line.run_kernel(["-f", str(file), *rest], bound=answer)
    file.unlink(missing_ok=True)
    return code


# ---- the command line ---------------------------------------------------------------


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what a gateway's options say, and the other options, which are the kernel's. Exits if one is missing."""
    parser = argparse.ArgumentParser(prog="python -m ipymini.launcher", allow_abbrev=False)

    def add(name: str, **more: Any) -> None:  # Enterprise Gateway's older spelling is the second one
        parser.add_argument(f"--{name}", f"--RemoteProcessProxy.{name}", dest=name.replace("-", "_"), **more)

    add("kernel-id", required=True, help="the gateway's name for the kernel")
    add("response-address", required=True, metavar="IP:PORT", help="whom to tell the kernel's ports")
    add("public-key", required=True, metavar="BASE64", help="for whom to encrypt them")
    add("port-range", nargs="?", metavar="LOW..HIGH", help="where to choose them from; 0..0: anywhere")
    add("transport-encryption", nargs="?", metavar="auto|required", help="make CurveZMQ keys")
    add("spark-context-initialization-mode", nargs="?", default="none", help="none: there is no other")
    add("cluster-type", nargs="?", default="none", help="none: there is no other")
    add("kernel-class-name", nargs="?", help="ignored: it names a class of ipykernel's")
    add("ip", default=EVERYWHERE, help="the interface that the kernel listens on (%(default)s: all)")
    options, rest = parser.parse_known_args(argv)
    if not re.fullmatch(r"[\w.-]{1,200}", options.kernel_id):  # it becomes the name of a file
        parser.error(f"expected letters, digits, '.', '_' and '-' as --kernel-id, {options.kernel_id!r} came")
    mode = options.spark_context_initialization_mode
    if mode not in (None, "", "none"):
        log.warning("no Spark session is made: in a cell, SparkSession.builder.getOrCreate() makes one mode=%s", mode)
    return options, rest


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT". Raise BadLaunch."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadLaunch(f"expected IP:PORT as --response-address, {text!r} came")
    return host.strip("[]"), int(port)


def curve(policy: str | None) -> dict[str, str]:
    """Return new keys for the connection file if the gateway's policy asks for encryption. Raise BadLaunch."""
    policy = (policy or "").strip().lower()
    if policy not in ("auto", "required"):  # also a "{transport_encryption}" that an older gateway left as it was
        return {}
    from ipymini.execution import sockets

    keys = sockets.new_curve_keys()
    if keys is None:
        if policy == "required":
            raise BadLaunch("encryption is required, and this machine's libzmq has none: install pyzmq from a wheel")
        log.warning("nothing is encrypted: this machine's libzmq cannot")
        return {}
    return {"curve_publickey": keys[0].decode(), "curve_secretkey": keys[1].decode()}


# ---- ports and the file ------------------------------------------------------------


def listen(ip: str, ports: range | None) -> socket.socket:
    """Return a socket that listens on a free port of the range. Raise BadLaunch."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for port in connection.in_random_order(ports) if ports else (0,):
        try:
            return socket.create_server((ip, port), family=family, backlog=signal_relay.MAX_CONNECTIONS)
        except PermissionError:
            continue
        except OSError as error:
            if "in use" not in (error.strerror or ""):
                raise BadLaunch(f"cannot listen on {ip}: {error.strerror}") from None
    raise BadLaunch(f"no port is free in {ports[0]}..{ports[-1]} on {ip}: choose a wider range" if ports else "no port")


def write_file(kernel_id: str, wanted: connection.Connection) -> Path:
    """Write the connection file into Jupyter's runtime directory, or into a new one if that cannot be written."""
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        file = Path(jupyter_runtime_dir()) / f"kernel-{kernel_id}.json"
        connection.write(file, wanted)
    except OSError:  # a user without a home directory, as on clusters
        file = Path(tempfile.mkdtemp(prefix="jupyter-")) / f"kernel-{kernel_id}.json"
        connection.write(file, wanted)
    return file


# ---- the answer ------------------------------------------------------------------------


def sealer(public_key: str) -> Callable[[bytes], bytes]:
    """Return a function from a connection's JSON to the answer. Raise BadLaunch: bad key, or no library to encrypt."""
    try:
        der = base64.b64decode(public_key, validate=True)
    except (binascii.Error, ValueError):
        raise BadLaunch("expected base64 as --public-key") from None
    libraries = {"cryptography": with_cryptography, "Cryptodome": with_pycryptodome}
    there = [library for library in libraries if importlib.util.find_spec(library)]
    if not there:
        raise BadLaunch("no library is there to encrypt the answer that the gateway needs: pip install ipymini[remote]")
    encrypt = libraries[there[0]]

    def seal(text: bytes) -> bytes:
        key = os.urandom(BLOCK)
        padding = BLOCK - len(text) % BLOCK
        try:
            sealed_key, sealed = encrypt(der, key, text + bytes([padding]) * padding)
        except (ValueError, TypeError, IndexError) as error:
            raise BadLaunch(f"expected an RSA key as --public-key: {error}") from None
        parts = {"key": base64.b64encode(sealed_key).decode(), "conn_info": base64.b64encode(sealed).decode()}
        return base64.b64encode(json.dumps({"version": VERSION, **parts}).encode())

    return seal


def with_cryptography(der: bytes, key: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Return `key`, encrypted for the RSA key `der`, and `text`, encrypted with `key`. Raise ValueError."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    public = load_der_public_key(der)
    if not isinstance(public, RSAPublicKey):
        raise ValueError("it is a key of another kind")
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return public.encrypt(key, PKCS1v15()), encryptor.update(text) + encryptor.finalize()


def with_pycryptodome(der: bytes, key: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Do the same with pycryptodomex, which gateways themselves use. Raise ValueError, TypeError or IndexError."""
    from Cryptodome.Cipher import AES, PKCS1_v1_5
    from Cryptodome.PublicKey import RSA

    sealed_key = PKCS1_v1_5.new(RSA.import_key(der)).encrypt(key)
    return sealed_key, AES.new(key, AES.MODE_ECB).encrypt(text)


def send(address: tuple[str, int], answer: bytes) -> None:
    """Send the answer to the gateway. Raise BadLaunch: a kernel that nobody knows of must not stay."""
    try:
        with socket.create_connection(address, timeout=ANSWER_TIMEOUT) as gateway:
            gateway.sendall(answer)
    except OSError as error:
        raise BadLaunch(f"cannot tell the gateway at {address[0]}:{address[1]} where the kernel is: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
