"""The echo server on python-socketio and uvicorn. It has namespaces instead of paths, and `id` is in `auth`.

Socket.IO has no subprotocols, no code and reason of a Close ("close CODE REASON" disconnects, and /closes sends
[null, REASON] with a reason of python-socketio), and no header of a refusal.
"""

import echo
import socketio
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()
sio = socketio.AsyncServer(async_mode="asgi", max_http_buffer_size=echo.MAX_MESSAGE_LEN)


@app.get("/http")
async def plain_http():
    return PlainTextResponse(echo.HELLO)


@sio.on("connect")
async def begin(sid, environ, auth=None):
    await sio.save_session(sid, f"id={(auth or {}).get('id', '')}")


@sio.on("message")
async def handle(sid, message):
    if echo.close_order(message):
        await sio.disconnect(sid)
    else:
        await sio.send(message, to=sid)


@sio.on("disconnect")
async def end(sid, reason):
    echo.closed(await sio.get_session(sid), None, reason)


@sio.on("connect", namespace="/headers")
async def headers(sid, environ, auth=None):
    scope = environ["asgi.scope"]
    seen = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    await sio.send(echo.request_seen(f"{scope['path']}?{environ['QUERY_STRING']}", seen), to=sid, namespace="/headers")


@sio.on("connect", namespace="/closes")
async def closes(sid, environ, auth):
    await sio.send(await echo.close_seen(f"id={auth['id']}"), to=sid, namespace="/closes")


@sio.on("connect", namespace="/refuse")
async def refuse(sid, environ, auth=None):
    raise socketio.exceptions.ConnectionRefusedError(echo.REFUSAL["body"])


config = uvicorn.Config(socketio.ASGIApp(sio, app), ws_max_size=echo.MAX_MESSAGE_LEN, log_level="warning", lifespan="off")
uvicorn.Server(config).run(sockets=[echo.listen()])
