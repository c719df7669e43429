"""An echo server on `websockets` with default settings: `server.py deflate|none`. It prints its port."""

import asyncio
import contextlib
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def main(compression):
    # No Pings of its own, so that its CPU time is that of the messages alone.
    server = await serve(echo, "127.0.0.1", 0, compression=compression, ping_interval=None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main("deflate" if sys.argv[1] == "deflate" else None))
