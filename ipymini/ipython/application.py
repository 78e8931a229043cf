"""application: IPython's application in a kernel: options, configuration files, start-up code. Runs no kernel.

The class is also `ipykernel.kernelapp.IPKernelApp`, for who asks for its kernel or its connection file. It is imported
when there is something to read (see `startup`), or when somebody asks for `Application.instance()`.

Launchers pass options of all sorts, so one that is unknown is worth a warning, never a failure. Start-up code that
fails is reported, and what comes after it runs.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.application import BaseIPythonApplication, ProfileAwareConfigLoader, base_aliases, base_flags
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.shellapp import InteractiveShellApp, shell_aliases, shell_flags
from traitlets import Any as AnyTrait
from traitlets import Instance, TraitError, Unicode, default, validate
from traitlets.config import Application, Config, Configurable
from traitlets.config.loader import DeferredConfigList, DeferredConfigString

from ipymini.compat.facade import IPythonKernel
from ipymini.ipython import startup
from ipymini.ipython.startup import log
from ipymini.protocol.connection import CHANNELS

ALIASES = {
    **base_aliases,
    **shell_aliases,
    "ident": "Session.session",
    "user": "Session.username",
    "keyfile": "Session.keyfile",
}
IGNORED = ("quick", "no-stdout", "no-stderr", "trio-loop", "no-banner", "secure", "no-secure")
FLAGS = {**base_flags, **shell_flags, **{name: ({}, "accepted, without effect") for name in IGNORED}}
LISTS = ("extensions", "extra_extensions", "exec_lines", "exec_files")
# Classes that nobody has imported at the start, and options that are somebody's all the same.
LATER = {"TerminalIPythonApp", "Session", "Completer", "IPCompleter", "InlineBackend", "StoreMagics", "Comm"}


def parse(argv: list[str]) -> Config:
    """Return the configuration that command-line options make; warn of those that mean nothing here."""
    given = Config()
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        name, has_value, value = word.lstrip("-").partition("=")
        takes_next = bool(waiting) and not waiting[0].startswith("-")
        option = re.fullmatch(r"([A-Z].*)\.(\w+)", ALIASES.get(name, name))
        if not word.startswith("-") and os.path.isfile(word):
            given.InteractiveShellApp.file_to_run = word
        elif not word.startswith("-"):
            log.warning("ignored argument: %s", word)
        elif name in FLAGS and not has_value and not (option and takes_next):
            given.merge(Config(FLAGS[name][0]))
        elif option:
            if not has_value:
                value = waiting.pop(0) if takes_next else "True"
            section, trait = option.groups()
            is_list = trait in LISTS or ("." in name and trait in given[section])
            before = given[section].get(trait, []) if is_list else []
            values = [*([before] if isinstance(before, str) else before), value]
            given[section][trait] = DeferredConfigList(values) if is_list else DeferredConfigString(value)
        else:
            log.warning("ignored option: %s", word)
    return given


class ConfigFile(ProfileAwareConfigLoader):
    """Loads a configuration file; one that ends Python has failed like any other."""

    def load_config(self) -> Config:
        """Return what the file says."""
        try:
            return super().load_config()
        except SystemExit as error:
            raise RuntimeError("it has ended with SystemExit") from error


def _port(channel: str) -> property:
    return property(lambda self: self.ports[channel])


class IPKernelApp(BaseIPythonApplication, InteractiveShellApp):
    """The application of this process's kernel. On the main thread; `configure`, then `run` with the shell."""

    name = "ipython-kernel"
    aliases, flags = ALIASES, FLAGS
    python_config_loader_class = ConfigFile
    shell: Any = Instance(InteractiveShell, allow_none=True)
    connection_file = Unicode().tag(config=True)
    gui, matplotlib, pylab = (Unicode(None, allow_none=True).tag(config=True) for _ in range(3))  # checked by the shell
    # `__main__` reads the first; the others are ipykernel's, and mean nothing here.
    log_level, parent_handle, interrupt, quiet, capture_fd_output = (AnyTrait().tag(config=True) for _ in range(5))

    kernel = property(lambda self: IPythonKernel._instance)
    session = property(lambda self: self.kernel.session)
    user_ns = property(lambda self: self.kernel.user_ns)
    abs_connection_file = property(lambda self: self.connection_file)
    connection_dir = property(lambda self: os.path.dirname(self.connection_file))
    ip = property(lambda self: self.kernel.connection.ip)
    transport = property(lambda self: self.kernel.connection.transport)
    ports = property(lambda self: dict(self.kernel.connection.ports))
    shell_port, iopub_port, stdin_port, control_port, hb_port = map(_port, CHANNELS)

    @classmethod
    def of_this_process(cls) -> "IPKernelApp":
        """Return the singleton, or a new object if that is the embedding program's or nobody's."""
        there = Application.instance() if Application.initialized() else None
        return there if isinstance(there, cls) else cls()

    def __init__(self, **traits: Any):
        shell = self.kernel and self.kernel.shell
        if shell is not None:  # made for somebody who asks for it, in a kernel that runs
            traits = {"config": shell.config, "shell": shell, "profile_dir": shell.profile_dir, **traits}
        super().__init__(**traits)

    def initialize(self, argv: Any = None) -> None:
        """Do nothing: the kernel runs already."""

    def start(self) -> None:
        """Do nothing: the kernel runs already."""

    # ---- before the shell is there -------------------------------------------------------

    def configure(self, argv: list[str], connection_file: str) -> "IPKernelApp":
        """Read options and configuration files; return self. Raise BadOption."""
        super().initialize(argv)
        self.update_config(Config({"IPKernelApp": {"connection_file": connection_file}}))
        return self

    def parse_command_line(self, argv: Any = None) -> None:
        """Read the options. Warn of those of unknown classes: an extension may bring the class, or it is misspelled."""
        self.cli_config = parse(argv)
        known = {kind.__name__ for kind in _subclasses(Configurable)} | LATER
        for name in sorted(set(self.cli_config) - known):
            log.warning("no class of this name is there at the start: %s", name)
        self.update_config(self.cli_config)

    def init_profile_dir(self) -> None:
        """Make the directories."""
        location = str(self.config.get("ProfileDir", {}).get("location", ""))
        self.directories = startup.Directories(self.ipython_dir).make(self.profile, location)
        self.ipython_dir, self.profile_dir = self.directories.ipython_dir, self.directories.profile_dir
        self.config_file_paths.append(self.profile_dir.location)

    @default("ipython_dir")
    def _ipython_dir_default(self) -> str:
        return self.shell.ipython_dir if self.shell is not None else startup.ipython_directory()

    @validate("extra_config_file")
    def _absolute(self, proposal: Any) -> str:
        return os.path.abspath(os.path.expanduser(proposal["value"]))

    @default("log")
    def _log_default(self) -> Any:
        return IPythonKernel.log

    def _configure_logging(self, change: Any = None) -> None:
        """Leave the log as `python -m ipymini` has made it."""

    _observe_logging_change = _configure_logging

    def init_crash_handler(self) -> None:
        """Leave `sys.excepthook` alone."""

    def exit(self, exit_status: int | str | None = 0) -> None:
        """Raise BadOption if a value is wrong; else go on. IPython would end the process."""
        if isinstance(error := sys.exc_info()[1], TraitError):
            raise startup.BadOption(f"an option or a configuration file is wrong: {error}") from error

    # ---- once the shell is there -----------------------------------------------------------

    def run(self, shell: Any) -> None:
        """Do what the configuration asks for before the first cell."""
        self.shell = shell
        self.init_path()
        self.init_gui_pylab()
        self.init_extensions()
        self.init_code()
        startup.say_in_first_cell(shell, self.directories.warnings)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Show what start-up code raises, as the shell shows the errors of cells."""
        try:
            yield
        except (Exception, SystemExit):
            self.shell.showtraceback()

    def init_path(self) -> None:
        """Let cells import from the working directory; a kernelspec's `-P` is not the user's wish."""
        if not self.ignore_cwd:
            startup.init_path()

    def init_extensions(self) -> None:
        """Load the extensions."""
        startup.load_store(self.shell)
        for name in [*self.extensions, *self.extra_extensions]:
            with self._reported():
                self.shell.extension_manager.load_extension(name)

    def _exec_file(self, fname: str, shell_futures: bool = False) -> None:
        with self._reported():
            super()._exec_file(fname)  # cells do not inherit a `from __future__ import` of a script

    def _run_cmd_line_code(self) -> None:
        super()._run_cmd_line_code()
        if self.code_to_run and self.file_to_run:  # IPython runs only one of them
            self._exec_file(self.file_to_run)


def _subclasses(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


launch_new_instance = IPKernelApp.launch_instance
