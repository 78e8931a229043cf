"""Variables, values and expressions: of the namespace, and of a stopped frame."""

import pytest
from debug_client import FUNCTION, Client


def test_the_namespace_can_be_looked_at_without_a_session(kernel):
    client = Client(kernel)
    kernel.execute("looked = {'a': [1, 2], 'b': None}\ndef a_function(): pass\nclass AClass: pass\n")

    shown = {variable["name"]: variable for variable in client.ask("inspectVariables")["variables"]}

    assert shown["looked"]["value"] == "{'a': [1, 2], 'b': None}"
    assert shown["looked"]["type"] == "dict"
    assert not {"In", "Out", "get_ipython", "exit", "quit", "_", "_i", "_ih"} & set(shown)
    inside = client.ask("variables", variablesReference=shown["looked"]["variablesReference"])["variables"]
    assert [(one["name"], one["value"], one.get("evaluateName")) for one in inside] == [
        ("special variables", "", None),
        ("function variables", "", None),
        ("'a'", "[1, 2]", "looked['a']"),
        ("'b'", "None", "looked['b']"),
        ("len()", "2", "len(looked)"),
    ]
    functions = client.ask("variables", variablesReference=shown["function variables"]["variablesReference"])
    assert "a_function" in [one["name"] for one in functions["variables"]]
    paged = client.ask("variables", variablesReference=inside[2]["variablesReference"], start=1, count=1)
    assert [one["value"] for one in paged["variables"]] == ["2"]


@pytest.mark.parametrize(
    "error, text", [("ValueError", "<__main__.Bad object at "), ("SystemExit", "Unable to get repr for ")]
)
def test_a_repr_that_fails_is_no_trouble(kernel, error, text):
    client = Client(kernel)
    kernel.execute(f"class Bad:\n    def __repr__(self): raise {error}\nbad = Bad()\n")

    shown = {variable["name"]: variable["value"] for variable in client.ask("inspectVariables")["variables"]}

    assert shown["bad"].startswith(text)
    kernel.execute("del bad")


def test_a_variable_has_its_rich_form_without_a_session(kernel):
    client = Client(kernel)
    kernel.execute("class Rich:\n    def _repr_html_(self): return '<b>rich</b>'\nrich = Rich()\n")

    body = client.ask("richInspectVariables", variableName="rich")

    assert body["data"]["text/html"] == "<b>rich</b>"
    assert body["metadata"] == {}
    assert "identifier" in client.refused("richInspectVariables", variableName="rich()")
    assert client.answer("richInspectVariables", variableName="nobody")["body"] == {"data": {}, "metadata": {}}


def test_variables_of_a_frame(client):
    client.break_at(FUNCTION, 3)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]

    names = {}
    for scope in client.ask("scopes", frameId=frame)["scopes"]:
        found = client.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        names[scope["name"]] = {one["name"]: one["value"] for one in found}

    assert names["Locals"] == {"a": "1", "b": "2", "c": "3"}
    assert not {"In", "Out", "get_ipython", "exit", "quit", "_", "_i", "_oh", "_ih"} & set(names["Globals"])
    assert {"function variables", "special variables"} <= set(names["Globals"])  # ipykernel's test asks for both
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_values_can_be_changed_and_expressions_evaluated(client):
    client.break_at(FUNCTION, 3)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]
    scope = client.ask("scopes", frameId=frame)["scopes"][0]["variablesReference"]

    client.ask("setVariable", variablesReference=scope, name="c", value="40")
    client.ask("setExpression", expression="a", value="'text'", frameId=frame)

    assert client.value("(a, c)") == "('text', 40)"
    assert client.ask("evaluate", expression="b * 2", frameId=frame, context="hover")["result"] == "4"
    assert client.ask("evaluate", expression="extra = 7", frameId=frame, context="repl")["result"] == ""
    assert "NameError" in client.refused("evaluate", expression="nobody", frameId=frame, context="watch")
    labels = [one["label"] for one in client.ask("completions", frameId=frame, text="a.upp", column=6)["targets"]]
    assert labels == ["upper"]
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_long_lists_come_in_pages(client):
    code = "def long():\n    big = list(range(5000))\n    return 0\nlong()\n"
    client.break_at(code, 3)
    cell = client.run(code)
    client.stopped()
    scope = client.ask("scopes", frameId=client.frames()[0]["id"])["scopes"][0]["variablesReference"]
    [big] = client.ask("variables", variablesReference=scope)["variables"]

    page = client.ask("variables", variablesReference=big["variablesReference"], filter="indexed", start=4000, count=3)[
        "variables"
    ]

    assert [(one["name"], one["value"], one["evaluateName"]) for one in page] == [
        (str(number), str(number), f"big[{number}]") for number in (4000, 4001, 4002)
    ]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_an_expression_without_a_frame_is_the_users(client):
    client.kernel.execute("outside = [1, 2]")

    assert client.ask("evaluate", expression="outside", context="repl")["result"] == "[1, 2]"
    assert "ZeroDivisionError" in client.refused("evaluate", expression="1/0", context="repl")
    client.ask("evaluate", expression="outside = 5", context="repl")
    assert client.kernel.execute("outside")[1] == ["execute_result:5"]


def test_rich_view_and_copy_to_globals_while_stopped(client):
    code = "def show(inner):\n    return inner\nshow([1, 2])\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()
    frame = client.frames()[0]["id"]

    rich = client.ask("richInspectVariables", variableName="inner", frameId=frame)
    client.ask("copyToGlobals", srcVariableName="inner", dstVariableName="copied", srcFrameId=frame)

    assert rich == {"data": {"text/plain": "[1, 2]"}, "metadata": {}}
    assert client.answer("richInspectVariables", variableName="nobody", frameId=frame)["success"] is False
    assert client.refused("copyToGlobals", srcVariableName="nobody", dstVariableName="x", srcFrameId=frame)
    client.go_on()
    assert client.outcome(cell) == "ok"
    assert client.kernel.execute("copied")[1] == ["execute_result:[1, 2]"]
