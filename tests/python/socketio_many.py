"""Opens sessions of python-socketio that start with polling and are upgraded: `socketio_many.py URL CA-FILE SESSIONS`.

Prints the number of sessions in which a message was echoed over the WebSocket, then the errors of the others.
"""

import asyncio
import collections
import ssl
import sys

import aiohttp
import socketio

CONCURRENT_SESSIONS = 8
SESSION_TIMEOUT = 60


async def visit(url, tls):
    # Without cookies: only the sid identifies the session.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), cookie_jar=aiohttp.DummyCookieJar()) as session:
        client = socketio.AsyncClient(http_session=session, reconnection=False)
        received = asyncio.Queue()
        client.on("message", received.put)
        await client.connect(url, {"Origin": url}, transports=["polling", "websocket"])
        assert client.transport() == "websocket", f"not upgraded: {client.transport()}"
        await client.send("hello")
        assert await received.get() == "hello"
        await client.disconnect()


async def main(url, ca, sessions):
    tls = ssl.create_default_context(cafile=ca)
    slots = asyncio.Semaphore(CONCURRENT_SESSIONS)
    failed = collections.Counter()

    async def one():
        async with slots:
            try:
                await asyncio.wait_for(visit(url, tls), SESSION_TIMEOUT)
            except Exception as error:
                failed[f"{type(error).__name__}: {error}"] += 1

    await asyncio.gather(*(one() for _ in range(int(sessions))))
    print(int(sessions) - failed.total())
    for reason, times in failed.items():
        print(f"{times} × {reason}")


asyncio.run(main(*sys.argv[1:]))
