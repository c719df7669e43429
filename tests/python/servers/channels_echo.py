"""The echo server on Django Channels and Daphne.

Daphne 4.2.3 does not support: empty messages, compression, the reason of a Close in either direction, and refusing a
handshake with a custom body or header (the status is 403).
"""

import echo
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)


class Base(AsyncWebsocketConsumer):
    @property
    def query(self):
        return self.scope["query_string"].decode()


class Headers(Base):
    async def connect(self):
        await self.accept()
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.scope["headers"]]
        await self.send(echo.request_seen(f"{self.scope['path']}?{self.query}", headers))
        await self.close()


class Closes(Base):
    async def connect(self):
        await self.accept()
        await self.send(await echo.close_seen(self.query))
        await self.close()


class Refuse(Base):
    async def connect(self):
        await self.close()


class Echo(Base):
    async def connect(self):
        await self.accept(next((p for p in echo.SUBPROTOCOLS if p in self.scope["subprotocols"]), None))

    async def receive(self, text_data=None, bytes_data=None):
        if order := echo.close_order(text_data):
            await self.close(*order)
        else:
            await self.send(text_data, bytes_data)

    async def disconnect(self, code):
        echo.closed(self.query, code, None)


urlpatterns = [path("http", lambda request: HttpResponse(echo.HELLO))]

application = ProtocolTypeRouter({
    "http": get_asgi_application(),
    "websocket": URLRouter([
        path("", Echo.as_asgi()),
        path("headers", Headers.as_asgi()),
        path("closes", Closes.as_asgi()),
        path("refuse", Refuse.as_asgi()),
    ]),
})

listening = echo.listen()
Server(
    application,
    build_endpoint_description_strings(file_descriptor=listening.fileno()),
    proxy_forwarded_address_header="X-Forwarded-For",
    websocket_max_message_size=echo.MAX_MESSAGE_LEN,
    websocket_max_frame_size=echo.MAX_MESSAGE_LEN,
).run()
