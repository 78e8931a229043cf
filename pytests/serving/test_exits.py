"""`sys.exit()` in code that a cell left behind, and errors that nobody can show: each is the error of its own request."""

from typing import Any

import pytest
from harness import KernelUnderTest

HELPERS = """
import sys
class Silent(Exception):
    def __str__(self): raise SystemExit(3)
    __repr__ = __str__
class Closed(Exception):
    def __getattribute__(self, name): raise SystemExit(4)
class Rude(Exception):
    def __getattribute__(self, name): raise ValueError('no')
class Nameless(type):
    __name__ = property(lambda kind: sys.exit(5))
class Unnamed(Exception, metaclass=Nameless): pass
class Caused(Exception):
    __cause__ = property(lambda self: sys.exit(6))
class Noted(Exception):
    __notes__ = property(lambda self: sys.exit(7))
class Rendered(Exception):
    def _render_traceback_(self): sys.exit(8)
class Objects(Exception):
    def _render_traceback_(self): return ['one', object]
class Odd(Exception):
    __class__ = 5
class BadSyntax(SyntaxError):
    def __str__(self): raise SystemExit(9)
class Exits:
    def __repr__(self): sys.exit(10)
class Unsendable:
    def _repr_mimebundle_(self, include=None, exclude=None): return {'text/x': object()}
"""
NO_TEXT = "<an error whose text could not be made>"


@pytest.fixture
def helpers(kernel: KernelUnderTest) -> KernelUnderTest:
    assert kernel.execute(HELPERS)[1] == []
    return kernel


@pytest.mark.parametrize(
    ("code", "ename", "evalue"),
    [
        ("raise Silent", "Silent", NO_TEXT),
        ("raise ValueError(Silent())", "ValueError", NO_TEXT),
        ("raise SystemExit(Silent())", "SystemExit", NO_TEXT),
        ("raise ExceptionGroup('both', [Silent(), Closed()])", "ExceptionGroup", "both (2 sub-exceptions)"),
        ("raise Closed", "Closed", ""),
        ("raise Rude", "Rude", ""),
        ("raise Unnamed('x')", "Unnamed", "x"),
        ("raise Caused('x')", "Caused", "x"),
        ("raise Noted('x')", "Noted", "x"),
        ("raise Rendered('x')", "Rendered", "x"),
        ("raise Objects('x')", "Objects", "x"),
        ("raise Odd('x')", "Odd", "x"),
        ("raise BadSyntax", "BadSyntax", NO_TEXT),
        ("await __import__('asyncio').sleep(0); raise Closed", "Closed", ""),
        ("from IPython.core.error import UsageError; raise UsageError(Silent())", "UsageError", NO_TEXT),
        ("Exits()", "SystemExit", "10"),
        ("[Exits()]", "SystemExit", "10"),
        ("display(Exits())", "SystemExit", "10"),
    ],
)
def test_an_error_that_cannot_be_shown_is_the_cells(
    helpers: KernelUnderTest, code: str, ename: str, evalue: str
) -> None:
    reply, said = helpers.execute(code)

    assert (reply["status"], reply["ename"], reply["evalue"]) == ("error", ename, evalue)
    assert f"error:{ename}:{evalue}" in said
    assert all(isinstance(line, str) for line in reply["traceback"]) and reply["traceback"]


@pytest.mark.parametrize(
    ("expression", "ename", "evalue"),
    [
        ("sys.exit(1)", "SystemExit", "1"),
        ("Exits()", "SystemExit", "10"),
        ("(_ for _ in ()).throw(Silent)", "Silent", NO_TEXT),
        ("(_ for _ in ()).throw(Closed)", "Closed", ""),
        ("(_ for _ in ()).throw(Unnamed('x'))", "Unnamed", "x"),
        ("(_ for _ in ()).throw(GeneratorExit('x'))", "GeneratorExit", "x"),
    ],
)
def test_what_ends_an_expression_is_that_expressions_error(
    helpers: KernelUnderTest, expression: str, ename: str, evalue: str
) -> None:
    reply, said = helpers.execute("1", user_expressions={"bad": expression, "good": "6 * 7"})

    assert (reply["status"], said) == ("ok", ["execute_result:1"])
    bad, good = reply["user_expressions"]["bad"], reply["user_expressions"]["good"]
    assert (bad["status"], bad["ename"], bad["evalue"]) == ("error", ename, evalue)
    assert good == {"status": "ok", "data": {"text/plain": "42"}, "metadata": {}}


