"""The echo server on Flask-Sock and Flask's own threaded server. It supports everything."""

import echo
import flask_sock
import simple_websocket
from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server


class Server(simple_websocket.Server):
    """Selects the server's first choice of subprotocols; the library selects the client's."""

    def choose_subprotocol(self, handshake):
        return next((p for p in echo.SUBPROTOCOLS if p in handshake.subprotocols), None)


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


flask_sock.Server = Server
app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": echo.MAX_MESSAGE_LEN}
sock = flask_sock.Sock(app)


@app.get("/http")
def plain_http():
    return echo.HELLO


@app.route("/refuse", websocket=True)
def refuse():
    return Response(echo.REFUSAL["body"], echo.REFUSAL["status"], {"x-reason": echo.REFUSAL["reason"]})


@sock.route("/headers")
def headers(socket):
    socket.send(echo.request_seen(f"{request.path}?{request.query_string.decode()}", request.headers))


@sock.route("/closes")
def closes(socket):
    socket.send(echo.close_seen_by_thread(request.query_string.decode()))


@sock.route("/")
def handle(socket):
    try:
        while True:
            message = socket.receive()
            if order := echo.close_order(message):
                socket.close(*order)
                return
            socket.send(message)
    except simple_websocket.ConnectionClosed as closed:
        echo.closed(request.query_string.decode(), closed.reason, closed.message)


listener = echo.listen()
make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, fd=listener.fileno()).serve_forever()
