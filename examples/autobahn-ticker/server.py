"""A stock ticker over WAMP: a minimal broker on Autobahn. The page is served on the same port."""

import asyncio
import enum
import json
import pathlib
import random
import sys

from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny

PAGE = (pathlib.Path(__file__).parent / "index.html").read_text()
WAMP = "wamp.2.json"
MAX_BUFFERED = 64 * 1024  # bytes

prices = {"ticker.ACME": 100.0, "ticker.GLOBEX": 42.0, "ticker.INITECH": 7.0}
subscriptions = {topic: number for number, topic in enumerate(prices, 1)}
subscribers = {topic: set() for topic in prices}


class Kind(enum.IntEnum):
    HELLO, WELCOME, ABORT, GOODBYE, ERROR = 1, 2, 3, 6, 8
    SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, EVENT = 32, 33, 34, 35, 36


class Session(WebSocketServerProtocol):
    welcomed = False

    def sendServerStatus(self, *_):
        """Plain HTTP gets the page."""
        self.sendHtml(PAGE)

    def sendRedirect(self, url):
        """Also gets the page: Autobahn would redirect `/?redirect=` to any address."""
        self.sendHtml(PAGE)

    def onConnect(self, request):
        if WAMP not in request.protocols:
            raise ConnectionDeny(400, f"the subprotocol {WAMP} is required")
        return WAMP

    def onMessage(self, payload, isBinary):
        try:
            message = json.loads(payload)
        except ValueError:
            message = None
        match message:
            case [Kind.HELLO, str(), dict()] if not self.welcomed:
                self.welcomed = True
                self.send_wamp(Kind.WELCOME, identifier(), {"roles": {"broker": {}}})
            case [Kind.SUBSCRIBE, int(request), dict(), str(topic)] if self.welcomed and topic in prices:
                self.send_wamp(Kind.SUBSCRIBED, request, subscriptions[topic])
                subscribers[topic].add(self)
                self.quote(topic)
            case [Kind.SUBSCRIBE, int(request), dict(), str()] if self.welcomed:
                self.send_wamp(Kind.ERROR, Kind.SUBSCRIBE, request, {}, "wamp.error.not_authorized")
            case [Kind.UNSUBSCRIBE, int(request), int(number)] if self.welcomed:
                for topic in prices:
                    if subscriptions[topic] == number:
                        subscribers[topic].discard(self)
                self.send_wamp(Kind.UNSUBSCRIBED, request)
            case [Kind.GOODBYE, dict(), str()] if self.welcomed:
                self.send_wamp(Kind.GOODBYE, {}, "wamp.close.goodbye_and_out")
                self.sendClose(1000)
            case _:
                self.send_wamp(Kind.ABORT, {}, "wamp.error.protocol_violation")
                self.sendClose(1000)

    def onClose(self, wasClean, code, reason):
        for sessions in subscribers.values():
            sessions.discard(self)

    def quote(self, topic):
        # Back-pressure of a slow reader fills this buffer. Prices become stale quickly, so such a reader misses some.
        if self.transport.get_write_buffer_size() < MAX_BUFFERED:
            self.send_wamp(Kind.EVENT, subscriptions[topic], identifier(), {}, [round(prices[topic], 2)])

    def send_wamp(self, *message):
        self.sendMessage(json.dumps(message).encode())


def identifier():
    return random.randint(1, 2**53)


async def main(port):
    factory = WebSocketServerFactory()
    factory.protocol = Session
    # With this, `self.peer` is the client's address from X-Forwarded-For instead of Lockgate's.
    factory.setProtocolOptions(trustXForwardedFor=1)
    await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)
    print(f"listening on ws://127.0.0.1:{port}", flush=True)
    while True:
        await asyncio.sleep(1)
        for topic in prices:
            prices[topic] *= random.uniform(0.99, 1.01)
            for session in list(subscribers[topic]):
                session.quote(topic)


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9000))
