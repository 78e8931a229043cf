"""Installing: kernelspecs by `python -m ipymini install`, and what pip puts into a fresh environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipymini import __version__
from ipymini.tools import kernelspec

REPO = Path(__file__).resolve().parents[2]
SHIPPED = REPO / "share" / "jupyter" / "kernels" / "ipymini"
FILES = ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A user directory of its own, and no other place in which Jupyter would look."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("JUPYTER_PATH", "")
    monkeypatch.setattr("jupyter_core.paths.SYSTEM_JUPYTER_PATH", [str(tmp_path / "system")])
    monkeypatch.setattr("jupyter_core.paths.ENV_JUPYTER_PATH", [str(tmp_path / "env")])
    return tmp_path


def spec_in(directory):
    return json.loads((directory / "kernel.json").read_text())


def test_the_shipped_kernelspec_is_the_one_the_program_describes():
    assert spec_in(SHIPPED) == kernelspec.make_spec()


def test_the_shipped_kernelspec_has_logos_of_the_sizes_they_are_named_after():
    for size in (32, 64):
        png = (SHIPPED / f"logo-{size}x{size}.png").read_bytes()
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (size, size)
    assert (SHIPPED / "logo-svg.svg").read_text().startswith("<svg ")


def test_install_into_a_prefix_writes_a_whole_kernelspec(places, capsys):
    code = kernelspec.run(["install", "--prefix", str(places / "there")])

    directory = places / "there" / "share" / "jupyter" / "kernels" / "ipymini"
    assert code == 0
    assert sorted(file.name for file in directory.iterdir()) == FILES
    assert spec_in(directory) == kernelspec.make_spec(python=sys.executable)
    assert capsys.readouterr().out.splitlines() == [
        f"Installed kernelspec ipymini in {directory}",
        f"Jupyter does not look there by itself: set JUPYTER_PATH={places / 'there' / 'share' / 'jupyter'}",
    ]
    assert list(directory.parent.iterdir()) == [directory]  # nothing staged is left


def test_install_for_the_user_takes_name_display_name_environment_and_profile(places):
    code = kernelspec.run(
        ["install", "--user", "--name", "Mini2", "--display-name", "Mini, two", "--profile", "work"]
        + ["--env", "A", "1", "--env", "B", "two words"]
    )

    spec = spec_in(places / "user" / "kernels" / "mini2")
    assert code == 0
    assert spec["argv"] == [sys.executable, "-P", "-m", "ipymini", "-f", "{connection_file}", "--profile", "work"]
    assert spec["display_name"] == "Mini, two"
    assert spec["env"] == {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "A": "1", "B": "two words"}


@pytest.mark.parametrize(
    "options, display_name",
    [
        ([], "Python 3 (ipymini)"),
        (["--name", "mini"], "mini"),
        (["--profile", "work"], "Python 3 (ipymini) [profile=work]"),
    ],
)
def test_a_display_name_that_is_not_given_is_made_of_what_is(places, options, display_name):
    kernelspec.run(["install", "--user", *options])

    [(_, _, spec)] = kernelspec.find_specs([places / "user" / "kernels"])
    assert spec["display_name"] == display_name


@pytest.mark.parametrize("option, place", [("--user", "user"), (None, "system")])
def test_install_goes_where_the_option_says_and_without_one_system_wide(places, option, place):
    code = kernelspec.run(["install", *([option] if option else [])])

    assert code == 0
    assert (places / place / "kernels" / "ipymini" / "kernel.json").exists()


def test_install_with_sys_prefix_goes_into_the_running_environment(places, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(places / "venv"))

    code = kernelspec.run(["install", "--sys-prefix"])

    assert code == 0
    assert (places / "venv" / "share" / "jupyter" / "kernels" / "ipymini" / "kernel.json").exists()


def test_install_replaces_what_is_there_and_a_link_without_following_it(places):
    kernels, elsewhere = places / "user" / "kernels", places / "elsewhere"
    kernelspec.run(["install", "--user"])
    (kernels / "ipymini" / "old").touch()
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (kernels / "linked").symlink_to(elsewhere)

    codes = [kernelspec.run(["install", "--user"]), kernelspec.run(["install", "--user", "--name", "linked"])]

    assert codes == [0, 0]
    assert sorted(file.name for file in (kernels / "ipymini").iterdir()) == FILES
    assert sorted(file.name for file in (kernels / "linked").iterdir()) == FILES
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("name", ["", "a b", "../up", "ü"])
def test_a_name_that_jupyter_would_not_find_is_refused(places, capsys, name):
    code = kernelspec.run(["install", "--user", "--name", name])

    assert code == 1
    assert capsys.readouterr().err == (
        f"ipymini: a kernel's name has letters, digits, '.', '_' and '-' only, not {name!r}\n"
    )


def test_a_denied_write_gives_a_hint_and_no_traceback(places, capsys, monkeypatch):
    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(places / "system"))

    monkeypatch.setattr(Path, "mkdir", deny)

    code = kernelspec.run(["install"])

    assert code == 1
    assert capsys.readouterr().err == (
        f"ipymini: cannot write {places / 'system'}: permission denied; "
        "use --user, or --sys-prefix for the environment that runs this\n"
    )


def test_list_shows_our_kernelspecs_in_jupyters_order_and_no_others(places, capsys):
    other = places / "user" / "kernels" / "other"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["python", "-m", "another"]}')
    (places / "user" / "kernels" / "broken").mkdir()
    (places / "user" / "kernels" / "broken" / "kernel.json").write_text("{")
    kernelspec.run(["install"])
    kernelspec.run(["install", "--user", "--name", "mine"])
    capsys.readouterr()

    code = kernelspec.run(["list"])

    assert code == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["mine", str(places / "user" / "kernels" / "mine")],
        ["ipymini", str(places / "system" / "kernels" / "ipymini")],
    ]


def test_list_without_any_says_how_to_make_one(places, capsys):
    code = kernelspec.run(["list"])

    assert code == 0
    assert "python -m ipymini install --user" in capsys.readouterr().out


def test_uninstall_removes_the_kernelspec_that_jupyter_would_take(places):
    kernelspec.run(["install"])
    kernelspec.run(["install", "--user"])

    code = kernelspec.run(["uninstall"])

    assert code == 0
    assert not (places / "user" / "kernels" / "ipymini").exists()
    assert (places / "system" / "kernels" / "ipymini").exists()


def test_uninstall_leaves_other_kernels_alone(places, capsys):
    other = places / "user" / "kernels" / "other"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["python", "-m", "another"]}')

    codes = [
        kernelspec.run(["uninstall", "--user", "--name", "other"]),
        kernelspec.run(["uninstall", "--user", "--name", "nowhere"]),
        kernelspec.run(["uninstall", "--name", "nowhere"]),
    ]

    assert codes == [1, 1, 1]
    assert other.exists()
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("does not start ipymini (argv: ['python', '-m', 'another']); left alone")
    assert "no kernelspec at" in said[1]
    assert "no kernelspec named 'nowhere'" in said[2]


def test_an_unknown_option_is_an_error(places, capsys):
    with pytest.raises(SystemExit) as ended:
        kernelspec.run(["install", "--usr-prefix"])

    assert ended.value.code == 2
    assert "unrecognized arguments: --usr-prefix" in capsys.readouterr().err


def test_the_command_line_installs_lists_and_uninstalls(tmp_path):
    env = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "user"), "JUPYTER_PATH": str(tmp_path / "path")}

    def ipymini(*argv):
        done = subprocess.run(
            [sys.executable, "-m", "ipymini", *argv], env=env, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    installed = ipymini("install", "--user", "--name", "byhand")
    listed = ipymini("list")
    uninstalled = ipymini("uninstall", "--user", "byhand")

    directory = tmp_path / "user" / "kernels" / "byhand"
    assert installed == (0, f"Installed kernelspec byhand in {directory}\n")
    assert f"{'byhand':20} {directory}  ({sys.executable})" in listed[1].splitlines()
    assert uninstalled == (0, f"Removed kernelspec byhand from {directory}\n")
    assert not directory.exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this tree, built as a user's pip would build it."""
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(built), str(REPO)]
    subprocess.run(command, check=True, timeout=300)
    [path] = built.glob("*.whl")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wheel", "directory", "editable"])
