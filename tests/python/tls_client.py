"""Performs a TLS 1.2 handshake with the ciphers of one kind of key, and prints "verified" if the chain is."""

import socket
import ssl
import sys

port, root, ciphers = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.maximum_version = ssl.TLSVersion.TLSv1_2
context.set_ciphers(ciphers)
with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as plain:
    with context.wrap_socket(plain, server_hostname="a.test"):
        print("verified", flush=True)
