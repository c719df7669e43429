"""The echo server on `websockets`. With a certificate and its key as arguments it uses TLS; with a CA as third argument it
requires a client certificate of that CA."""

import asyncio
import http
import ssl
import sys
from urllib.parse import urlsplit

import echo
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Response


def answer_http(connection, request):
    path = urlsplit(request.path).path
    if path == "/refuse":
        response = connection.respond(http.HTTPStatus(echo.REFUSAL["status"]), echo.REFUSAL["body"])
        response.headers["x-reason"] = echo.REFUSAL["reason"]
        return response
    if path == "/http":
        body = echo.HELLO.encode()
        return Response(200, "OK", Headers([("Content-Length", str(len(body))), ("Connection", "close")]), body)
    return None


async def handle(connection):
    target = connection.request.path
    parts = urlsplit(target)
    if parts.path == "/headers":
        await connection.send(echo.request_seen(target, connection.request.headers.raw_items()))
        return
    if parts.path == "/closes":
        await connection.send(await echo.close_seen(parts.query))
        return
    try:
        async for message in connection:
            if order := echo.close_order(message):
                await connection.close(*order)
                break
            await connection.send(message)
    except ConnectionClosedError:
        pass  # Any code except 1000 and 1001; recorded below.
    await connection.wait_closed()
    echo.closed(parts.query, connection.close_code, connection.close_reason)


def tls(certificate, key, ca=None):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(certificate, key)
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main():
    server = await serve(
        handle,
        sock=echo.listen(),
        process_request=answer_http,
        subprotocols=echo.SUBPROTOCOLS,
        select_subprotocol=lambda _, offered: next((p for p in echo.SUBPROTOCOLS if p in offered), None),
        max_size=echo.MAX_MESSAGE_LEN,
        ssl=tls(*sys.argv[1:]) if len(sys.argv) > 1 else None,
    )
    await server.serve_forever()


asyncio.run(main())
