"""The echo server on gevent-websocket and Flask-Sockets, with the pins of examples/gevent-legacy.

gevent-websocket does not support, so this server lacks:

    compression     not implemented
    subprotocols    one per path, so only the first of the list
    /closes         it does not report the close code of a client
    "close …"       works, but its Close has no code: the first two bytes of the reason are in its place
"""

from gevent import monkey

monkey.patch_all()  # Before anything else is imported.

import echo
from flask import Flask, Response, request
from flask_sockets import Sockets
from geventwebsocket import WebSocketServer
from geventwebsocket.exceptions import WebSocketError

app = Flask(__name__)
app.app_protocol = lambda path: echo.SUBPROTOCOLS[0]
sockets = Sockets(app)


@app.route("/http")
def plain_http():
    return echo.HELLO


@app.route("/refuse")
def refuse():
    return Response(echo.REFUSAL["body"], echo.REFUSAL["status"], {"x-reason": echo.REFUSAL["reason"]})


def refused(handler):
    """Selects the paths that Flask answers. Otherwise the server accepts the handshake before it calls Flask."""
    return handler.environ["PATH_INFO"] == "/refuse"


@sockets.route("/headers")
def headers(socket):
    socket.send(echo.request_seen(f"{request.path}?{request.query_string.decode()}", request.headers))


@sockets.route("/")
def handle(socket):
    try:
        while (message := socket.receive()) is not None:
            if order := echo.close_order(message):
                socket.close(*order)
                break
            socket.send(message)
    except WebSocketError:
        pass  # The client vanished without a Close.


WebSocketServer(echo.listen(), app, pre_start_hook=refused).serve_forever()
