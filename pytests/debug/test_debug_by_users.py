"""What users do themselves: `breakpoint()`, `debugpy.listen`, `pdb`, forks and child processes."""

from debug_client import Client


def test_breakpoint_stops_in_an_attached_debugger(client):
    code = "before = 1\nbreakpoint()\nafter = 2\n"
    cell = client.run(code)

    client.stopped()
    seen = [client.lines()]
    client.ask("next", threadId=1)
    client.stopped()
    seen.append(client.lines())

    assert seen == [[("<module>", 2)], [("<module>", 3)]]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_breakpoint_opens_ipdb_when_nobody_is_attached(kernel):
    cell = kernel.send("execute_request", code="inspected = 41\nbreakpoint()\ninspected += 1\n", allow_stdin=True)

    assert kernel.answer_input("p inspected * 2")["prompt"] == "ipdb> "
    kernel.answer_input("c")

    assert kernel.reply(cell)["status"] == "ok"
    assert "82" in "".join(kernel.outputs(cell))


def test_debug_this_thread_before_a_session_is_harmless(own_kernel):  # VS Code does this first
    reply, _ = own_kernel.execute("import debugpy; debugpy.debug_this_thread()", timeout=10)
    assert reply["status"] in ("ok", "error")

    client = Client(own_kernel)
    client.start()
    client.works_still()


def test_the_users_own_listen_works_and_is_not_disturbed(own_kernel):
    said = own_kernel.execute("import debugpy; debugpy.listen(0)[0]", timeout=30)[1]
    assert said == ["execute_result:'127.0.0.1'"]

    assert "debugged already" in Client(own_kernel).refused("initialize")


def test_the_users_listen_in_a_session_says_no_at_once(client):
    assert "already been called" in str(client.kernel.execute("import debugpy; debugpy.listen(0)")[1])


def test_a_forked_child_stops_at_no_breakpoint(client):
    code = (
        "import os\npid = os.fork()\nif pid == 0:\n    os._exit(7)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
    )
    client.break_at(code, 4)

    cell = client.run(code)

    assert client.outcome(cell) == "ok"
    assert "execute_result:7" in client.kernel.outputs(cell)


def test_a_child_process_of_python_runs_untouched(client):
    code = "import subprocess, sys\nsubprocess.check_output([sys.executable, '-c', 'print(6 * 7)'], text=True)"

    assert client.kernel.execute(code)[1] == ["execute_result:'42\\n'"]


def test_pdb_works_while_a_debugger_is_attached_and_afterwards_breakpoints_do(client):
    kernel = client.kernel
    cell = kernel.send("execute_request", code="import pdb\npdb.set_trace()\nx = 1\n", allow_stdin=True)
    kernel.answer_input("c")
    assert kernel.reply(cell)["status"] == "ok"

    client.works_still()
