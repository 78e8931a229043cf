"""kernelspec: install, list and uninstall ipymini's kernelspecs. Starts no kernel.

`pip install` already puts a kernelspec into the environment (`share/jupyter/kernels/ipymini`). This module is for
everything else: another environment's Jupyter, a second name, environment variables, an IPython profile.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipymini.protocol.messages import PROTOCOL_VERSION, IpyminiError

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpecManager

NAME = "ipymini"
DISPLAY_NAME = "Python 3 (ipymini)"
LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")

Spec = dict[str, Any]


class KernelspecProblem(IpyminiError):
    """A kernelspec cannot be written or removed; the text says why and what to do."""


def make_spec(
    *,
    python: str = "python",
    display_name: str = DISPLAY_NAME,
    profile: str | None = None,
    env: dict[str, str] | None = None,
) -> Spec:
    """Return the content of a kernel.json. Spec: "Kernel specs".

    As `python` the shipped one says "python", which Jupyter replaces by its own interpreter; a kernelspec that
    is read by another environment's Jupyter has to name the interpreter in full.
    """
    options = ["--profile", profile] if profile else []
    return {
        # -P: a random.py beside a notebook must not become Python's while it starts; see `import_guard`.
        "argv": [python, "-P", "-m", "ipymini", "-f", "{connection_file}", *options],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": "signal",
        "kernel_protocol_version": PROTOCOL_VERSION,
        # debugpy warns on stderr about the standard library's frozen modules, which nobody can act upon.
        "env": {"PYDEVD_DISABLE_FILE_VALIDATION": "1", **(env or {})},
        "metadata": {"debugger": True, "supported_encryption": ["curve"]},
    }


def manager(*kernels: Path) -> "KernelSpecManager":
    """Return Jupyter's own manager of the kernelspecs in these directories."""
    from jupyter_client.kernelspec import KernelSpecManager

    places = [str(place) for place in kernels]
    return KernelSpecManager(kernel_dirs=places, user_kernel_dir=places[0], ensure_native_kernel=False)


