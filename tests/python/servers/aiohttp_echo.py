"""The echo server on aiohttp."""

import asyncio

import echo
from aiohttp import WSMsgType, web


def websocket(**options):
    return web.WebSocketResponse(max_msg_size=echo.MAX_MESSAGE_LEN, **options)


async def plain_http(request):
    return web.Response(text=echo.HELLO)


async def refuse(request):
    refusal = echo.REFUSAL
    return web.Response(status=refusal["status"], text=refusal["body"], headers={"x-reason": refusal["reason"]})


async def headers(request):
    socket = websocket()
    await socket.prepare(request)
    await socket.send_str(echo.request_seen(request.path_qs, request.headers.items()))
    return socket


async def closes(request):
    socket = websocket()
    await socket.prepare(request)
    await socket.send_str(await echo.close_seen(request.query_string))
    return socket


async def handle(request):
    # aiohttp selects the client's first choice; this selects the server's, as the other servers do.
    offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    socket = websocket(protocols=[p for p in echo.SUBPROTOCOLS if p in offered][:1])
    await socket.prepare(request)
    code, reason = None, ""
    while not socket.closed:
        message = await socket.receive()
        if order := message.type is WSMsgType.TEXT and echo.close_order(message.data):
            code, reason = order
            await socket.close(code=code, message=reason.encode())
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.CLOSE:
            code, reason = message.data, message.extra
    echo.closed(request.query_string, code, reason)
    return socket


async def main():
    app = web.Application()
    app.router.add_get("/", handle)
    app.router.add_get("/headers", headers)
    app.router.add_get("/closes", closes)
    app.router.add_get("/refuse", refuse)
    app.router.add_get("/http", plain_http)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, echo.listen()).start()
    await asyncio.Event().wait()


asyncio.run(main())
