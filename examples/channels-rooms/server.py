"""Chat rooms, named by the path. Django and Channels in one file, served by Daphne."""

import pathlib
import secrets
import sys

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import re_path

PAGE = (pathlib.Path(__file__).parent / "index.html").read_text()
ROOM = r"(?P<room>[A-Za-z0-9_-]{1,50})$"  # as in lockgate.toml

settings.configure(
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    # Rooms exist in this process only. For several processes use "channels_redis.core.RedisChannelLayer".
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    # Lockgate sends the client's scheme in this header, so `request.is_secure()` is true.
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
)


class Room(AsyncWebsocketConsumer):
    async def connect(self):
        self.room = "room." + self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        if text_data:
            address, _ = self.scope["client"]
            await self.channel_layer.group_send(self.room, {"type": "line", "text": f"{address}: {text_data}"})

    async def line(self, event):
        await self.send(event["text"])


def page(request, room=None):
    return HttpResponse(PAGE)


urlpatterns = [re_path("^$", page), re_path("^" + ROOM, page)]

application = ProtocolTypeRouter({
    "http": get_asgi_application(),
    "websocket": AllowedHostsOriginValidator(URLRouter([re_path("^ws/" + ROOM, Room.as_asgi())])),
})

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8001
    # Equivalent to `daphne --proxy-headers --bind 127.0.0.1 --port 8001 server:application`.
    Server(
        application,
        build_endpoint_description_strings(host="127.0.0.1", port=port),
        proxy_forwarded_address_header="X-Forwarded-For",
        proxy_forwarded_port_header="X-Forwarded-Port",
        proxy_forwarded_proto_header="X-Forwarded-Proto",
    ).run()
