"""kernel_info: what `kernel_info_reply` says, without importing IPython. Knows no kernel and no frontend."""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ipymini import __version__
from ipymini.protocol.messages import PROTOCOL_VERSION, Content
from ipymini.protocol.originals import __builtins__  # noqa: F401

_PYTHON = ".".join(map(str, sys.version_info[:3]))
_HELP = (
    ("Python Reference", f"https://docs.python.org/{sys.version_info.major}.{sys.version_info.minor}"),
    ("IPython Reference", "https://ipython.org/documentation.html"),
    ("NumPy Reference", "https://docs.scipy.org/doc/numpy/reference"),
    ("SciPy Reference", "https://docs.scipy.org/doc/scipy/reference"),
    ("Matplotlib Reference", "https://matplotlib.org/contents.html"),
    ("SymPy Reference", "http://docs.sympy.org/latest/index.html"),
    ("pandas Reference", "https://pandas.pydata.org/pandas-docs/stable"),
)

LANGUAGE_INFO: Content = {
    "name": "python",
    "version": _PYTHON,
    "mimetype": "text/x-python",
    "codemirror_mode": {"name": "ipython", "version": 3},
    "pygments_lexer": "ipython3",
    "nbconvert_exporter": "python",
    "file_extension": ".py",
}


@cache
def ipython_version() -> str:
    """Return IPython's version, read from its release.py: importing IPython takes ten times as long as all else."""
    spec = find_spec("IPython")
    if spec is None or not spec.origin:
        return "unknown"
    names: dict[str, Any] = {"__name__": "IPython.core.release"}
    try:
        exec((Path(spec.origin).parent / "core" / "release.py").read_text(encoding="utf-8"), names)
    except Exception:
        return "unknown"  # another layout: the version is for the banner only
    return str(names.get("version", "unknown"))


@cache
def banner() -> str:
    """Return the text that consoles show at their start."""
    return (
        f"Python {sys.version}\n"
        "Type 'copyright', 'credits' or 'license' for more information\n"
        f"IPython {ipython_version()} on ipymini {__version__} -- An enhanced Interactive Python. Type '?' for help.\n"
    )


def kernel_info() -> Content:
    """Return the content of kernel_info_reply. Spec: "Kernel info"."""
    features = ["kernel subshells"]
    if _has_debugpy():
        features.append("debugger")
    return {
        "status": "ok",
        "protocol_version": PROTOCOL_VERSION,
        "implementation": "ipython",  # frontends and test suites know Python kernels by this name
        "implementation_version": ipython_version(),
        "language_info": LANGUAGE_INFO,
        "banner": banner(),
        "help_links": [{"text": text, "url": url} for text, url in _HELP],
        "supported_features": features,
    }


@cache
def _has_debugpy() -> bool:
    return find_spec("debugpy") is not None
