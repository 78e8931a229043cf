"""options: what the command line and the profile's files configure. Imports traitlets' loaders only when there is something to load."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from traitlets.config import Config

log = logging.getLogger("ipymini.options")

FILES = ("ipython_config", "ipython_kernel_config")
# The short forms of `python -m ipykernel` and of IPython that mean something here.
_ALIASES = {
    "profile": "IPKernelApp.profile",
    "profile-dir": "IPKernelApp.profile_dir",
    "ipython-dir": "IPKernelApp.ipython_dir",
    "matplotlib": "IPKernelApp.matplotlib",
    "gui": "IPKernelApp.gui",
    "pylab": "IPKernelApp.pylab",
    "ext": "IPKernelApp.extra_extensions",
    "c": "IPKernelApp.code_to_run",
    "m": "IPKernelApp.module_to_run",
    "colors": "InteractiveShell.colors",
    "autocall": "InteractiveShell.autocall",
    "cache-size": "InteractiveShell.cache_size",
    "log-level": "IPKernelApp.log_level",
    "logappend": "InteractiveShell.logappend",
    "logfile": "InteractiveShell.logfile",
}
_FLAGS = {
    "matplotlib": ("IPKernelApp.matplotlib", "auto"),
    "pylab": ("IPKernelApp.pylab", "auto"),
    "pprint": ("PlainTextFormatter.pprint", True),
    "no-pprint": ("PlainTextFormatter.pprint", False),
    "autoindent": ("InteractiveShell.autoindent", True),
    "no-autoindent": ("InteractiveShell.autoindent", False),
    "pdb": ("InteractiveShell.pdb", True),
    "no-pdb": ("InteractiveShell.pdb", False),
    "quick": ("IPKernelApp.ignore_profile", True),
    "automagic": ("InteractiveShell.automagic", True),
    "no-automagic": ("InteractiveShell.automagic", False),
}
_QUIET = {"debug", "quiet", "no-stdout", "no-stderr", "trio-loop", "secure"}  # accepted, nothing left to do here


def from_argv(argv: Iterable[str]) -> Config:
    """Return the configuration that the words of a command line give. What means nothing is warned about."""
    config = Config()
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            log.warning("ignored command-line argument %r: expected --Class.trait=value", word)
        elif "." in name and equals:
            _set(config, name, _literal(value))
        elif name in _ALIASES and (equals or (waiting and not waiting[0].startswith("-"))):
            _set(config, _ALIASES[name], _literal(value if equals else waiting.pop(0)))
        elif name in _FLAGS:
            _set(config, *_FLAGS[name])
        elif name not in _QUIET:
            log.warning("ignored unknown option %r: see python -m ipymini --help", word)
    return config


def _set(config: Config, name: str, value: Any) -> None:
    section, _, trait = name.partition(".")
    while "." in trait:
        inner, _, trait = trait.partition(".")
        section = f"{section}.{inner}"
    target = config
    for part in section.split("."):
        target = target[part]
    target[trait] = value


def _literal(text: str) -> Any:
    import ast

    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def ipython_dir(config: Config) -> Path:
    """Return IPython's directory: the option, IPYTHONDIR, or ~/.ipython."""
    given = config.IPKernelApp.get("ipython_dir") or os.environ.get("IPYTHONDIR")
    return Path(given).expanduser() if given else Path.home() / ".ipython"


def profile_path(config: Config) -> Path:
    """Return the directory of the profile in use."""
    if given := config.IPKernelApp.get("profile_dir") or config.ProfileDir.get("location"):
        return Path(given).expanduser()
    return ipython_dir(config) / f"profile_{config.IPKernelApp.get('profile', 'default')}"


def with_files(config: Config) -> Config:
    """Return the configuration of the profile's and the system's files, under what the command line gave."""
    import sys

    places = [Path("/etc/ipython"), Path(sys.prefix) / "etc" / "ipython", profile_path(config)]
    merged = Config()
    for place in places:
        for name in FILES:
            for suffix in (".py", ".json"):
                file = place / (name + suffix)
                if file.exists():
                    merged.merge(_load(file))
    merged.merge(config)
    return merged


def _load(file: Path) -> Config:
    from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

    loader = PyFileConfigLoader if file.suffix == ".py" else JSONFileConfigLoader
    try:
        return loader(file.name, path=str(file.parent)).load_config()
    except ConfigFileNotFound:
        return Config()
    except Exception:  # it is the user's own code: a mistake in it must not keep the kernel from starting
        log.exception("could not load the configuration file=%s", file)
        return Config()
