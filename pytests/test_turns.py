"""Turns: what begins when. No process, no clock that matters: whoever must wait in vain would wait for an hour."""

import asyncio

from ipymini.debug.requests import Turns

HOUR = 3600.0


def run(scene, patience):
    """Run scene(turns, log, serve): `serve(client, name, go)` logs what it does, and waits for the event `go` inside."""

    async def main():
        turns, log = Turns(patience), []

        async def serve(client, name, go=None):
            async with turns.turn(client):
                log.append(f"{name} begins")
                if go is not None:
                    await go.wait()
                log.append(f"{name} ends")

        await asyncio.wait_for(scene(turns, log, lambda *args: asyncio.create_task(serve(*args))), 20)
        return log

    return asyncio.run(main())


async def nothing_moves():
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_request_begins_when_the_one_before_it_has_ended():
    async def scene(turns, log, serve):
        go = asyncio.Event()
        tasks = [serve("me", "first", go), serve("me", "second"), serve("me", "third")]
        await nothing_moves()
        assert log == ["first begins"]
        go.set()
        await asyncio.gather(*tasks)
        assert turns._latest == {}

    order = ["first begins", "first ends", "second begins", "second ends", "third begins", "third ends"]
    assert run(scene, HOUR) == order


def test_a_request_that_hangs_is_overtaken_and_nobody_else_is():
    async def scene(turns, log, serve):
        go = asyncio.Event()
        hung = serve("me", "hung", go)
        await asyncio.gather(*(serve("me", name) for name in "abc"))
        turns.patience = HOUR
        await serve("me", "late")  # waits for c only, which has ended
        go.set()
        await hung

    log = run(scene, 0.01)
    assert [line for line in log if "begins" in line] == [f"{name} begins" for name in ("hung", "a", "b", "c", "late")]
    assert log[-1] == "hung ends"


def test_clients_do_not_wait_for_each_other():
    async def scene(turns, log, serve):
        go = asyncio.Event()
        mine = serve("me", "mine", go)
        await serve("you", "yours")
        go.set()
        await mine

    assert run(scene, HOUR) == ["mine begins", "yours begins", "yours ends", "mine ends"]


def test_one_that_is_cancelled_while_it_waits_holds_up_nobody():
    async def scene(turns, log, serve):
        go = asyncio.Event()
        first, gives_up = serve("me", "first", go), serve("me", "gives up")
        await nothing_moves()
        gives_up.cancel()
        await nothing_moves()
        await serve("me", "next")
        go.set()
        await first

    assert run(scene, HOUR) == ["first begins", "next begins", "next ends", "first ends"]
