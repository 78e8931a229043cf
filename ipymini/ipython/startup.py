"""startup: IPython's directories, and the start of a shell for which nobody has configured anything.

Options, configuration files and start-up code are for IPython's own application (see `application`). It takes some
milliseconds to import and to make, so it is used only if there is something to read.
"""

import glob
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from IPython.core.profiledir import ProfileDir, ProfileDirError
from traitlets.config.loader import Config

from ipymini.protocol import import_guard
from ipymini.protocol.messages import IpyminiError

log = logging.getLogger("ipymini.ipython.startup")


class BadOption(IpyminiError):
    """The shell cannot be made as options and configuration files say; the text says why."""


@dataclass
class Directories:
    """IPython's directory and the profile's in it. One that cannot be written is replaced by a temporary one."""

    ipython_dir: str
    profile_dir: Any = None
    warnings: list[str] = field(default_factory=list)  # for the user, in the first cell

    def make(self, profile: str = "default", location: str = "") -> "Directories":
        """Make the directories, the profile's at `location` if that is given; return self."""
        self.ipython_dir = os.path.abspath(os.path.expanduser(self.ipython_dir))
        try:
            os.makedirs(self.ipython_dir, exist_ok=True)
            why = "" if os.access(self.ipython_dir, os.W_OK | os.X_OK) else "it is read-only"
        except OSError as error:
            why = str(error)
        if why:
            self.ipython_dir = self._temporary(f"no IPython directory {self.ipython_dir!r}: {why}")
        try:
            if location:
                self.profile_dir = ProfileDir(location=os.path.abspath(os.path.expanduser(location)))
            else:
                self.profile_dir = ProfileDir.create_profile_dir_by_name(self.ipython_dir, profile)
        except (OSError, ProfileDirError) as error:
            self.profile_dir = ProfileDir(location=self._temporary(f"no profile directory: {error}"))
        return self

    def _temporary(self, why: str) -> str:
        import tempfile

        path = tempfile.mkdtemp(prefix="ipymini-")
        self.warnings.append(f"{why}; a temporary one takes its place: {path}")
        log.warning(self.warnings[-1])
        return path


def ipython_directory() -> str:
    """Return the directory that IPython takes if no option names one."""
    if directory := os.environ.get("IPYTHONDIR"):
        return directory
    usual = os.path.join(os.path.expanduser("~"), ".ipython")
    if os.access(usual, os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:
        return usual
    from IPython.paths import get_ipython_dir  # it knows all the exceptions; its imports take 4 ms

    return get_ipython_dir()


class PlainStart:
    """A start with nothing to read. Has what the bridge needs of `application.IPKernelApp`."""

    def __init__(self, directories: Directories, connection_file: str):
        self.directories = directories
        self.config = Config({"IPKernelApp": {"connection_file": connection_file}})

    @classmethod
    def begin(cls, argv: list[str], connection_file: str) -> "PlainStart | None":
        """Make the directories and return a start; None if there is an option, a configuration or a start-up file."""
        if argv or os.environ.get("PYTHONSTARTUP"):
            return None
        directories = Directories(ipython_directory())
        system = ("/etc/ipython", "/usr/local/etc/ipython", os.path.join(sys.prefix, "etc", "ipython"))
        for place in (*system, os.path.join(directories.ipython_dir, "profile_default")):
            for pattern in ("ipython*_config.*", os.path.join("startup", "*.py"), os.path.join("startup", "*.ipy")):
                if glob.glob(os.path.join(glob.escape(place), pattern)):
                    return None
        return cls(directories.make(), connection_file)

    def run(self, shell: Any) -> None:
        """Do what IPython's application does with its defaults."""
        init_path()
        load_store(shell)
        shell.user_ns_hidden.update(shell.user_ns)
        shell._sys_modules_keys = set(sys.modules)
        say_in_first_cell(shell, self.directories.warnings)


def init_path() -> None:
    """Let cells import from the working directory, but after the standard library."""
    if "" in sys.path or import_guard.wants_none():
        return
    places = [n for n, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
    sys.path.insert(places[0] if places else 0, "")


def load_store(shell: Any) -> None:
    """Load the extension with %store, unless the shell has declared that magic (see `lean`)."""
    if not shell.has_store:
        shell.extension_manager.load_extension("storemagic")
    shell.extension_manager.loaded.add("storemagic")


def say_in_first_cell(shell: Any, warnings: list[str]) -> None:
    """Print the warnings when the first cell runs: before it nobody may listen."""
    if not warnings:
        return

    def say(*about: Any) -> None:
        shell.events.unregister("pre_run_cell", say)
        for warning in warnings:
            print(f"ipymini: {warning}", file=sys.stderr)

    shell.events.register("pre_run_cell", say)
