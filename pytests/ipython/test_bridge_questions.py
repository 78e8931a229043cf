"""Completion, inspection, history and comms without a kernel."""

import pytest
from bridge_session import at_once, subshell

from ipymini.execution import context
from ipymini.protocol.messages import Request

# ---- language ------------------------------------------------------------------------------


def test_names_that_exist_are_completed_without_jedi(main):
    main.execute("import os")

    found = main.bridge.complete("os.pa", 5)

    assert "path" in found["matches"]
    assert (found["cursor_start"], found["cursor_end"], found["status"]) == (3, 5, "ok")
    assert [one["text"] for one in found["metadata"]["_jupyter_types_experimental"]] == found["matches"]


def test_names_of_code_that_has_not_run_are_completed(main):
    found = main.bridge.complete("import os; os.pa", 16)

    assert "path" in found["matches"]
    assert (found["cursor_start"], found["cursor_end"]) == (14, 16)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("prin", "print", "function"),
        ("imp", "import", "keyword"),
        ("result = 1\nre", "result", "<unknown>"),
        ("resu.real = 1\nresu", "resu", "<unknown>"),
        ("ValueE", "ValueError", "class"),
        ("obj.on", "one", "instance"),
        ("obj.tw", "two", "function"),
        ("obj.thr", "three", "property"),
        ("obj.inner.no", "nothing", "instance"),
        ("%%tim", "%%time", "magic"),
        ("print('', en", "end=", "param"),
    ],
)
def test_completions_have_types_and_know_names_of_the_cell(main, code, text, kind):
    main.execute(
        "class C:\n    def two(self): pass\n    @property\n    def three(self): 1/0\n"
        "obj = C(); obj.one = 1; obj.inner = C(); obj.inner.nothing = None"
    )

    found = main.bridge.complete(code, len(code))["metadata"]["_jupyter_types_experimental"]

    assert [one["type"] for one in found if one["text"] == text] == [kind]


def test_completion_of_nothing_is_empty(main):
    assert main.bridge.complete("zzzqqq.x", 8) == {
        "status": "ok",
        "matches": [],
        "cursor_start": 8,
        "cursor_end": 8,
        "metadata": {"_jupyter_types_experimental": []},
    }


def test_threads_complete_at_once_and_leave_a_cells_warning_filters_alone(main):  # B4
    import warnings

    class Warns:
        def __dir__(self):
            for _ in range(200):
                warnings.warn("completed all the same", BytesWarning, stacklevel=1)
            return ["legacy"]

    main.bridge.shell.user_ns["warns"] = Warns()
    main.bridge.complete("pri", 3)  # the first one imports IPython's completer, which has filters of its own
    failures = []

    def complete():
        try:
            for _ in range(10):
                assert "print" in main.bridge.complete("pri", 3)["matches"]
                assert "legacy" in main.bridge.complete("warns.leg", 9)["matches"]
        except BaseException as failure:
            failures.append(failure)

    with warnings.catch_warnings():
        warnings.simplefilter("error", BytesWarning)
        before = [one for one in warnings.filters if one[0] != "ignore"]
        at_once([complete] * 4)
        assert not failures
        assert [one for one in warnings.filters if one[0] != "ignore"] == before
        with pytest.raises(BytesWarning):
            warnings.warn("as the cell wants it", BytesWarning, stacklevel=1)


def test_inspect_finds_the_callee_and_says_if_it_finds_nothing(main):
    found = main.bridge.inspect("print(1", 7)
    source = main.bridge.inspect("print", 5, detail_level=1)
    nothing = main.bridge.inspect("zzzqqq", 3)

    assert found["found"] and set(found["data"]) == {"text/plain"}
    assert source["found"]
    assert nothing == {"status": "ok", "found": False, "data": {}, "metadata": {}}


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("x = 1", {"status": "complete"}),
        ("for x in y:", {"status": "incomplete", "indent": "    "}),
        ("x = )", {"status": "invalid"}),
        ("%%time\n1", {"status": "incomplete", "indent": ""}),
    ],
)
def test_is_complete(main, code, reply):
    assert main.bridge.is_complete(code) == reply


# ---- history -------------------------------------------------------------------------------


