"""A chat: every line is sent to every client. The page is served on the same port."""

import asyncio
import pathlib
import sys

from websockets.asyncio.server import broadcast, serve
from websockets.datastructures import Headers
from websockets.http11 import Response

PAGE = (pathlib.Path(__file__).parent / "index.html").read_bytes()
people = set()


def page(connection, request):
    """Answers plain HTTP with the page; a WebSocket handshake continues."""
    if "Upgrade" in request.headers:
        return None
    headers = Headers([
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(PAGE))),
        ("Connection", "close"),
    ])
    return Response(200, "OK", headers, PAGE)


async def chat(connection):
    # The peer is Lockgate; the client's address is in X-Real-IP.
    address = connection.request.headers.get("X-Real-IP", "unknown")
    people.add(connection)
    try:
        async for line in connection:
            broadcast(people, f"{address}: {line}")
    finally:
        people.discard(connection)


async def main(port):
    async with serve(chat, "127.0.0.1", port, process_request=page) as server:
        print(f"listening on ws://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
