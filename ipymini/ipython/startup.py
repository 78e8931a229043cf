"""startup: options, configuration files and start-up code of the shell, as IPython's own applications know them.

Does without IPython's application framework, which would take longer to import than everything here takes to
run. Options: `--Class.trait=value`, and the short ones of the tables below. One that means nothing to us is
worth a warning, never a failure: launchers pass options of all sorts.
"""

import glob
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from IPython.core.profiledir import ProfileDir, ProfileDirError
from traitlets.config.configurable import Configurable
from traitlets.config.loader import Config, DeferredConfigList, DeferredConfigString

from ipymini.protocol import import_guard
from ipymini.protocol.messages import IpyminiError

log = logging.getLogger("ipymini.ipython.startup")

SHORT = {
    "profile": "BaseIPythonApplication.profile",
    "profile-dir": "ProfileDir.location",
    "ipython-dir": "BaseIPythonApplication.ipython_dir",
    "matplotlib": "InteractiveShellApp.matplotlib",
    "pylab": "InteractiveShellApp.pylab",
    "gui": "InteractiveShellApp.gui",
    "ext": "InteractiveShellApp.extra_extensions",
    "c": "InteractiveShellApp.code_to_run",
    "m": "InteractiveShellApp.module_to_run",
    "colors": "InteractiveShell.colors",
    "theme": "InteractiveShell.colors",
    "cache-size": "InteractiveShell.cache_size",
    "logfile": "InteractiveShell.logfile",
    "logappend": "InteractiveShell.logappend",
    "autocall": "InteractiveShell.autocall",
    "log-level": "Application.log_level",
    "config": "BaseIPythonApplication.extra_config_file",
    "ident": "Session.session",
    "user": "Session.username",
    "keyfile": "Session.keyfile",
}
FLAGS = {
    **{name: ("InteractiveShellApp", name, "auto") for name in ("matplotlib", "pylab")},
    **{name: ("InteractiveShell", name, True) for name in ("pdb", "automagic", "autoindent")},
    **{f"no-{name}": ("InteractiveShell", name, False) for name in ("pdb", "automagic", "autoindent")},
    "pprint": ("PlainTextFormatter", "pprint", True),
    "no-pprint": ("PlainTextFormatter", "pprint", False),
    "ignore-cwd": ("InteractiveShellApp", "ignore_cwd", True),
    "no-ignore-cwd": ("InteractiveShellApp", "ignore_cwd", False),
    "logstart": ("InteractiveShell", "logstart", True),
    "color-info": ("InteractiveShell", "color_info", True),
    "no-color-info": ("InteractiveShell", "color_info", False),
    **dict.fromkeys(("debug", "quiet", "quick", "no-stdout", "no-stderr", "nosep", "init", "trio-loop", "no-banner")),
    **dict.fromkeys(("secure", "no-secure", "show-config", "show-config-json")),
}
APPLICATIONS = ("BaseIPythonApplication", "InteractiveShellApp", "IPKernelApp")  # later ones win
# Classes that nobody has imported at the start, and options that are somebody's all the same.
LATER = {"Application", "IPKernelApp", "InteractiveShellApp", "TerminalIPythonApp", "BaseIPythonApplication", "Session"}
LATER |= {"Completer", "IPCompleter", "InlineBackend", "StoreMagics", "Kernel", "IPythonKernel", "ProfileDir", "Comm"}
FILES = ("ipython_config.py", "ipython_kernel_config.py")


class BadOption(IpyminiError):
    """The shell cannot be made as options and configuration files say; the text says why."""


