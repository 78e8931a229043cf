"""The debugger shows the user's objects: their own code may sleep, fail or exit, and is nobody else's trouble."""

import time

import pytest
from debug_client import Client, promptly

CELL = """import time
class Odd:
    def __repr__(self):
        {what}
        return 'odd'
    _repr_html_ = __repr__
def stop(inner):
    return inner
inner = Odd()
"""
SLEEPS = "print('asleep'); time.sleep(20)"

LOOKS = {
    "copied": ("copyToGlobals", {"srcVariableName": "inner", "dstVariableName": "copied", "srcFrameId": "FRAME"}),
    "rich": ("richInspectVariables", {"variableName": "inner"}),
    "rich in a frame": ("richInspectVariables", {"variableName": "inner", "frameId": "FRAME"}),
    "evaluated": ("evaluate", {"expression": "inner"}),
    "evaluated in a frame": ("evaluate", {"expression": "inner", "frameId": "FRAME"}),
    "listed": ("inspectVariables", {}),
    "listed in a frame": ("variables", {"variablesReference": "SCOPE"}),
}
REFUSED = {"rich", "rich in a frame"}  # the others say that there is no repr


def stop_with(client: Client, what: str) -> str:
    """Make an odd object, and stop in a function that has it; return the cell that is stopped."""
    code = CELL.format(what=what)
    client.kernel.execute(code)
    code += "stop(inner)"
    client.break_at(code, 8)
    cell = client.run(code)
    client.stopped()
    client.break_at(code)
    return cell


def look(client: Client, how: str) -> str:
    """Send one of the looks; return the request."""
    command, arguments = LOOKS[how]
    frame = client.frames()[0]["id"]
    scope = client.ask("scopes", frameId=frame)["scopes"][0]["variablesReference"]
    return client.send(
        command, **{key: {"FRAME": frame, "SCOPE": scope}.get(value, value) for key, value in arguments.items()}
    )


@pytest.mark.parametrize("how", LOOKS)
def test_an_object_that_sleeps_holds_up_neither_other_requests_nor_the_end(own_client, how):
    kernel = own_client.kernel
    stop_with(own_client, SLEEPS)

    look(own_client, how)
    kernel.wait_for("iopub", "stream", text="asleep")

    with promptly():
        own_client.ask("debugInfo")
        own_client.ask("modules", moduleCount=1)
        own_client.ask("threads")
        assert own_client.ask("evaluate", expression="1 + 1")["result"] == "2"
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))
        kernel.manager.provisioner.process.wait(2)


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
@pytest.mark.parametrize("how", LOOKS)
def test_an_object_that_exits_ends_nothing(client, how, error):
    cell = stop_with(client, f"raise {error}(3)")

    answer = client.kernel.reply(look(client, how))

    if how in REFUSED:
        assert (answer["success"], answer["message"], answer["body"]) == (
            False,
            f"{error}: 3",
            {"data": {}, "metadata": {}},
        )
    else:
        variables = answer["body"].get(
            "variables", [{"name": "inner", "value": answer["body"].get("value"), **answer["body"]}]
        )
        shown = {one["name"]: one.get("result") or one["value"] for one in variables}
        assert shown["inner"] == "Unable to get repr for <class '__main__.Odd'>"
    client.go_on()
    assert client.outcome(cell) == error
    client.works_still()


def test_objects_that_fail_in_other_ways_are_shown_beside_the_others(client):
    client.kernel.execute("""if True:
        def fail(self, *ignored): raise SystemExit
        class BadText(Exception): __str__ = fail
        def fail_badly(self, *ignored): raise BadText
        fails = {
            'bad_class': type('Bad', (), {'__class__': property(fail_badly)})(),
            'bad_dict': type('Bad', (), {'__dict__': property(fail), '__repr__': lambda self: 'bad'})(),
            'bad_items': type('Bad', (dict,), {'items': fail, '__repr__': lambda self: 'bad'})(a=1),
            'bad_length': type('Bad', (list,), {'__len__': fail, '__repr__': lambda self: 'bad'})([1]),
            'bad_key': {(type('Bad', (), {'__repr__': fail})(),): 1},
        }
        globals().update(fails)
        good = [1]""")

    shown = {one["name"]: one for one in client.ask("inspectVariables")["variables"]}

    assert {name: shown[name]["value"] for name in ("bad_class", "bad_dict", "bad_items", "bad_length", "bad_key", "good")} == {
        "bad_class": "An exception was raised: BadText()", "bad_dict": "bad", "bad_items": "bad", "bad_length": "bad",
        "bad_key": "Unable to get repr for <class 'dict'>", "good": "[1]",
    }  # fmt: skip
    inside = {
        name: client.answer("variables", variablesReference=shown[name]["variablesReference"])
        for name in ("bad_class", "bad_dict", "bad_items", "bad_length", "bad_key")
    }
    assert {name: (answer["success"], answer["message"]) for name, answer in inside.items()} == {
        "bad_class": (False, "BadText"),
        **dict.fromkeys(("bad_dict", "bad_items", "bad_length", "bad_key"), (False, "SystemExit: ")),
    }
    assert client.refused("evaluate", expression="fail_badly(1)") == "BadText"
    client.kernel.execute("for name in fails: del globals()[name]\ndel fails")


def test_a_rich_form_that_is_no_json_is_refused(client):
    client.kernel.execute("class Odd:\n    def _repr_json_(self): return {'text': object()}\nodd = Odd()")

    assert "a object came" in client.refused("richInspectVariables", variableName="odd")
    client.kernel.execute("del odd")


@pytest.mark.parametrize(
    ("setup", "command"),
    [
        ("import sys; sys.modules['aa_lazy'] = type('Lazy', (), {'__file__': property(sleep)})()", "modules"),
        ("copied = type('Last', (), {'__del__': sleep})()", "copyToGlobals"),
    ],
)
def test_user_code_behind_other_requests_sleeps_alone(own_client, setup, command):
    kernel = own_client.kernel
    kernel.execute(f"import time\ndef sleep(self): {SLEEPS}\n{setup}")
    stop_with(own_client, "pass")

    if command == "modules":
        own_client.send("modules")
    else:
        look(own_client, "copied")
    kernel.wait_for("iopub", "stream", text="asleep")

    begin = time.monotonic()
    own_client.ask("debugInfo")
    assert own_client.ask("evaluate", expression="1 + 1")["result"] == "2"
    assert time.monotonic() - begin < 10


def test_a_property_that_sleeps_when_its_object_is_opened_holds_up_nobody(own_client):
    kernel = own_client.kernel
    kernel.execute(f"import time\nclass Slow:\n    @property\n    def field(self): {SLEEPS}\nslow = Slow()")
    shown = {one["name"]: one for one in own_client.ask("inspectVariables")["variables"]}

    asked = own_client.send("variables", variablesReference=shown["slow"]["variablesReference"])
    kernel.wait_for("iopub", "stream", text="asleep")

    with promptly():
        kernel.reply(kernel.send("kernel_info_request", channel="control"))
        own_client.ask("debugInfo")
    assert not kernel.reply_messages(asked)
