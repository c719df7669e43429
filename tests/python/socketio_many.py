"""Sessions of python-socketio that begin by polling and are upgraded: `socketio_many.py URL CA-FILE SESSIONS`.

Prints how many came so far that a message was echoed over the WebSocket, and then the reasons why others did not.
"""

import asyncio
import collections
import ssl
import sys

import aiohttp
import socketio

AT_ONCE = 8
DEADLINE = 20


async def visit(url, tls):
    # Without cookies: what holds it together is the sid alone.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), cookie_jar=aiohttp.DummyCookieJar()) as session:
        client = socketio.AsyncClient(http_session=session, reconnection=False)
        received = asyncio.Queue()
        client.on("message", received.put)
        await client.connect(url, {"Origin": url}, transports=["polling", "websocket"])
        assert client.transport() == "websocket", f"it stayed with {client.transport()}"
        await client.send("hello")
        assert await received.get() == "hello"
        await client.disconnect()


async def main(url, ca, sessions):
    tls = ssl.create_default_context(cafile=ca)
    turns = asyncio.Semaphore(AT_ONCE)
    failed = collections.Counter()

    async def one():
        async with turns:
            try:
                await asyncio.wait_for(visit(url, tls), DEADLINE)
            except Exception as error:
                failed[f"{type(error).__name__}: {error}"] += 1

    await asyncio.gather(*(one() for _ in range(int(sessions))))
    print(int(sessions) - failed.total())
    for reason, times in failed.items():
        print(f"{times} × {reason}")


asyncio.run(main(*sys.argv[1:]))
