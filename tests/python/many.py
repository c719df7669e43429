"""Opens sessions that echo messages until SIGTERM: `many.py URL CA-FILE SESSIONS PAUSE`.

Prints "open" when all sessions are open, and at the end the number of messages that were echoed, one at a time and in
order. Any other message, or an unexpected end, is a traceback.
"""

import asyncio
import signal
import ssl
import sys

from websockets.asyncio.client import connect

CONCURRENT_DIALS = 50


async def echo(connection, pause, stop):
    count = 0
    async with connection:
        while not stop.is_set():
            message = f"{id(connection)} {count}"
            await connection.send(message)
            answer = await asyncio.wait_for(connection.recv(), 60)
            assert answer == message, f"{answer!r} for {message!r}"
            count += 1
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                pass
    assert connection.close_code == 1000, connection.close_code
    return count


async def main(url, ca, sessions, pause):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tls = ssl.create_default_context(cafile=ca)
    dials = asyncio.Semaphore(CONCURRENT_DIALS)

    async def opened():
        async with dials:
            options = dict(ssl=tls, proxy=None, compression=None, ping_interval=None, open_timeout=60, max_queue=4)
            return await connect(url, **options)

    connections = await asyncio.gather(*(opened() for _ in range(int(sessions))))
    echoing = asyncio.gather(*(echo(connection, float(pause), stop) for connection in connections))
    print("open", flush=True)
    print(sum(await echoing), flush=True)


asyncio.run(main(*sys.argv[1:]))
