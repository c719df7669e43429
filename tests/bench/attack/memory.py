"""Measures the memory of Lockgate per connection of an attacker in each phase, and prints a table in Markdown.

Usage: memory.py [--connections N] [--json FILE] LOCKGATE [LOCKGATE...]

Each phase has a process of its own. N connections (200; a tenth of that for those with 100 streams) are opened over
loopback and stay in the phase while the private memory of the process is read. Every wait has a deadline.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile

DEADLINE = 20
STREAMS = 100
HOST = "localhost"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def hpack(fields):
    """Encodes literals without indexing; values are shorter than 16 KiB (RFC 7541 §5.1)."""
    block = b""
    for name, value in fields:
        block += b"\0" + length(len(name)) + name.encode() + length(len(value)) + value.encode()
    return block


def length(value):
    if value < 127:
        return bytes([value])
    rest, encoded = value - 127, b"\x7f"
    while rest >= 128:
        encoded, rest = encoded + bytes([rest % 128 | 0x80]), rest // 128
    return encoded + bytes([rest])


def settings(window=None):
    entries = [(2, 0)] + ([] if window is None else [(4, window)])
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in entries))


def streams(method, path, *, extra=(), body=b"", window=None, count=STREAMS):
    sent = settings(window)
    if window:
        sent += frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))
    fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *extra]
    if path == "/ws":
        fields.insert(1, (":protocol", "websocket"))
    flags = END_HEADERS if body or path == "/ws" else END_HEADERS | END_STREAM
    for n in range(count):
        sent += frame(HEADERS, flags, 2 * n + 1, hpack(fields))
    # The body of one stream after the other, in frames of the usual size.
    for n in range(count):
        for start in range(0, len(body), 16384):
            sent += frame(DATA, 0, 2 * n + 1, body[start : start + 16384])
    return sent


def head(start, *lines):
    return "\r\n".join([start, f"Host: {HOST}", *lines, "", ""]).encode()


UPGRADE = head(
    "GET /ws HTTP/1.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
# The first 32 KiB of a masked binary frame of 1 MiB.
HALF_FRAME = b"\x82\xff" + (1 << 20).to_bytes(8, "big") + bytes(4) + bytes(32768)
LARGE = [("x-large", "a" * 12000)]

# Name, ALPN (None: no TLS), bytes, and whether 100 streams are open.
PHASES = [
    ("TCP accepted", None, b"", False),
    ("TLS handshake begun", None, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), False),
    ("TLS complete, no request", "http/1.1", b"", False),
    ("half a request head of 8 KiB", "http/1.1", f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {'a' * 8000}".encode(), False),
    ("request without a response", "http/1.1", head("GET /wait HTTP/1.1"), False),
    ("request body stalled after 32 KiB", "http/1.1", head("POST /wait HTTP/1.1", "Content-Length: 1000000") + bytes(32768), False),
    ("response of 64 MiB not read", "http/1.1", head("GET /large HTTP/1.1"), False),
    ("WebSocket, idle", "http/1.1", UPGRADE, False),
    ("WebSocket, half a frame", "http/1.1", UPGRADE + HALF_FRAME, False),
    ("WebSocket, messages not read", "http/1.1", UPGRADE.replace(b"/ws", b"/flood"), False),
    ("HTTP/2, preface only", "h2", settings(), False),
    ("HTTP/2, 100 requests without a response", "h2", streams("GET", "/wait"), True),
    ("HTTP/2, 100 requests with a head of 12 KiB", "h2", streams("GET", "/wait", extra=LARGE), True),
    ("HTTP/2, 100 WebSockets, idle", "h2", streams("CONNECT", "/ws"), True),
    ("HTTP/2, 100 responses of 64 MiB, no window", "h2", streams("GET", "/large", window=0), True),
    ("HTTP/2, 100 responses of 64 MiB not read", "h2", streams("GET", "/large", window=2**31 - 1), True),
    ("HTTP/2, 100 bodies stalled after 32 KiB", "h2", streams("POST", "/wait", body=bytes(32768)), True),
]


class Backend(asyncio.Protocol):
    """Answers `/ws` and `/flood` with a WebSocket and `/large` with 64 MiB; any other request gets no answer, and its body
    is not read."""

    count = 0

    def connection_made(self, transport):
        self.transport, self.received, self.writing = transport, b"", asyncio.Event()
        self.writing.set()
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

    def data_received(self, data):
        if self.received is None:
            return
        self.received += data
        start, found, _ = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        self.received = None
        path = start.split(b" ")[1]
        Backend.count += 1
        if path in (b"/ws", b"/flood"):
            key = next(line for line in start.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
            key = key.partition(b":")[2].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        if path == b"/flood":
            self.task = asyncio.create_task(self.send(b"\x82\x7e" + (32768).to_bytes(2, "big") + bytes(32768), 2048))
        elif path == b"/large":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
            self.task = asyncio.create_task(self.send(bytes(32768), 2048))
        else:
            self.transport.pause_reading()

    async def send(self, chunk, count):
        for _ in range(count):
            await self.writing.wait()
            if self.transport.is_closing():
                return
            self.transport.write(chunk)

    def connection_lost(self, _):
        self.writing.set()

    def pause_writing(self):
        self.writing.clear()

    def resume_writing(self):
        self.writing.set()


def private_kib(process):
    rollup = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Dirty", "Private_Clean")))


async def settled(process):
    """Returns the private memory once it has not grown for a second."""
    last, since = private_kib(process), 0
    for _ in range(DEADLINE * 5):
        await asyncio.sleep(0.2)
        now = private_kib(process)
        since = since + 1 if abs(now - last) <= 64 else 0
        last = now
        if since == 5:
            break
    return last


async def connect(port, alpn, sent, context):
    """Returns a connection in the phase; it is never read again."""
    raw = socket.socket()
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    if alpn is None:
        reader, writer = await asyncio.open_connection(sock=raw, limit=1)
    else:
        context.set_alpn_protocols([alpn])
        reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname=HOST, limit=1)
        writer.transport.pause_reading()
    if alpn == "h2":
        # The window of the connection is 64 KiB until Lockgate has received the preface.
        start = len(PREFACE) + 9 + int.from_bytes(sent[len(PREFACE) :][:3], "big")
        writer.write(sent[:start])
        await asyncio.sleep(0.2)
        sent = sent[start:]
    writer.write(sent)
    try:
        await asyncio.wait_for(writer.drain(), 2)
    except TimeoutError:
        pass  # Lockgate reads no further.
    return reader, writer


async def measure(lockgate, phase, connections):
    _, alpn, sent, many = phase
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", 0, backlog=4096)
    backend = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "lockgate.toml")
        config.write_text(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\naccess = \"off\"\n"
            f"admin = \"unix:{folder}/admin.sock\"\nlog = {{ level = \"error\" }}\n"
            "[tls]\ndev_ca = true\n[limits]\ntls_handshake = \"60s\"\nrequest_head = \"60s\"\nbody_idle = \"60s\"\n"
            f"[pools.p]\nbackends = [\"ws://127.0.0.1:{backend}\"]\nadmission = {{ handshakes = 100000 }}\n"
            f"[[routes]]\nhosts = [\"{HOST}\"]\npool = \"p\"\norigins = [\"*\"]\n"
        )
        environment = {**os.environ, "HOME": folder, "XDG_DATA_HOME": folder, "TOKIO_WORKER_THREADS": "1"}
        process = subprocess.Popen([lockgate, "run", "--config", str(config)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await listening(lockgate, folder, environment)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            # Memory that is allocated once.
            warm = [await connect(port, alpn, sent, context) for _ in range(2)]
            await settled(process.pid)
            before = private_kib(process.pid)
            count = max(connections // 10, 1) if many else connections
            held = [await connect(port, alpn, sent, context) for _ in range(count)]
            after = await settled(process.pid)
            for _, writer in warm + held:
                writer.transport.abort()
            return (after - before) / count
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
            server.close()


async def listening(lockgate, folder, environment):
    """Returns the port of the https listener."""
    for _ in range(DEADLINE * 10):
        await asyncio.sleep(0.1)
        command = [lockgate, "status", "--json", "--admin", f"unix:{folder}/admin.sock"]
        found = subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE)
        if found.returncode == 0:
            listeners = json.loads(found.stdout)["listeners"]
            return int(next(it["address"] for it in listeners if it["kind"] == "https").rpartition(":")[2])
    raise SystemExit("lockgate does not listen")


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lockgate", nargs="+")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--only", default="", help="phases with this text")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    figures = {}
    print(f"| phase, KiB per connection | {' | '.join(pathlib.Path(it).name for it in arguments.lockgate)} |")
    print(f"|---|{'---|' * len(arguments.lockgate)}")
    for phase in PHASES:
        if arguments.only in phase[0]:
            measured = [await measure(lockgate, phase, arguments.connections) for lockgate in arguments.lockgate]
            figures[phase[0]] = measured
            print(f"| {phase[0]} | {' | '.join(f'{it:,.1f}' for it in measured)} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
