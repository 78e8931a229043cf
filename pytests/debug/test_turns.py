"""When a debug_request begins. No process, and no clock that matters: what must not end by itself lasts for an hour."""

import asyncio

from ipymini.debug.requests import DebugRequests

HOUR = 3600.0


def run(scene):
    """Run scene(log, serve): `serve(client, name, go)` logs what it does, and waits for the event `go` inside."""

    async def main():
        requests, log = DebugRequests(emit=print, namespace=dict, interrupt=print), []

        async def serve(client, name, go=None, patience=HOUR):
            await requests.turn(client, patience)
            log.append(f"{name} begins")
            if go is not None:
                await go.wait()
            log.append(f"{name} ends")

        await asyncio.wait_for(scene(log, lambda *args, **options: asyncio.create_task(serve(*args, **options))), 20)
        return log

    return asyncio.run(main())


async def nothing_moves():
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_request_begins_when_the_one_before_it_has_ended():
    async def scene(log, serve):
        go = asyncio.Event()
        tasks = [serve("me", "first", go), serve("me", "second"), serve("me", "third")]
        await nothing_moves()
        assert log == ["first begins"]
        go.set()
        await asyncio.gather(*tasks)

    order = ["first begins", "first ends", "second begins", "second ends", "third begins", "third ends"]
    assert run(scene) == order


def test_a_request_that_hangs_is_overtaken_and_nobody_else_is():
    async def scene(log, serve):
        go = asyncio.Event()
        hung = serve("me", "hung", go)
        await asyncio.gather(*(serve("me", name, patience=0.01) for name in "abc"))
        await serve("me", "late")  # waits for c only, which has ended
        go.set()
        await hung

    log = run(scene)
    assert [line for line in log if "begins" in line] == [f"{name} begins" for name in ("hung", "a", "b", "c", "late")]
    assert log[-1] == "hung ends"


def test_clients_do_not_wait_for_each_other():
    async def scene(log, serve):
        go = asyncio.Event()
        mine = serve("me", "mine", go)
        await serve("you", "yours")
        go.set()
        await mine

    assert run(scene) == ["mine begins", "yours begins", "yours ends", "mine ends"]


def test_one_that_is_cancelled_while_it_waits_holds_up_nobody():
    async def scene(log, serve):
        go = asyncio.Event()
        first, gives_up = serve("me", "first", go), serve("me", "gives up")
        await nothing_moves()
        gives_up.cancel()
        await nothing_moves()
        await serve("me", "next")
        go.set()
        await first

    assert run(scene) == ["first begins", "next begins", "next ends", "first ends"]
