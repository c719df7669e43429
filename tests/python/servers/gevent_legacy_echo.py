"""The echo server on gevent-websocket and Flask-Sockets, with the pins of examples/gevent-legacy.

What gevent-websocket cannot do, and so is missing here:

    compression     it knows none
    subprotocols    one for each path, so only the first of ours
    /closes         it does not tell with which code a client has closed
    "close …"       is taken, but its Close has no code: the first two bytes of the reason stand where the code should
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
    """It has accepted a handshake before it asks Flask; what is named here goes to Flask at once."""
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
        pass  # The client left without a word.


WebSocketServer(echo.listen(), app, pre_start_hook=refused).serve_forever()
