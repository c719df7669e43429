"""Five client libraries with one interface: send, receive, ping, close, closed."""

import asyncio
import re
from urllib.parse import urlsplit

import aiohttp
import tornado.httpclient
import tornado.ioloop
import tornado.websocket
import websocket
import websockets.asyncio.client
import websockets.exceptions
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)


class Refused(Exception):
    """The server answered the handshake with a status other than 101; `None` for what a library does not report."""

    def __init__(self, status, headers=None, body=None):
        self.status, self.headers, self.body = status, headers, body


class Peer:
    compresses = True

    def __init__(self, url, tls, subprotocols=(), headers=None, compress=False):
        self.url, self.tls = url, tls
        self.subprotocols, self.headers, self.compress = list(subprotocols), dict(headers or {}), compress

    async def __aenter__(self):
        await self.open()
        return self

    async def __aexit__(self, *_):
        await self.leave()


class Websockets(Peer):
    async def open(self):
        headers = dict(self.headers)
        try:
            self.connection = await websockets.asyncio.client.connect(
                self.url,
                ssl=self.tls,
                proxy=None,
                origin=headers.pop("Origin", None),
                additional_headers=headers,
                subprotocols=self.subprotocols or None,
                compression="deflate" if self.compress else None,
                max_size=None,
            )
        except websockets.exceptions.InvalidStatus as error:
            response = error.response
            raise Refused(response.status_code, response.headers, response.body.decode()) from error
        self.subprotocol = self.connection.subprotocol
        self.extensions = self.connection.response.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message):
        await self.connection.send(message)

    async def receive(self):
        return await self.connection.recv()

    async def ping(self, payload):
        await (await self.connection.ping(payload))

    async def close(self, code, reason):
        await self.connection.close(code, reason)

    async def closed(self):
        await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason

    async def leave(self):
        await self.connection.close()


class Aiohttp(Peer):
    async def open(self):
        self.session = aiohttp.ClientSession()
        try:
            self.ws = await self.session.ws_connect(
                self.url,
                ssl=self.tls or True,
                headers=self.headers,
                protocols=self.subprotocols,
                compress=15 if self.compress else 0,
                max_msg_size=0,
                autoping=False,
            )
        except aiohttp.WSServerHandshakeError as error:
            await self.session.close()
            raise Refused(error.status, error.headers) from error
        self.subprotocol = self.ws.protocol
        self.extensions = self.ws._response.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message):
        await (self.ws.send_str(message) if isinstance(message, str) else self.ws.send_bytes(message))

    async def receive(self):
        return (await self.ws.receive()).data

    async def ping(self, payload):
        await self.ws.ping(payload)
        answer = await self.ws.receive()
        assert answer.type is aiohttp.WSMsgType.PONG and answer.data == payload, answer

    async def close(self, code, reason):
        await self.ws.close(code=code, message=reason.encode())

    async def closed(self):
        message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra

    async def leave(self):
        await self.ws.close()
        await self.session.close()


class Tornado(Peer):
    async def open(self):
        request = tornado.httpclient.HTTPRequest(
            self.url, headers=self.headers, ssl_options=self.tls
        )
        self.pong = asyncio.get_running_loop().create_future()
        try:
            self.connection = await tornado.websocket.websocket_connect(
                request,
                subprotocols=self.subprotocols or None,
                compression_options={} if self.compress else None,
                max_message_size=1 << 30,
            )
        except tornado.httpclient.HTTPClientError as error:
            raise Refused(error.code, error.response and error.response.headers) from error
        self.connection.on_pong = self.pong.set_result
        self.subprotocol = self.connection.selected_subprotocol
        self.extensions = self.connection.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, message):
        await self.connection.write_message(message, binary=isinstance(message, bytes))

    async def receive(self):
        return await self.connection.read_message()

    async def ping(self, payload):
        self.connection.ping(payload)
        assert await self.pong == payload

    async def close(self, code, reason):
        self.connection.close(code, reason)
        assert await self.connection.read_message() is None

    async def closed(self):
        assert await self.connection.read_message() is None
        return self.connection.close_code, self.connection.close_reason or ""

    async def leave(self):
        self.connection.close()


