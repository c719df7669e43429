"""A field with a dot for every player; every page shows all moves."""

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
positions = {}  # name: (x, y)


async def publish():
    state = json.dumps(positions)
    # A player that is disconnecting must not stop the update for the others.
    await asyncio.gather(*(socket.send_str(state) for socket in sockets.values()), return_exceptions=True)


async def play(request):
    # The longest message is "right".
    socket = web.WebSocketResponse(max_msg_size=16)
    await socket.prepare(request)
    name = next(names)
    await socket.send_json({"you": name, "size": SIZE})
    sockets[name] = socket
    positions[name] = random.randrange(SIZE), random.randrange(SIZE)
    try:
        await publish()
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data in STEPS:
                x, y = positions[name]
                dx, dy = STEPS[message.data]
                positions[name] = (x + dx) % SIZE, (y + dy) % SIZE
                await publish()
    finally:
        del sockets[name], positions[name]
        await publish()
    return socket


async def page(request):
    return web.FileResponse(PAGE)


app = web.Application()
app.add_routes([web.get("/", page), web.get("/ws", play)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
