"""The echo server on Tornado."""

import asyncio

import echo
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler


class PlainHttp(RequestHandler):
    def get(self):
        self.finish(echo.HELLO)


class Refuse(RequestHandler):
    def get(self):
        self.set_status(echo.REFUSAL["status"])
        self.set_header("x-reason", echo.REFUSAL["reason"])
        self.finish(echo.REFUSAL["body"])


class Base(WebSocketHandler):
    # The default `check_origin` compares Origin and Host, including the port.
    def get_compression_options(self):
        return {}


class Headers(Base):
    async def open(self):
        await self.write_message(echo.request_seen(self.request.uri, self.request.headers.get_all()))
        self.close()


class Closes(Base):
    async def open(self):
        await self.write_message(await echo.close_seen(self.request.query))
        self.close()


class Echo(Base):
    def select_subprotocol(self, subprotocols):
        return next((p for p in echo.SUBPROTOCOLS if p in subprotocols), None)

    async def on_message(self, message):
        if order := echo.close_order(message):
            self.close(*order)
        else:
            await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self):
        echo.closed(self.request.query, self.close_code, self.close_reason)


async def main():
    routes = [("/", Echo), ("/headers", Headers), ("/closes", Closes), ("/refuse", Refuse), ("/http", PlainHttp)]
    server = HTTPServer(Application(routes, websocket_max_message_size=echo.MAX_MESSAGE_LEN))
    server.add_socket(echo.listen())
    await asyncio.Event().wait()


asyncio.run(main())
