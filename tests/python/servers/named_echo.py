"""An echo server that can be killed and started again in its place: `named_echo.py ADDRESS PORT`, port 0 for a free one.

Its 101 says which process it is, in `x-process`. At /stream it sends one large frame after the other, for as long as they
are taken.
"""

import asyncio
import os
import socket
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# tests/it/pools/killed/client.rs knows what it is, byte by byte.
LARGE = bytes(range(256)) * (8 * 1024 * 1024 // 256)


def say_who(connection, request, response):
    response.headers["x-process"] = str(os.getpid())
    return response


async def handle(connection):
    try:
        while connection.request.path == "/stream":
            await connection.send(LARGE)
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main(address, port):
    # SO_REUSEADDR is set: the connections of the one before it may still be ending.
    sock = socket.create_server((address, int(port)), backlog=1024)
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    server = await serve(handle, sock=sock, process_response=say_who, compression=None, ping_interval=None)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
