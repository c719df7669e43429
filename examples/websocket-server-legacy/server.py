"""A simple chat with callbacks. The page comes from a second server, on the next port."""

import http.server
import pathlib
import sys
import threading

from websocket_server import WebsocketServer

PAGE = (pathlib.Path(__file__).parent / "index.html").read_bytes()
send_lock = threading.Lock()  # Every client has a thread of its own.


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


def broadcast(server, text):
    with send_lock:
        for client in list(server.clients):
            try:
                server.send_message(client, text)
            except OSError:
                pass  # The client is disconnecting.


def joined(client, server):
    broadcast(server, f"{client['id']} has come")


def left(client, server):
    # Also called, without a client, if a connection closes before the handshake.
    if client:
        server.clients.remove(client)
        broadcast(server, f"{client['id']} has left")


def received(client, server, text):
    # Version 0.4 decodes every byte as one character; this restores the UTF-8.
    broadcast(server, f"{client['id']}: {text.encode('latin-1').decode(errors='replace')}")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9001
pages = http.server.ThreadingHTTPServer(("127.0.0.1", port + 1), Page)
threading.Thread(target=pages.serve_forever, daemon=True).start()
server = WebsocketServer(port, "127.0.0.1")
server.set_fn_new_client(joined)
server.set_fn_client_left(left)
server.set_fn_message_received(received)
server.run_forever()
