"""An echo server on `websockets` that pings every second and waits at most one second for the Pong."""

import asyncio

import echo
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError


async def handle(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosedError:
        pass


async def main():
    server = await serve(handle, sock=echo.listen(), ping_interval=1, ping_timeout=1)
    await server.serve_forever()


asyncio.run(main())
