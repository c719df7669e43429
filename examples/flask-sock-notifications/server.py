"""A bell: whatever is posted to /notify, every open page hears."""

import pathlib
import queue
import sys

from flask import Flask, request, send_file
from flask_sock import Sock

PAGE = pathlib.Path(__file__).parent / "index.html"
app = Flask(__name__)
sock = Sock(app)
bells = set()  # One queue for each open page: a slow one does not delay the others.


@app.get("/")
def page():
    return send_file(PAGE)


@app.post("/notify")
def notify():
    for bell in list(bells):
        bell.put(request.get_data(as_text=True))
    return "", 204


@sock.route("/ws")
def ring(socket):
    bell = queue.SimpleQueue()
    bells.add(bell)
    try:
        # Flask-Sock tells of a page that has left only to who asks, so ask now and then.
        while socket.connected:
            try:
                socket.send(bell.get(timeout=1))
            except queue.Empty:
                pass
    finally:
        bells.discard(bell)


app.run("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 5000, threaded=True)
