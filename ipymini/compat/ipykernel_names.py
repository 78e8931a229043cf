"""ipykernel_names: modules with ipykernel's names, in this process only; their contents are ours and lie elsewhere.

Libraries recognise a kernel by ipykernel's names: `'ipykernel.zmqshell' in sys.modules` (tqdm), the name and module of
the shell's class (rich, plotly, pandas) and of the stream's (click, loguru), `ipykernel.comm.Comm` (bokeh, panel),
`ipykernel.get_connection_file()` (wandb). ipykernel's own code could answer none of them about this kernel.

A stand-in is an empty module. It looks a name up in the table below when somebody asks for it. The modules of a real
ipykernel that have no stand-in (`ipykernel.kernelspec`, say) are found beside them, and so are the names in REAL.
Nothing is written to the disk and nothing inherited: other processes see the real ipykernel, or none.
IPYMINI_IPYKERNEL=0 turns all this off.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from traitlets.config.application import Application

import ipymini

VERSION = (7, 4, 0)  # of the ipykernel whose names these are: VS Code and ipywidgets ask for it
CONSTANTS = {
    "__version__": ".".join(map(str, VERSION)),
    "version_info": VERSION,
    "kernel_protocol_version_info": (5, 3),
    "kernel_protocol_version": "5.3",
}
CONNECT = ": connect_qtconsole get_connection_file get_connection_info"

# Module: modules of ours that its names come from, or the package itself; `inspect` looks for source in the first.
TABLE = {
    "ipykernel": [CONNECT],
    "ipykernel._version": [],
    "ipykernel.zmqshell": [
        "ipython.shell: ZMQInteractiveShell",
        "ipython.display: ZMQDisplayPublisher",
        "ipython.magics: KernelMagics",
    ],
    "ipykernel.iostream": ["frontend.streams: OutStream"],
    "ipykernel.displayhook": ["ipython.display: ZMQShellDisplayHook"],
    "ipykernel.ipkernel": ["compat.facade: IPythonKernel"],
    "ipykernel.kernelbase": ["compat.facade: Kernel"],
    "ipykernel.kernelapp": ["ipython.application: IPKernelApp launch_new_instance"],
    "ipykernel.connect": [CONNECT],
    "ipykernel.comm": ["compat.ipykernel_classes: Comm", "ipython.comms: CommManager=Comms"],
    "ipykernel.comm.comm": ["compat.ipykernel_classes: BaseComm Comm"],
    "ipykernel.comm.manager": ["ipython.comms: CommManager=Comms"],
    "ipykernel.jsonutil": ["compat.ipykernel_classes: encode_images json_clean"],
    "ipykernel.embed": [": embed_kernel"],
}
PACKAGES = {"ipykernel", "ipykernel.comm"}
AT_START = ("ipykernel.zmqshell", "ipykernel.iostream", "ipykernel.ipkernel")  # they hold the renamed classes
REAL = {  # what only ipykernel's own modules have: ipyparallel's engines and ipykernel.inprocess import it
    "ipykernel.iostream": {"BackgroundSocket", "IOPubThread"},
    "ipykernel.connect": {"write_connection_file"},
    "ipykernel.displayhook": {"ZMQDisplayHook"},
    "ipykernel.kernelapp": {"kernel_aliases", "kernel_flags"},
    "ipykernel.embed": {"embed_kernel"},
}


class StandIn(ModuleType):
    """A module whose names are found when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):  # those are looked up by Python itself, on every module
            module = self.__name__
            if f"{module}.{name}" in TABLE:
                return import_module(f"{module}.{name}")
            if (found := _found(module, name)) is not None:
                setattr(self, name, found)
                return found
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r}: in this process it is ipymini's; "
            "IPYMINI_IPYKERNEL=0 leaves the name to ipykernel's own"
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


def _names(module: str) -> dict[str, tuple[str, str]]:
    """Return which module of ours a module's names come from, and how they are called there."""
    names = {}
    for row in TABLE[module]:
        place, _, listed = row.partition(": ")
        for one in listed.split():
            name, _, ours = one.partition("=")
            names[name] = (f"ipymini.{place}".rstrip("."), ours or name)
    return names


