"""Opens a session with a host on 127.0.0.1, sends a message and waits for its echo: `session_as.py HOST PORT CA-FILE`."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(host, port, ca):
    tls = ssl.create_default_context(cafile=ca)
    async with connect(f"wss://{host}/", ssl=tls, host="127.0.0.1", port=int(port), proxy=None) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
    print("echoed")


asyncio.run(main(*sys.argv[1:]))
