"""A field, a dot for every player: whoever moves, everybody sees it."""

import asyncio
import itertools
import json
import pathlib
import random
import sys

from aiohttp import WSMsgType, web

PAGE = pathlib.Path(__file__).parent / "index.html"
SIZE = 40
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

names = itertools.count(1)
sockets = {}  # name: WebSocket
places = {}  # name: (x, y)


async def tell():
    state = json.dumps(places)
    # One who is just leaving must not stop the news for the others.
    await asyncio.gather(*(socket.send_str(state) for socket in sockets.values()), return_exceptions=True)


async def play(request):
    # Nobody has more to say than "right".
    socket = web.WebSocketResponse(max_msg_size=16)
    await socket.prepare(request)
    name = next(names)
    await socket.send_json({"you": name, "size": SIZE})
    sockets[name] = socket
    places[name] = random.randrange(SIZE), random.randrange(SIZE)
    try:
        await tell()
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data in STEPS:
                x, y = places[name]
                dx, dy = STEPS[message.data]
                places[name] = (x + dx) % SIZE, (y + dy) % SIZE
                await tell()
    finally:
        del sockets[name], places[name]
        await tell()
    return socket


async def page(request):
    return web.FileResponse(PAGE)


app = web.Application()
app.add_routes([web.get("/", page), web.get("/ws", play)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
