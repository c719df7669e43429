"""Notifications: whatever is posted to /notify is sent to every open page."""

import pathlib
import queue
import sys

from flask import Flask, request, send_file
from flask_sock import Sock

PAGE = pathlib.Path(__file__).parent / "index.html"
app = Flask(__name__)
sock = Sock(app)
queues = set()  # One queue for each open page: a slow page does not delay the others.


@app.get("/")
def page():
    return send_file(PAGE)


@app.post("/notify")
def notify():
    for notices in list(queues):
        notices.put(request.get_data(as_text=True))
    return "", 204


@sock.route("/ws")
def notifications(socket):
    notices = queue.SimpleQueue()
    queues.add(notices)
    try:
        # Flask-Sock reports a closed page only through `connected`, so check it every second.
        while socket.connected:
            try:
                socket.send(notices.get(timeout=1))
            except queue.Empty:
                pass
    finally:
        queues.discard(notices)


app.run("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 5000, threaded=True)