class Options:
    """What the command line and the configuration files say. `config` is for the shell and all its parts."""

    def __init__(self, argv: list[str], connection_file: str | None):
        given = parse(argv)
        self.config = given
        self.warnings: list[str] = []  # for who runs the first cell
        directory = self.get("ipython_dir") or os.environ.get("IPYTHONDIR")
        wanted = os.path.abspath(os.path.expanduser(directory)) if directory else _default_directory()
        self.ipython_dir = self._directory(wanted)
        self.profile_dir = self._find_profile()
        self.config = self._load_files()
        self.config.merge(given)
        self.config.IPKernelApp.connection_file = connection_file or ""
        self._warn_of_strangers(given)

    def get(self, trait: str, default: Any = None) -> Any:
        """Return a setting of the application, under whichever of its names it was made."""
        found = default
        for application in APPLICATIONS:
            if trait in self.config.get(application, {}):
                found = self.config[application][trait]
        if isinstance(found, DeferredConfigList):
            return [part for text in found for part in _as_list(text)]
        if isinstance(found, DeferredConfigString):
            text = str(found)
            return _as_list(text) if isinstance(default, list) else text
        return found

    def _directory(self, wanted: str) -> str:
        """Return the IPython directory that was wanted, or a temporary one if nothing can be written there."""
        try:
            os.makedirs(wanted, exist_ok=True)
            if os.access(wanted, os.W_OK | os.X_OK):
                return wanted
            why = "it is read-only"
        except OSError as error:
            why = str(error)
        return self._temporary(f"no IPython directory {wanted!r}: {why}")

    def _temporary(self, why: str) -> str:
        import tempfile

        path = tempfile.mkdtemp(prefix="ipymini-")
        self.warnings.append(f"{why}; a temporary one takes its place: {path}")
        log.warning(self.warnings[-1])
        return path

    def _find_profile(self) -> ProfileDir:
        location = str(self.config.get("ProfileDir", {}).get("location", ""))
        try:
            if location:
                return ProfileDir(location=os.path.abspath(os.path.expanduser(location)))
            return ProfileDir.create_profile_dir_by_name(self.ipython_dir, self.get("profile", "default"))
        except (OSError, ProfileDirError) as error:
            return ProfileDir(location=self._temporary(f"no profile directory: {error}"))

    def directories(self) -> list[str]:
        """Return where configuration is looked for: what comes later wins."""
        system = ["/etc/ipython", "/usr/local/etc/ipython"] if os.name == "posix" else []
        prefix = os.path.join(sys.prefix, "etc", "ipython")
        return [*system, *([prefix] if prefix not in system else []), self.profile_dir.location]

    def _load_files(self) -> Config:
        config = Config()
        for name in FILES:
            for directory in self.directories():
                for path in (Path(directory, name), Path(directory, name).with_suffix(".json")):
                    if path.exists():
                        _load_file(path, config)
        for extra in self.get("extra_config_file", []):
            _load_file(Path(extra).expanduser().absolute(), config)
        return config

    def _warn_of_strangers(self, given: Config) -> None:
        """Say which options are of a class that there is not: an extension may bring it, or it is a slip of the pen."""
        if strangers := {name for name in given if name[:1].isupper()} - LATER:
            strangers -= {kind.__name__ for kind in _kinds(Configurable)}
        for name in sorted(strangers):
            log.warning("no class of this name is there at the start: %s", name)


