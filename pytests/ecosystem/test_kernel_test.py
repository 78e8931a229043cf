"""Jupyter's own suite for kernels, jupyter_kernel_test, with every optional check turned on."""

import sys

import jupyter_kernel_test
import pytest

from ipymini.tools import kernelspec


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory):
    """A history and a kernelspec of our own."""
    home = tmp_path_factory.mktemp("home")
    kernelspec.install(home / "kernels", "ipymini", kernelspec.make_spec(python=sys.executable))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(home))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        yield


class TestKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "ipymini"
    language_name = "python"
    file_extension = ".py"

    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = (
        {"text": "zi", "matches": {"zip"}},
        {"text": "import itertools; itertools.perm", "matches": {"permutations"}},
        {"text": "%%tim", "matches": {"%%time", "%%timeit"}},
    )
    complete_code_samples = ("1", "print('hello, world')", "def f(x):\n    return x * 2\n\n", "await f()")
    incomplete_code_samples = ("print('''hello", "def f(x):", "for i in range(3):\n    pass", "[1,")
    invalid_code_samples = ("import = 7q", "1 +* 2", "x = )")
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('no')"
    code_execute_result = (
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "[n * n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {"code": "None or 'text'", "result": "'text'"},
    )
    code_display_data = (
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
        {"code": "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()", "mime": "image/png"},
    )
    code_history_pattern = "1 + 2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = "ipymini"
    support_iopub_welcome = True