def test_pip_puts_the_kernelspec_into_a_fresh_environment(how, tmp_path, request):
    # given: an empty environment; dependencies are not the question, so they stay outside
    what = {"wheel": lambda: [str(request.getfixturevalue("wheel"))], "directory": lambda: [str(REPO)]}.get(
        how, lambda: ["-e", str(REPO)]
    )()
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    kernels = venv / "share" / "jupyter" / "kernels"

    # when
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *what], check=True, timeout=300, cwd=tmp_path)

    # then
    assert sorted(file.name for file in (kernels / "ipymini").iterdir()) == FILES
    assert spec_in(kernels / "ipymini") == spec_in(SHIPPED)
    imported = [python, "-c", "import ipymini; print(ipymini.__version__, ipymini.__file__)"]
    version, path = subprocess.check_output(imported, text=True, timeout=60, cwd=tmp_path).split()
    assert version == __version__
    assert Path(path).is_relative_to(REPO if how == "editable" else venv)

    # and: what is installed finds its logos without the source tree
    find = "from ipymini.tools import kernelspec; print(*sorted(logo.name for logo in kernelspec.find_logos()))"
    assert subprocess.check_output([python, "-c", find], text=True, timeout=60, cwd=tmp_path).split() == FILES[1:]

    # and: pip takes away what it brought
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "ipymini"], check=True, timeout=120, cwd=tmp_path)
    assert not (kernels / "ipymini").exists()


@pytest.mark.slow
@pytest.mark.parametrize("beside", [[], ["ipykernel"]], ids=["alone", "beside ipykernel"])
def test_a_fresh_environment_runs_cells_with_and_without_ipykernel(beside, wheel, tmp_path):
    # given: what `pip install` brings, and nothing else
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    python = str(venv / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel), *beside], check=True, timeout=600, cwd=tmp_path)
    there = subprocess.run([python, "-c", "import ipykernel"], capture_output=True, timeout=60, cwd=tmp_path)
    assert (there.returncode == 0) == bool(beside)

    # when
    program = """if True:
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="ipymini", startup_timeout=60)
        def say(message):
            if message["msg_type"] == "stream":
                print(message["content"]["text"], end="")
        code = "import ipykernel, sys; print(ipykernel.__ipymini__, isinstance(sys.stdout, ipykernel.iostream.OutStream))"
        try:
            print(client.execute_interactive(code, timeout=60, output_hook=say)["content"]["status"])
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    """
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "JUPYTER_PATH")}
    env |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    said = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=180, cwd=tmp_path, env=env)

    # then
    assert (said.stdout.split(), said.returncode) == ([__version__, "True", "ok"], 0), said.stderr