def _kinds(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


def _default_directory() -> str:
    usual = os.path.join(os.path.expanduser("~"), ".ipython")
    if os.access(usual, os.W_OK) and "XDG_CONFIG_HOME" not in os.environ:
        return usual
    from IPython.paths import get_ipython_dir  # it knows all the exceptions, and takes 4 ms to import what they need

    return get_ipython_dir()


def _load_file(path: Path, config: Config) -> None:
    from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

    loader = PyFileConfigLoader if path.suffix == ".py" else JSONFileConfigLoader
    try:
        config.merge(loader(path.name, path=str(path.parent)).load_config())
    except (Exception, SystemExit):  # user code: a broken one must not keep the kernel from starting
        log.warning("configuration not loaded path=%s", path, exc_info=True)


def parse(argv: list[str]) -> Config:
    """Return the configuration that command-line options make; warn of those that mean nothing here."""
    config = Config()
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        name, has_value, value = word.lstrip("-").partition("=")
        takes_next = bool(waiting) and not waiting[0].startswith("-")
        if not word.startswith("-") and os.path.isfile(word):
            config.InteractiveShellApp.file_to_run = word
        elif not word.startswith("-"):
            log.warning("ignored argument: %s", word)
        elif name in FLAGS and not has_value and not (name in SHORT and takes_next):
            if (flag := FLAGS[name]) is not None:
                config[flag[0]][flag[1]] = flag[2]
        elif name in SHORT or "." in name:
            if not has_value:
                value = waiting.pop(0) if takes_next else "True"
            try:
                _set(config, SHORT.get(name, name), value)
            except (ValueError, TypeError, AttributeError):  # --a.B=1: traitlets takes it for a part of its own
                log.warning("ignored option: %s", word)
        else:
            log.warning("ignored option: %s", word)
    return config


def _set(config: Config, dotted: str, value: str) -> None:
    section, _, trait = dotted.rpartition(".")
    if section not in config:
        config[section] = Config()
    before = config[section].get(trait)
    if before is None:
        config[section][trait] = DeferredConfigString(value)
    elif isinstance(before, DeferredConfigList):
        before.append(value)
    else:
        config[section][trait] = DeferredConfigList([str(before), value])


def _as_list(text: str) -> list[str]:
    """Return the list that an option like `['a', 'b']` or `a` stands for."""
    import ast

    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return [text]
    return [str(one) for one in value] if isinstance(value, list | tuple) else [text]


# ---- what runs once the shell is there --------------------------------------------------


def run(shell: Any, options: Options) -> None:
    """Do what configuration asks for before the first cell. Errors are shown, and the next thing is done."""
    _init_path(options)
    _init_pylab(shell, options)
    extensions = [] if shell.has_store else ["storemagic"]
    for name in [*extensions, *options.get("extensions", []), *options.get("extra_extensions", [])]:
        _attempt(shell, shell.extension_manager.load_extension, name)
    shell.extension_manager.loaded.add("storemagic")  # declared by the shell, see its init_magics
    code, module, file = (options.get(f"{what}_to_run", "") for what in ("code", "module", "file"))
    first = os.environ.get("PYTHONSTARTUP")
    wants_first = str(options.get("exec_PYTHONSTARTUP", True)) != "False"
    if first and wants_first and not (code or module or file):
        _run_file(shell, first, options)
    for path in _startup_files(options):
        _run_file(shell, path, options)
    for line in options.get("exec_lines", []):
        _attempt(shell, lambda line=line: shell.run_cell(line, store_history=False))
    for path in options.get("exec_files", []):
        _run_file(shell, path, options)
    if str(options.get("hide_initial_ns", True)) != "False":
        shell.user_ns_hidden.update(shell.user_ns)
    if code:
        _attempt(shell, lambda: shell.run_cell(code, store_history=False))
    if file:
        _run_file(shell, file, options)
    if module:
        _attempt(shell, shell.safe_run_module, module, shell.user_ns)
    shell._sys_modules_keys = set(sys.modules)
    if options.warnings:
        _say_in_first_cell(shell, options.warnings)


def _say_in_first_cell(shell: Any, warnings: list[str]) -> None:
    def say(*about: Any) -> None:
        shell.events.unregister("pre_run_cell", say)
        for warning in warnings:
            print(f"ipymini: {warning}", file=sys.stderr)

    shell.events.register("pre_run_cell", say)


def _attempt(shell: Any, action: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return action(*arguments)
    except (Exception, SystemExit):  # the user's configuration: it is told of errors like any code of the user's
        shell.showtraceback()
        return None


def _init_path(options: Options) -> None:
    """Let cells import from the working directory, but after the standard library."""
    if "" in sys.path or import_guard.wants_none() or str(options.get("ignore_cwd", False)) == "True":
        return
    places = [n for n, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))]
    sys.path.insert(places[0] if places else 0, "")


def _init_pylab(shell: Any, options: Options) -> None:
    pylab, matplotlib, gui = (options.get(name) for name in ("pylab", "matplotlib", "gui"))
    import_all = str(options.get("pylab_import_all", True)) != "False"
    if pylab:
        _attempt(shell, lambda: shell.enable_pylab(None if pylab == "auto" else pylab, import_all=import_all))
    elif matplotlib:
        _attempt(shell, shell.enable_matplotlib, None if matplotlib == "auto" else matplotlib)
    elif gui:
        _attempt(shell, shell.enable_gui, gui)


def _startup_files(options: Options) -> list[str]:
    found = []
    for directory in options.directories():
        for pattern in ("*.py", "*.ipy"):
            found += glob.glob(os.path.join(glob.escape(directory), "startup", pattern))
    return sorted(found)


def _run_file(shell: Any, path: str, options: Options) -> None:
    path = os.path.expanduser(path)
    candidates = [path, os.path.join(options.ipython_dir, path)]
    full = next((os.path.abspath(one) for one in candidates if os.path.isfile(one)), None)
    if full is None:
        log.warning("no such file: %s", path)
        return
    argv, sys.argv = sys.argv, [full]
    had_file, file = "__file__" in shell.user_ns, shell.user_ns.get("__file__")
    shell.user_ns["__file__"] = full
    try:
        if full.endswith((".ipy", ".ipynb")):
            _attempt(shell, shell.safe_execfile_ipy, full)
        else:
            _attempt(shell, lambda: shell.safe_execfile(full, shell.user_ns, raise_exceptions=True))
    finally:
        sys.argv = argv
        if had_file:
            shell.user_ns["__file__"] = file
        else:
            shell.user_ns.pop("__file__", None)
