"""The echo server on Autobahn."""

import asyncio

import echo
from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.types import ConnectionDeny


class Echo(WebSocketServerProtocol):
    def sendServerStatus(self, *_):
        if self.http_request_path == "/http":
            self.sendHtml(echo.HELLO)
        else:
            self.sendHttpErrorResponse(404, "Not Found")

    def sendHttpErrorResponse(self, code, reason, responseHeaders=None):
        """Also called for a refusal by `onConnect`. Autobahn itself would send neither a body nor a length."""
        head = {"Connection": "close", "Content-Length": len(reason), **dict(responseHeaders or {})}
        if code == echo.REFUSAL["status"]:
            head["x-reason"] = echo.REFUSAL["reason"]
        lines = [f"HTTP/1.1 {code} Refused", *(f"{name}: {value}" for name, value in head.items()), "", reason]
        self.sendData("\r\n".join(lines).encode())

    def onConnect(self, request):
        self.path, _, self.query = self.http_request_uri.partition("?")
        if self.path == "/refuse":
            raise ConnectionDeny(echo.REFUSAL["status"], echo.REFUSAL["body"])
        self.headers = request.headers
        return next((p for p in echo.SUBPROTOCOLS if p in request.protocols), None)

    async def onOpen(self):
        if self.path == "/headers":
            self.sendMessage(echo.request_seen(self.http_request_uri, self.headers.items()).encode())
            self.sendClose(1000)
        elif self.path == "/closes":
            self.sendMessage((await echo.close_seen(self.query)).encode())
            self.sendClose(1000)

    def onMessage(self, payload, isBinary):
        if not isBinary and (order := echo.close_order(payload.decode())):
            self.sendClose(*order)
        else:
            self.sendMessage(payload, isBinary)

    def onClose(self, wasClean, code, reason):
        if getattr(self, "path", None) == "/":
            echo.closed(self.query, code, reason)


def compress(offers):
    return next((PerMessageDeflateOfferAccept(o) for o in offers if isinstance(o, PerMessageDeflateOffer)), None)


async def main():
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    factory.setProtocolOptions(
        maxMessagePayloadSize=echo.MAX_MESSAGE_LEN,
        maxFramePayloadSize=echo.MAX_MESSAGE_LEN,
        perMessageCompressionAccept=compress,
        trustXForwardedFor=1,
    )
    server = await asyncio.get_running_loop().create_server(factory, sock=echo.listen())
    await server.serve_forever()


asyncio.run(main())
