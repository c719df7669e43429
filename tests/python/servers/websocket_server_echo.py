"""The echo server on websocket-server 0.4, by callbacks: text at /, and any path is /.

What the library cannot do, and so is missing here:

    /headers, /refuse   no callback sees the request, and every handshake is accepted
    /http               it speaks no plain HTTP: it hangs up
    "close …", /closes  it neither sends a Close, nor tells with which code a client has closed
    ping                it takes a Ping for a text, and echoes that
    binary              it takes every frame for a text
    and no subprotocols, no compression, no messages in several frames, no head of more than 1024 bytes
"""

from websocket_server import WebsocketServer


def echo(client, server, text):
    # The library makes a character of every byte; here they become UTF-8 again.
    server.send_message(client, text.encode("latin-1").decode())


server = WebsocketServer(0, "127.0.0.1")
server.set_fn_message_received(echo)
print(server.server_address[1], flush=True)
server.serve_forever()  # `run_forever` prints too.