def test_an_expression_whose_value_cannot_be_sent_is_an_error(helpers: KernelUnderTest) -> None:
    reply, said = helpers.execute("1", user_expressions={"bad": "Unsendable()", "good": "6 * 7"})

    assert (reply["status"], said) == ("ok", ["execute_result:1"])
    bad, good = reply["user_expressions"]["bad"], reply["user_expressions"]["good"]
    wanted = "expected something that JSON can hold, a object came: convert it first"
    assert (bad["status"], bad["ename"], bad["evalue"]) == ("error", "TypeError", wanted)
    assert good == {"status": "ok", "data": {"text/plain": "42"}, "metadata": {}}


def test_a_next_input_that_is_no_text_is_the_cells_error(kernel: KernelUnderTest) -> None:
    reply, said = kernel.execute("get_ipython().set_next_input(object())")

    wanted = "expected the code of a cell as a str, a object came: convert it first"
    assert (reply["ename"], reply["evalue"], said) == ("TypeError", wanted, [f"error:TypeError:{wanted}"])


@pytest.mark.parametrize("event", ["pre_execute", "pre_run_cell", "post_run_cell", "post_execute"])
def test_an_exit_in_a_hook_is_shown_and_the_cell_runs(helpers: KernelUnderTest, event: str) -> None:
    """As with any error of a hook; a hook that kept every cell from running could not be taken away again."""
    helpers.execute(f"def hook(*about): sys.exit(1)\nget_ipython().events.register({event!r}, hook)")

    reply, said = helpers.execute("6 * 7")

    assert reply["status"] == "ok"
    assert "error:SystemExit:1" in said and "execute_result:42" in said
    helpers.execute(f"get_ipython().events.unregister({event!r}, hook)")
    assert helpers.execute("6 * 7")[1] == ["execute_result:42"]


@pytest.mark.parametrize(
    ("prepare", "code", "undo"),
    [
        (
            "def leave(lines):\n    if lines[0].startswith('leave!'): sys.exit(1)\n    return lines\n"
            "get_ipython().input_transformers_post.append(leave)",
            "leave!",
            "get_ipython().input_transformers_post.remove(leave)",
        ),
        (
            "import ast\nclass Leaves(ast.NodeTransformer):\n    def visit_Name(self, node):\n"
            "        return sys.exit(1) if node.id == 'leave' else node\nget_ipython().ast_transformers.append(Leaves())",
            "leave",
            "get_ipython().ast_transformers.clear()",
        ),
        (
            "from IPython.core.magic import register_cell_magic\n"
            "@register_cell_magic\ndef leave(line, cell): sys.exit(1)",
            "%%leave\nnow",
            "",
        ),
        ("", "def hook(shown): sys.exit(1)\nsys.displayhook = hook\n5", ""),
        (
            "",
            "def hook(text): sys.exit(1)\nsys.stdout.register_hook(hook); print()",
            "sys.stdout.unregister_hook(hook)",
        ),
    ],
)
def test_an_exit_in_what_a_cell_goes_through_is_the_cells_error(
    helpers: KernelUnderTest, prepare: str, code: str, undo: str
) -> None:
    helpers.execute(prepare)

    reply, said = helpers.execute(code)

    assert (reply["ename"], reply["evalue"]) == ("SystemExit", "1")
    assert "error:SystemExit:1" in said
    assert helpers.execute(undo)[0]["status"] == "ok"


def test_an_exit_in_a_custom_handler_fails_the_cell_alone(helpers: KernelUnderTest) -> None:
    helpers.execute("get_ipython().set_custom_exc((ZeroDivisionError,), lambda *about, **more: sys.exit(1))")

    first, second = helpers.execute("1/0"), helpers.execute("1/0")

    assert (first[0]["ename"], first[1][0]) == (
        "ZeroDivisionError",
        "stderr:Custom TB Handler failed, unregistering\n",
    )
    assert (second[0]["ename"], second[1]) == ("ZeroDivisionError", ["error:ZeroDivisionError:division by zero"])


@pytest.mark.parametrize("kind", ["comm_open", "comm_msg", "comm_close"])
def test_an_exit_in_a_comms_callback_is_said_and_the_kernel_lives(helpers: KernelUnderTest, kind: str) -> None:
    helpers.execute(
        "import comm\ndef leave(*about): sys.exit(1)\nleaving = comm.create_comm(target_name='t', comm_id='leaving')\n"
        "leaving.on_msg(leave); leaving.on_close(leave); comm.get_comm_manager().register_target('leaves', leave)"
    )
    content: dict[str, Any] = {"comm_id": "leaving", "data": {}}
    if kind == "comm_open":
        content = {"comm_id": "new", "target_name": "leaves", "data": {}}

    said = helpers.outputs(helpers.send(kind, **content))

    assert (said[0], said[-1]) == ("status:busy", "status:idle")
    assert said[1].startswith("stderr:Exception in ") and "SystemExit: 1" in said[1]
    assert "new" not in helpers.reply(helpers.send("comm_info_request"))["comms"]
    assert said[2:-1] == (["comm_close"] if kind == "comm_open" else [])