def install(kernels: Path, name: str, spec: Spec) -> Path:
    """Write `spec` and the logos to `kernels`/`name`, replace what is there, and return that directory."""
    if not re.fullmatch(r"[a-z0-9._-]+", name):
        raise KernelspecProblem(f"a kernel's name has letters, digits, '.', '_' and '-' only, not {name!r}")
    directory = kernels / name
    try:
        with tempfile.TemporaryDirectory() as place:
            source = Path(place, name)  # with the usual permissions, which are copied; `place` has none for others
            source.mkdir()
            for logo in find_logos():
                shutil.copyfile(logo, source / logo.name)
            (source / "kernel.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
            if directory.is_symlink():
                directory.unlink()  # the manager would refuse to replace a link
            manager(kernels).install_kernel_spec(str(source), name, user=True)
    except PermissionError as error:
        raise KernelspecProblem(
            f"cannot write {error.filename or directory}: permission denied; "
            "use --user, or --sys-prefix for the environment that runs this"
        ) from error
    except OSError as error:
        raise KernelspecProblem(f"cannot write {directory}: {error}") from error
    return directory


def uninstall(directory: Path) -> None:
    """Remove one kernelspec, if it is one of ours."""
    specs, name = manager(directory.parent), directory.name
    try:
        spec = specs.get_kernel_spec(name).to_dict()
        if not is_ours(spec):
            raise KernelspecProblem(f"{directory} does not start ipymini (argv: {spec['argv']}); left alone")
        specs.remove_kernel_spec(name)
    except KeyError as error:
        raise KernelspecProblem(
            f"no kernelspec at {directory}; `python -m ipymini list` shows what there is"
        ) from error
    except PermissionError as error:
        raise KernelspecProblem(f"cannot remove {directory}: permission denied") from error


def find_specs(roots: list[Path]) -> Iterator[tuple[str, Path, Spec]]:
    """Yield (name, directory, spec) of each of our kernelspecs, in the order in which Jupyter looks for them."""
    for root in roots:
        for name, found in sorted(manager(root).get_all_specs().items()):
            if is_ours(found["spec"]):
                yield name, Path(found["resource_dir"]), found["spec"]


def others(roots: list[Path], name: str) -> Iterator[tuple[str, Path, list[str]]]:
    """Yield (name, directory, argv) of the kernelspec that Jupyter finds under a name, if it is not ours."""
    found = manager(*roots).get_all_specs().get(name)
    if found is not None and not is_ours(found["spec"]):
        yield name, Path(found["resource_dir"]), found["spec"]["argv"]


def is_ours(spec: Spec) -> bool:
    """Say whether a kernelspec starts ipymini."""
    return ("-m", "ipymini") in pairwise(spec["argv"])


def find_logos() -> list[Path]:
    """Return the logos, from the source tree or from where pip put them; empty if somebody removed them."""
    beside = Path(__file__).resolve().parents[2] / "share" / "jupyter" / "kernels" / NAME
    found = [beside / logo for logo in LOGOS]
    if not found[0].exists():
        try:
            shipped = metadata.files("ipymini") or []
        except metadata.PackageNotFoundError:  # run from a copied directory, not installed
            shipped = []
        found = [Path(str(file.locate())) for file in shipped if file.name in LOGOS and file.parent.name == NAME]
    return [logo for logo in found if logo.exists()]


def run(argv: list[str]) -> int:
    """Do what `python -m ipymini install|list|uninstall ...` asks for; return the process's exit code."""
    options = _parser().parse_args(argv)
    try:
        return int(options.do(options))
    except KernelspecProblem as problem:
        print(f"ipymini: {problem}", file=sys.stderr)
        return 1


def _install(options: argparse.Namespace) -> int:
    """Install a kernelspec for the interpreter that runs this, and say where it went."""
    name = options.name.lower()  # Jupyter looks names up in lower case
    display_name = options.display_name or (DISPLAY_NAME if name == NAME else options.name)
    if options.profile and not options.display_name:
        display_name += f" [profile={options.profile}]"
    env = dict(options.env)
    spec = make_spec(python=sys.executable, display_name=display_name, profile=options.profile, env=env)
    directory = install(_place(options), name, spec)
    print(f"Installed kernelspec {name} in {directory}")
    if not find_logos():
        print("ipymini: found no logos to install; frontends will show a letter instead", file=sys.stderr)
    if directory.parent not in roots():
        print(f"Jupyter does not look there by itself: set JUPYTER_PATH={directory.parent.parent}")
    return 0


def _list(options: argparse.Namespace) -> int:
    """Print name, directory and interpreter of each of our kernelspecs, the one that Jupyter takes first."""
    rows = [(name, str(directory), spec["argv"][0]) for name, directory, spec in find_specs(roots())]
    for name, directory, python in rows:
        print(f"{name:20} {directory}  ({python})")
    if not rows:
        print("No kernelspec of ipymini is where Jupyter looks; `python -m ipymini install --user` makes one")
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    """Remove a kernelspec: from the place that is named, or else the one that Jupyter would take."""
    name = options.name.lower()
    if options.user or options.prefix:
        directory = _place(options) / name
    else:
        found = [directory for other, directory, _ in find_specs(roots()) if other == name]
        if not found:
            raise KernelspecProblem(f"no kernelspec named {name!r}; `python -m ipymini list` shows what there is")
        directory = found[0]
    uninstall(directory)
    print(f"Removed kernelspec {name} from {directory}")
    return 0


def _place(options: argparse.Namespace) -> Path:
    """Return the `kernels` directory that --user, --sys-prefix or --prefix names; without one, the system's."""
    from jupyter_core.paths import SYSTEM_JUPYTER_PATH, jupyter_data_dir

    if options.user:
        data = jupyter_data_dir()
    elif options.prefix:
        data = os.path.join(os.path.abspath(os.path.expanduser(options.prefix)), "share", "jupyter")
    else:
        data = SYSTEM_JUPYTER_PATH[0]
    return Path(data) / "kernels"


def roots() -> list[Path]:
    """Return the directories in which Jupyter looks for kernelspecs, first come first."""
    from jupyter_core.paths import jupyter_path

    return [Path(path) for path in jupyter_path("kernels")]


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the sub-commands; the option names are those of `python -m ipykernel install`."""
    parser = argparse.ArgumentParser(prog="python -m ipymini", description="Install, list and uninstall kernelspecs.")
    commands = parser.add_subparsers(required=True, metavar="install | list | uninstall")

    place = argparse.ArgumentParser(add_help=False)
    where = place.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for the current user, in any environment")
    where.add_argument(
        "--sys-prefix", action="store_const", const=sys.prefix, dest="prefix", help="for this environment: %(const)s"
    )
    where.add_argument("--prefix", metavar="P", help="for the environment at P: P/share/jupyter/kernels")
    place.add_argument("--name", default=NAME, help="the kernel's name on command lines (default: %(default)s)")

    adding = commands.add_parser("install", parents=[place], help="write a kernelspec; without a place: system-wide")
    adding.add_argument("--display-name", metavar="D", help="how frontends call it")
    adding.add_argument("--profile", metavar="P", help="the IPython profile to start with")
    adding.add_argument(
        "--env", nargs=2, action="append", default=[], metavar=("K", "V"), help="an environment variable; repeatable"
    )
    adding.add_argument("--frozen_modules", "--frozen-modules", action="store_true", help="accepted; the default")
    adding.set_defaults(do=_install)

    commands.add_parser("list", help="show the kernelspecs of ipymini that Jupyter finds").set_defaults(do=_list)

    removing = commands.add_parser("uninstall", parents=[place], help="remove a kernelspec of ipymini")
    removing.add_argument("name", nargs="?", default=argparse.SUPPRESS, metavar="NAME", help="the same as --name")
    removing.set_defaults(do=_uninstall)
    return parser
