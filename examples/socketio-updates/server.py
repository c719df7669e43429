"""A poll: every vote updates every page. python-socketio on uvicorn, by HTTP polling first and then by WebSocket."""

import pathlib
import sys

import socketio
import uvicorn

PAGE = pathlib.Path(__file__).parent / "index.html"

votes = {"tea": 0, "coffee": 0}
# `cors_allowed_origins` is unset: only the page's own origin is allowed, which Lockgate sends in its headers.
sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio, static_files={"/": {"filename": str(PAGE), "content_type": "text/html; charset=utf-8"}})


@sio.event
async def connect(sid, environ):
    await sio.emit("update", votes, to=sid)


@sio.event
async def vote(sid, choice):
    if choice in votes:
        votes[choice] += 1
        await sio.emit("update", votes)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
