"""An echo server that can be killed and restarted on the same port: `named_echo.py ADDRESS PORT`, port 0 for a free one.

Its 101 has its process id in `x-process`. At /stream it sends one large frame after another until the client closes.
"""

import asyncio
import os
import socket
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# tests/it/pools/backend_death/client.rs checks these bytes.
STREAM_FRAME = bytes(range(256)) * (8 * 1024 * 1024 // 256)


def add_process_id(connection, request, response):
    response.headers["x-process"] = str(os.getpid())
    return response


async def handle(connection):
    try:
        while connection.request.path == "/stream":
            await connection.send(STREAM_FRAME)
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main(address, port):
    # create_server sets SO_REUSEADDR: connections of the previous process may still be closing.
    sock = socket.create_server((address, int(port)), backlog=1024)
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    server = await serve(handle, sock=sock, process_response=add_process_id, compression=None, ping_interval=None)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
