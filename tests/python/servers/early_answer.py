"""A server that answers as soon as it has read the head of a request. The path selects what follows: `/STATUS/close`
closes the connection, which resets it while the body is arriving; `/STATUS/read` reads the body and discards it. The
body of the answer has the length in the query, or is short."""

import socket
import threading


def head_of(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1024)
        if not part:
            return None
        head += part
    return head


def serve(connection):
    with connection:
        head = head_of(connection)
        if head is None:
            return
        target = head.split(b" ", 2)[1].decode()
        path, _, length = target.partition("?")
        _, status, then = path.split("/")[:3]
        body = b"x" * int(length) if length else f"early {status}".encode()
        fields = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(f"HTTP/1.1 {status} Early\r\n{fields}".encode() + body)
        while then == "read" and connection.recv(65536):
            pass


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()
