"""The echo server on websocket-server 0.4, with callbacks: text at /, which stands for any path.

The library does not support, so this server lacks:

    /headers, /refuse   no callback receives the request, and every handshake is accepted
    /http               it disconnects on plain HTTP
    "close …", /closes  it neither sends a Close nor reports the close code of a client
    ping                it treats a Ping as a text message and echoes it
    binary              it treats every frame as a text message
    and no subprotocols, no compression, no fragmented messages, no request head above 1024 bytes
"""

from websocket_server import WebsocketServer


def echo(client, server, text):
    # The library decodes every byte as one character; this restores the UTF-8.
    server.send_message(client, text.encode("latin-1").decode())


server = WebsocketServer(0, "127.0.0.1")
server.set_fn_message_received(echo)
print(server.server_address[1], flush=True)
server.serve_forever()  # `run_forever` prints too.
