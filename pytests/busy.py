"""busy: cells that go on until they are interrupted, each in another way. They say "on" when they are there.

They may run in many shells at once, which share a namespace. IPython takes the indent away.
"""

SLEEP = "import time; print('on'); time.sleep(60)"

BUSY = {
    "sleep": SLEEP,
    "loop": """
        print('on')
        while True: pass
    """,
    "prints": "while True: print('on')",
    "flushed prints": "while True: print('on', flush=True)",
    "logs": """
        import logging, sys
        def logs():
            log = logging.Logger('log')
            log.addHandler(logging.StreamHandler(sys.stdout))
            while True: log.warning('on')
        logs()
    """,
    # ---- waits
    "event": "import threading; print('on'); threading.Event().wait(60)",
    "queue": "import queue; print('on'); queue.Queue().get()",
    "future": "from concurrent.futures import Future; print('on'); Future().result()",
    "input": "print('on'); input('?')",
    "subprocess": "import subprocess; print('on', flush=True); subprocess.run(['sleep', '60'])",
    "deaf subprocess": """
        import subprocess
        print('on', flush=True)
        subprocess.run(['sh', '-c', 'trap : INT; sleep 60; sleep 60'], start_new_session=True)
    """,
    # ---- loops
    "await": """
        import asyncio
        async def sleeps():
            print('on')
            await asyncio.sleep(60)
        await sleeps()
    """,
    "gather": """
        import asyncio
        async def sleeps():
            print('on')
            await asyncio.sleep(60)
        await asyncio.gather(*(sleeps() for _ in range(20)))
    """,
    "sync in async": """
        import time
        async def blocks(): time.sleep(60)
        print('on')
        await blocks()
    """,
    "sync in a task": """
        import asyncio, time
        async def blocks(): time.sleep(60)
        print('on')
        await asyncio.gather(blocks())
    """,
    "loop after await": """
        import asyncio
        await asyncio.sleep(0)
        print('on')
        while True: pass
    """,
    "loop of awaits": """
        import asyncio
        print('on')
        while True: await asyncio.sleep(0)
    """,
    # It is on when the loop is whole: a half-made one complains when it is collected, in whatever cell then runs.
    "asyncio.run": """
        import asyncio
        async def sleeps():
            print('on')
            await asyncio.sleep(60)
        asyncio.run(sleeps())
    """,
    # ---- what Python calls by itself
    "destructor": """
        class Slow:
            def __del__(self):
                print('on')
                while True: pass
        Slow()
        while True: pass
    """,
    "last destructor": """
        class Slow:
            def __del__(self):
                print('on')
                while True: pass
        slow = Slow()
        del slow
    """,
    "done-callback": """
        from concurrent.futures import Future
        def loops(_):
            print('on')
            while True: pass
        done = Future()
        done.set_result(1)
        done.add_done_callback(loops)
    """,
    "formatter": """
        import time
        class Slow:
            def __repr__(self):
                print('on')
                time.sleep(60)
        Slow()
    """,
}
