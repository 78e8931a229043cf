"""connection_files: the connection file of this process's kernel, and where a new one goes. Opens no sockets itself.

`ipymini.get_connection_file()` and its kin, as users of `ipykernel.connect` know them.
"""

import json
import os
import sys
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from ipymini import cells
from ipymini.protocol import connection
from ipymini.protocol.connection import Connection


def get_connection_file(app: Any = None) -> str:
    """Return the path of this process's connection file. Raise NoKernel if there is no kernel, or it has no file.

    `app`: something with a `connection_file`, as ipykernel's applications have, instead of this process's kernel.
    """
    found = getattr(app if app is not None else cells.kernel(), "connection_file", None)
    if not found:
        raise cells.NoKernel("expected an ipymini kernel with a connection file: there is none in this process")
    return str(Path(found).absolute())


def get_connection_info(connection_file: str | Path | None = None, unpack: bool = False) -> str | dict[str, Any]:
    """Return what a connection file says: as JSON, or with `unpack` as a dict whose `key` is bytes.

    `connection_file`: a path, or a file's name, its beginning or a pattern, in Jupyter's runtime directory; without
    it, that of this process's kernel. Raise NoKernel, or OSError if there is no such file.
    """
    text = _find_existing(connection_file).read_text(encoding="utf-8")
    if not unpack:
        return text
    info: dict[str, Any] = json.loads(text)
    info["key"] = str(info.get("key", "")).encode()
    return info


def connect_qtconsole(connection_file: str | Path | None = None, argv: list[str] | None = None) -> "Popen[bytes]":
    """Open a qtconsole for a kernel, that of this process or another; return its process. `argv`: its options."""
    file = str(_find_existing(connection_file))
    command = [sys.executable, "-m", "qtconsole", "--existing", file, *(argv or [])]
    return Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def _find_existing(file: str | Path | None) -> Path:
    if file is None:
        return Path(get_connection_file())
    if Path(file).exists():
        return Path(file)
    from jupyter_client.connect import find_connection_file

    return Path(find_connection_file(str(file)))


def find(file: Path | None, given: dict[str, Any]) -> tuple[Path, bool, Connection]:
    """Return a new kernel's connection file, whether it is ours to write and remove, and what it says.

    A file that exists is read; ports that are 0 are chosen, and then it is written back. One that does not
    exist, or none at all, is made, in Jupyter's runtime directory unless the path says where. Raise BadConnectionFile.
    """
    if file is None or (file.parent == Path(".") and not file.exists()):
        from jupyter_core.paths import jupyter_runtime_dir

        file = Path(jupyter_runtime_dir()) / (file.name if file else f"kernel-{os.getpid()}.json")
    if file.exists() and not _is_left_over(file):
        found = connection.read(file)
        return file, False, connection.parse({**found.as_dict(), **given}) if given else found
    return file, True, connection.new(kernel_name="ipymini", **given)


def _is_left_over(file: Path) -> bool:
    """Return whether a file has the name that we choose: a process with our id has left it, and was killed."""
    return file.name == f"kernel-{os.getpid()}.json"