def test_history_finds_the_latest_cell_ranges_and_patterns(main):  # Q19
    for code in ("first = 1", "second = 2", "first + second"):
        main.execute(code)
    session = main.shell.history_manager.session_number

    tail = main.bridge.history(hist_access_type="tail", n=2)
    in_range = main.bridge.history(hist_access_type="range", session=0, start=1, stop=3)
    with_output = main.bridge.history(hist_access_type="range", session=0, start=3, output=True)
    search = main.bridge.history(hist_access_type="search", pattern="*second*", n=10, unique=True)

    assert tail == {"status": "ok", "history": [[session, 2, "second = 2"], [session, 3, "first + second"]]}
    assert in_range["history"] == [[0, 1, "first = 1"], [0, 2, "second = 2"]]
    assert with_output["history"] == [[0, 3, ("first + second", "3")]]
    assert [row[2] for row in search["history"]] == ["second = 2", "first + second"]
    assert main.bridge.history(hist_access_type="other") == {"status": "ok", "history": []}


def test_the_history_magics_work(main, capsys):
    main.execute("alpha = 1")
    main.execute("%history -n 1")
    assert capsys.readouterr().out == "   1: alpha = 1\n"
    assert main.execute("%recall 1")[0]["payload"][0]["text"].strip() == "alpha = 1"
    main.execute("del alpha\n%rerun 1")
    assert main.value("alpha") == "1"


def test_each_subshell_has_a_session_of_its_own(main):
    main.execute("'m'")
    with subshell(main) as sub:
        sub.execute("'s'")
        with context.handling(sub.request()):
            rows = main.bridge.history(hist_access_type="range", session=0)["history"]
            number = main.shell.history_manager.session_number
        assert rows[1:] == [[0, 1, "'s'"]]
        assert number != main.shell.history_manager.session_number


# ---- comms ---------------------------------------------------------------------------------


def test_comms_are_opened_heard_and_closed(main):
    import comm

    heard = []
    bridge = main.bridge

    def opened(one, message):
        one.on_msg(lambda message: heard.append((message["content"]["data"], bytes(message["buffers"][0]))))
        one.on_close(lambda message: heard.append("closed"))

    comm.get_comm_manager().register_target("test", opened)
    header = {"comm_id": "c1", "target_name": "test"}
    bridge.comms.handle(main.request("comm_open", **header, data={}))
    bridge.comms.handle(Request({"msg_type": "comm_msg"}, {"comm_id": "c1", "data": {"a": 1}}, buffers=(b"raw",)))
    assert bridge.comm_info("test") == {"status": "ok", "comms": {"c1": {"target_name": "test"}}}
    assert bridge.comm_info("other") == {"status": "ok", "comms": {}}
    bridge.comms.handle(main.request("comm_close", comm_id="c1", data={}))

    assert heard == [({"a": 1}, b"raw"), "closed"]
    assert bridge.comm_info() == {"status": "ok", "comms": {}}


def test_an_unknown_target_is_told_and_closed(main, capsys):
    main.bridge.comms.handle(main.request("comm_open", comm_id="c2", target_name="nobody", data={}))

    assert [(kind, content["comm_id"]) for _, kind, content, _ in main.iopub.said] == [("comm_close", "c2")]
    assert "No such comm target registered: nobody" in capsys.readouterr().err


def test_a_comm_of_ours_sends_with_buffers_that_stay_as_they_were(main):
    import comm

    memory = bytearray(b"abc")
    one = comm.create_comm(target_name="t", data={"x": 1})
    one.send({"y": 2}, buffers=[memory])
    memory[0:3] = b"xyz"
    one.close()

    assert [(kind, content["data"]) for _, kind, content, _ in main.iopub.said] == [
        ("comm_open", {"x": 1}),
        ("comm_msg", {"y": 2}),
        ("comm_close", {}),
    ]
    assert bytes(main.iopub.said[1][3]["buffers"][0]) == b"abc"
    assert main.iopub.said[1][3]["topic"] == f"comm-{one.comm_id}".encode()


def test_a_failing_comm_callback_is_told_on_stderr(main, capsys):
    import comm

    one = comm.create_comm(target_name="t")
    one.on_msg(lambda message: 1 / 0)

    main.bridge.comms.handle(main.request("comm_msg", comm_id=one.comm_id, data={}))

    assert "ZeroDivisionError" in capsys.readouterr().err
    one.close()
