"""An HTTP server that authenticates connections by NTLM (MS-NTHT), with the acceptor of pyspnego: `ntlm_server.py USERS`.

USERS is a file with a line DOMAIN:USER:PASSWORD per user. Every response names the user of its connection, or anonymous for
/public on a connection without one. Every other path requires a user. The standard library parses the requests.
"""

import base64
import http.server
import os
import sys

os.environ["NTLM_USER_FILE"] = sys.argv[1]

import echo  # noqa: E402
import spnego  # noqa: E402


class Handler(http.server.BaseHTTPRequestHandler):
    """One object per connection."""

    protocol_version = "HTTP/1.1"
    context = user = None

    def do_GET(self):
        scheme, _, message = self.headers.get("Authorization", "").partition(" ")
        if scheme == "NTLM":
            if self.context is None:
                self.context = spnego.server(protocol="ntlm")
            try:
                reply = self.context.step(base64.b64decode(message))
            except spnego.exceptions.SpnegoError as error:
                self.context = None
                return self.answer(401, repr(error), "NTLM")
            if not self.context.complete:
                return self.answer(401, "", f"NTLM {base64.b64encode(reply).decode()}")
            self.user, self.context = self.context.client_principal, None
        if self.user is None and self.path != "/public":
            return self.answer(401, "", 'Basic realm="a, b"', "NTLM")
        self.answer(200, self.user or "anonymous")

    def answer(self, status, text, *challenges):
        body = text.encode()
        self.send_response(status)
        for challenge in challenges:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


listener = echo.listen()
listener.setblocking(True)
server = http.server.ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
server.daemon_threads = True
server.socket.close()
server.socket = listener
server.serve_forever()
