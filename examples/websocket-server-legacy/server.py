"""Everybody hears everybody, by callbacks. The page comes from a second server, on the next port."""

import http.server
import pathlib
import sys
import threading

from websocket_server import WebsocketServer

PAGE = (pathlib.Path(__file__).parent / "index.html").read_bytes()
saying = threading.Lock()  # Every client has a thread of its own.


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


def say(server, text):
    with saying:
        for client in list(server.clients):
            try:
                server.send_message(client, text)
            except OSError:
                pass  # It is just leaving.


def joined(client, server):
    say(server, f"{client['id']} has come")


def left(client, server):
    # Called for those who hang up before the handshake, too: they are nobody yet.
    if client:
        server.clients.remove(client)
        say(server, f"{client['id']} has left")


def heard(client, server, text):
    # 0.4 makes a character of every byte; here they become UTF-8 again.
    say(server, f"{client['id']}: {text.encode('latin-1').decode(errors='replace')}")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9001
pages = http.server.ThreadingHTTPServer(("127.0.0.1", port + 1), Page)
threading.Thread(target=pages.serve_forever, daemon=True).start()
server = WebsocketServer(port, "127.0.0.1")
server.set_fn_new_client(joined)
server.set_fn_client_left(left)
server.set_fn_message_received(heard)
server.run_forever()