def _found(module: str, name: str) -> Any:
    place, ours = _names(module).get(name, ("", name))
    found = getattr(import_module(place), ours, None) if place else None
    if found is None and name in REAL.get(module, ()):
        found = getattr(_real(module), name, None)
    return found


def _real(module: str) -> Any:
    """Return ipykernel's own module, under no name in `sys.modules`; None if ipykernel is not installed."""
    parent = module.rpartition(".")[0]
    spec = FINDER.beyond(module, sys.modules[parent].__path__)
    if spec is None or spec.loader is None:
        return None
    real = ModuleType(module)
    real.__spec__, real.__file__, real.__package__ = spec, spec.origin, parent
    spec.loader.exec_module(real)
    return real


class Finder:
    """Finds the stand-ins; both finder and loader, as `importlib` calls them."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a stand-in."""
        if not name.startswith("ipykernel") or name not in TABLE:
            return None
        ours = TABLE[name][0].partition(":")[0] if TABLE[name] and name not in PACKAGES else "compat.ipykernel_names"
        origin = os.path.join(*ipymini.__path__, *(ours or "__init__").split(".")) + ".py"
        spec = ModuleSpec(name, self, origin=origin, is_package=name in PACKAGES)  # type: ignore[arg-type]
        spec.has_location = True
        spec.cached = None
        if name in PACKAGES:
            real = self.beyond(name, path)
            spec.submodule_search_locations = list((real and real.submodule_search_locations) or [])
        return spec

    def beyond(self, name: str, path: Sequence[str] | None = None) -> ModuleSpec | None:
        """Return the spec of the module that this one stands in for."""
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                if (spec := finder.find_spec(name, path)) is not None:
                    return spec
        return None

    def create_module(self, spec: ModuleSpec) -> StandIn:
        """Return an empty module."""
        return StandIn(spec.name, f"ipymini's stand-in for {spec.name}: see ipymini/compat/ipykernel_names.py.")

    def exec_module(self, module: ModuleType) -> None:
        """Put in what every stand-in has from the beginning."""
        module.__dict__["__ipymini__"] = ipymini.__version__
        module.__dict__["__all__"] = list(_names(module.__name__))
        if module.__name__ in ("ipykernel", "ipykernel._version"):
            module.__dict__.update(CONSTANTS)


FINDER = Finder()


class _OnDemand:
    """Stands where traitlets keeps the process's application, and makes it when it is looked for: that takes 5 ms."""

    def __get__(self, nobody: None, kind: type[Application]) -> Any:
        try:
            from ipymini.ipython.application import IPKernelApp
        except ImportError:  # it is being imported: traitlets looks at every attribute of a class that it makes
            return None
        if vars(Application)["_instance"] is self:
            Application._instance = None
            IPKernelApp.instance()
        return kind._instance


def _name_application() -> Callable[[], None]:
    """Let `Application.instance()` return an IPKernelApp; return the undo."""
    if Application.initialized():
        return lambda: None  # it is the embedding program's
    Application._instance = _OnDemand()  # type: ignore[assignment]

    def undo() -> None:
        if isinstance(vars(Application)["_instance"], _OnDemand):
            Application._instance = None
        elif isinstance(Application._instance, sys.modules["ipymini.ipython.application"].IPKernelApp):
            type(Application._instance).clear_instance()

    return undo


def install() -> Callable[[], None]:
    """Let `import ipykernel` find the stand-ins, and our classes name them as their modules; return the undo."""
    if os.environ.get("IPYMINI_IPYKERNEL") == "0":
        return lambda: None
    before = {name: sys.modules.pop(name) for name in TABLE if name in sys.modules}
    sys.meta_path.insert(0, FINDER)
    renamed: list[tuple[Any, str]] = []
    for module in AT_START:
        standin = import_module(module)
        for name, (place, _) in _names(module).items():
            if place in sys.modules:
                found = getattr(standin, name)
                renamed.append((found, found.__module__))
                found.__module__ = module
    forget_application = _name_application()

    def undo() -> None:
        for kind, module in renamed:
            kind.__module__ = module
        sys.meta_path.remove(FINDER)
        for name in TABLE:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        forget_application()

    return undo
