"""The standard library's http.server over HTTP/1.1. It leaves request bodies unread; a response has the request's path."""

import http.server

import echo


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


listener = echo.listen()
listener.setblocking(True)
server = http.server.ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
server.socket.close()
server.socket = listener
server.serve_forever()