class WebsocketClient(Peer):
    """websocket-client blocks, so each step runs in a thread."""

    compresses = False

    async def open(self):
        headers = dict(self.headers)
        try:
            self.ws = await asyncio.to_thread(
                websocket.create_connection,
                self.url,
                timeout=60,
                sslopt={"context": self.tls} if self.tls else {},
                origin=headers.pop("Origin", None),
                suppress_origin="Origin" not in self.headers,
                header=headers,
                subprotocols=self.subprotocols or None,
            )
        except websocket.WebSocketBadStatusException as error:
            body = error.resp_body.decode() if error.resp_body else None
            raise Refused(error.status_code, error.resp_headers, body) from error
        self.subprotocol = self.ws.subprotocol
        self.extensions = self.ws.headers.get("sec-websocket-extensions", "")

    async def send(self, message):
        opcode = websocket.ABNF.OPCODE_TEXT if isinstance(message, str) else websocket.ABNF.OPCODE_BINARY
        await asyncio.to_thread(self.ws.send, message, opcode)

    async def receive(self):
        return await asyncio.to_thread(self.ws.recv)

    async def ping(self, payload):
        await asyncio.to_thread(self.ws.ping, payload)
        frame = await asyncio.to_thread(self.ws.recv_frame)
        assert frame.opcode == websocket.ABNF.OPCODE_PONG and frame.data == payload, frame

    async def close(self, code, reason):
        await asyncio.to_thread(self.ws.close, code, reason.encode(), 10)

    async def closed(self):
        opcode, data = await asyncio.to_thread(self.ws.recv_data, True)
        assert opcode == websocket.ABNF.OPCODE_CLOSE, opcode
        return int.from_bytes(data[:2], "big"), data[2:].decode()

    async def leave(self):
        await asyncio.to_thread(self.ws.close)


class Autobahn(Peer):
    async def open(self):
        headers = dict(self.headers)
        factory = WebSocketClientFactory(
            self.url, origin=headers.pop("Origin", None), protocols=self.subprotocols or None, headers=headers
        )
        factory.setProtocolOptions(openHandshakeTimeout=20, closeHandshakeTimeout=10)
        if self.compress:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=lambda answer: isinstance(answer, PerMessageDeflateResponse)
                and PerMessageDeflateResponseAccept(answer),
            )
        self.messages, self.pongs = asyncio.Queue(), asyncio.Queue()
        loop = asyncio.get_running_loop()
        opened, self.end = loop.create_future(), loop.create_future()

        class Protocol(WebSocketClientProtocol):
            def onConnect(_, response):
                self.subprotocol = response.protocol
                self.extensions = response.headers.get("sec-websocket-extensions", "")

            def onOpen(_):
                opened.set_result(None)

            def onMessage(_, payload, is_binary):
                self.messages.put_nowait(payload if is_binary else payload.decode())

            def onPong(_, payload):
                self.pongs.put_nowait(payload)

            def onClose(_, clean, code, reason):
                if not opened.done():
                    status = re.search(r"\b[45]\d\d\b", reason or "")
                    opened.set_exception(Refused(int(status[0])) if status else ConnectionError(reason))
                self.end.set_result((code, reason or ""))

        factory.protocol = Protocol
        target = urlsplit(self.url)
        _, self.protocol = await loop.create_connection(
            factory, target.hostname, target.port, ssl=self.tls, server_hostname=target.hostname if self.tls else None
        )
        await opened

    async def send(self, message):
        is_binary = isinstance(message, bytes)
        self.protocol.sendMessage(message if is_binary else message.encode(), is_binary)

    async def receive(self):
        return await self.messages.get()

    async def ping(self, payload):
        self.protocol.sendPing(payload)
        assert await self.pongs.get() == payload

    async def close(self, code, reason):
        self.protocol.sendClose(code, reason)
        await self.end

    async def closed(self):
        return await self.end

    async def leave(self):
        self.protocol.sendClose(1000)
        await self.end


CLIENTS = {
    "autobahn": Autobahn,
    "websockets": Websockets,
    "websocket-client": WebsocketClient,
    "aiohttp": Aiohttp,
    "tornado": Tornado,
}
