"""messages: the envelope of the Jupyter messaging protocol. Knows no sockets, no threads, no JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ipymini.protocol.originals import __builtins__, os  # noqa: F401

PROTOCOL_VERSION = "5.5"
SESSION = os.urandom(16).hex()  # this kernel's own session id, in the header of everything it sends

Content = dict[str, Any]


class IpyminiError(Exception):
    """The base of every error that ipymini raises on its own account."""


class BadContent(IpyminiError):
    """A request lacks a field, or a field has the wrong type."""


class UnknownRequest(IpyminiError):
    """No handler is registered for this message type on this channel."""


class KernelStopping(IpyminiError):
    """The kernel has been asked to shut down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("the kernel shuts down: start it again")


class UnknownSubshell(IpyminiError):
    """A message names a subshell that does not exist (any more)."""

    ename = "UnknownSubshellError"  # the name that ipykernel gave it, which frontends know


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # its repr would be as long as its content
class Request:
    """One message from a frontend, as the spec's "General Message Format" lists it.

    Headers are plain dicts because frontends may add keys (`subshell_id`) that must come back
    untouched in the parent of every answer; `header_json` is the header as it arrived, so that it
    is never encoded again. `buffers` are opaque bytes after the JSON part. Two requests are equal
    only if they are the same object: a message id is the client's to choose, also twice.
    """

    header: dict[str, Any]
    content: Content
    channel: str = "shell"
    identities: tuple[bytes, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    parent_header: dict[str, Any] = field(default_factory=dict)
    buffers: tuple[Any, ...] = ()
    header_json: bytes = b"{}"

    @property
    def msg_id(self) -> str:
        """The id that the client gave this message."""
        return str(self.header.get("msg_id", ""))

    @property
    def msg_type(self) -> str:
        """The type as the header spells it, such as `execute_request`."""
        return str(self.header.get("msg_type", ""))

    @property
    def session(self) -> str:
        """The client's session id."""
        return str(self.header.get("session", ""))

    @property
    def subshell_id(self) -> str | None:
        """The subshell that the header addresses; None (also for "") is the parent. JEP 91."""
        found = self.header.get("subshell_id")
        return str(found) if found else None

    def text(self, key: str) -> str:
        """Return a string field of the content. Raise BadContent if it is missing or no string."""
        return str(self._field(key, lambda value: isinstance(value, str), "a string", None))

    def integer(self, key: str, *, default: int | None = None) -> int:
        """Return an integer field of the content. Raise BadContent if it is missing or no integer."""
        found = self._field(
            key, lambda value: isinstance(value, int) and not isinstance(value, bool), "an integer", default
        )
        return int(found)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Return a boolean field of the content. Raise BadContent if it is missing or no boolean."""
        return bool(self._field(key, lambda value: isinstance(value, bool), "a boolean", default))

    def mapping(self, key: str, *, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return an object field of the content. Raise BadContent if it is missing or no object."""
        found: dict[str, Any] = self._field(key, lambda value: isinstance(value, dict), "an object", default)
        return found

    def _field(self, key: str, fits: Callable[[Any], bool], wanted: str, default: Any) -> Any:
        value = self.content.get(key)
        if value is None:
            if default is None:
                raise BadContent(f"{self.msg_type} needs {key!r} ({wanted}): it came without; add it to the content")
            return default
        if not fits(value):
            raise BadContent(
                f"{self.msg_type} needs {wanted} as {key!r}: a {type(value).__name__} came; correct the content"
            )
        return value

    def as_dict(self) -> dict[str, Any]:
        """Return the message as third parties know it: the dict that `jupyter_client.Session` makes."""
        return {
            "header": self.header,
            "msg_id": self.msg_id,
            "msg_type": self.msg_type,
            "parent_header": self.parent_header,
            "metadata": self.metadata,
            "content": self.content,
            "buffers": [memoryview(buffer) for buffer in self.buffers],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message of ours: what `wire` makes frames of.

    `parent` is the JSON of the header that caused this message (`b"{}"`: nothing did).
    """

    msg_type: str
    content: Content
    parent: bytes = b"{}"
    metadata: dict[str, Any] | None = None
    buffers: tuple[Any, ...] = ()
    msg_id: str | None = None  # None: `wire` gives it one


def reply_type(msg_type: str) -> str:
    """Return the type of the reply to a request type: `execute_request` is answered by `execute_reply`."""
    return msg_type.removesuffix("_request") + "_reply"


def error_content(error: BaseException) -> Content:
    """Return the content of an error reply. Spec: "Request-reply"."""
    ename = UnknownSubshell.ename if issubclass(type(error), UnknownSubshell) else type(error).__name__
    return {"status": "error", "ename": ename, "evalue": text_of(error), "traceback": []}


def text_of(error: BaseException) -> str:
    """Return `str(error)`, also of an error of the user's that cannot say it, or calls `sys.exit()` there."""
    try:
        return str(error)
    except BaseException:
        return "<an error whose text could not be made>"
