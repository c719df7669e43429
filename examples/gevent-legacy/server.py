"""A shared drawing. A new client receives all existing lines."""

from gevent import monkey

monkey.patch_all()  # Before anything else is imported.

import collections
import pathlib
import sys

import gevent
from flask import Flask, send_file
from flask_sockets import Sockets
from gevent.pywsgi import WSGIServer
from gevent.queue import Queue
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.handler import WebSocketHandler

PAGE = pathlib.Path(__file__).parent / "index.html"
app = Flask(__name__)
sockets = Sockets(app)
sheet = collections.deque(maxlen=5000)  # the lines, as the pages sent them
outboxes = set()


@app.route("/")
def page():
    return send_file(PAGE)


@sockets.route("/ws")
def draw(socket):
    outbox = Queue()
    for line in sheet:
        outbox.put(line)
    outboxes.add(outbox)
    # Two greenlets that send on one socket would mix their frames, so one greenlet sends everything.
    sender = gevent.spawn(send_all, socket, outbox)
    try:
        while (line := socket.receive()) is not None:
            sheet.append(line)
            for other in outboxes - {outbox}:
                other.put(line)
    except WebSocketError:
        pass  # The client vanished without a Close.
    finally:
        outboxes.discard(outbox)
        sender.kill()


def send_all(socket, outbox):
    try:
        for line in outbox:
            socket.send(line)
    except WebSocketError:
        pass  # `receive` fails too.


port = int(sys.argv[1]) if len(sys.argv) > 1 else 5001
WSGIServer(("127.0.0.1", port), app, handler_class=WebSocketHandler).serve_forever()
