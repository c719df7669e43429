"""Many sessions that echo until SIGTERM: `many.py URL CA-FILE SESSIONS PAUSE`.

Prints "open" when all are open, and at the end how many messages came back, each by itself and in order. Whatever else
comes, or an unexpected end, is a traceback.
"""

import asyncio
import signal
import ssl
import sys

from websockets.asyncio.client import connect

AT_ONCE = 50


async def echo(connection, pause, stop):
    turn = 0
    async with connection:
        while not stop.is_set():
            message = f"{id(connection)} {turn}"
            await connection.send(message)
            answer = await asyncio.wait_for(connection.recv(), 60)
            assert answer == message, f"{answer!r} for {message!r}"
            turn += 1
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                pass
    assert connection.close_code == 1000, connection.close_code
    return turn


async def main(url, ca, sessions, pause):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tls = ssl.create_default_context(cafile=ca)
    turns = asyncio.Semaphore(AT_ONCE)

    async def opened():
        async with turns:
            options = dict(ssl=tls, proxy=None, compression=None, ping_interval=None, open_timeout=60, max_queue=4)
            return await connect(url, **options)

    connections = await asyncio.gather(*(opened() for _ in range(int(sessions))))
    echoing = asyncio.gather(*(echo(connection, float(pause), stop) for connection in connections))
    print("open", flush=True)
    print(sum(await echoing), flush=True)


asyncio.run(main(*sys.argv[1:]))
