"""Opens N sessions, prints "open", and answers Pings until it is killed: `crowd.py HOST PORT CA-FILE N`."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(host, port, ca, sessions):
    context = ssl.create_default_context(cafile=ca)
    dials = asyncio.Semaphore(20)

    async def one():
        async with dials:
            return await connect(
                "wss://a.test/", host=host, port=int(port), ssl=context, proxy=None, ping_interval=None, open_timeout=60
            )

    connections = await asyncio.gather(*(one() for _ in range(int(sessions))))
    print("open", flush=True)
    await asyncio.gather(*(connection.wait_closed() for connection in connections))


asyncio.run(main(*sys.argv[1:]))
