"""The traffic of one address, and the honest client whose handshakes are timed.

    traffic.py PORT CERT honest SECONDS            prints the milliseconds of each handshake as JSON
    traffic.py PORT CERT attack|valid KIND         runs until its input ends

Each kind of attack has a valid form of the same rate: what the attack costs in addition is what counts.
"""

import asyncio
import json
import logging
import ssl
import struct
import sys
import time

HOST, ATTACKER = "bench.test", "127.0.0.2"
HONEST_RATE = 25  # handshakes per second
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UPGRADE = ("GET {path} HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
GET = "GET {path} HTTP/1.1\r\nHost: bench.test\r\n{more}\r\n"


class Client:
    def __init__(self, port, certificate, address):
        self.port, self.address = port, address
        self.tls = ssl.create_default_context(cafile=certificate)
        self.h2 = ssl.create_default_context(cafile=certificate)
        self.h2.set_alpn_protocols(["h2"])
        self.finished = 0

    async def tcp(self):
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))

    async def connect(self, tls=None):
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls or self.tls, server_hostname=HOST, local_addr=(self.address, 0))

    async def once(self, text):
        """Sends one request over a connection of its own and reads the head of the response."""
        reader, writer = await self.connect()
        try:
            writer.write(text.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return head.split()[1]
        finally:
            writer.transport.abort()

    async def paced(self, rate, action, batch=1):
        """Starts `action` at this rate whether or not earlier ones have ended, with a bound on those in progress."""
        running, started = set(), time.monotonic()
        for n in range(1 << 40):
            await asyncio.sleep(max(0.0, started + n * batch / rate - time.monotonic()))
            for _ in range(batch):
                if len(running) < 500:
                    task = asyncio.ensure_future(self.counted(action))
                    running.add(task)
                    task.add_done_callback(running.discard)

    async def counted(self, action):
        try:
            await asyncio.wait_for(action(), 10)
            self.finished += 1
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass

    async def kept_alive(self, rate, connections, text):
        """Sends requests over connections that stay open; a closed one is opened again."""
        async def one():
            while True:
                try:
                    reader, writer = await self.connect()
                    while True:
                        begun = time.monotonic()
                        writer.write(text.encode())
                        head = (await reader.readuntil(b"\r\n\r\n")).lower()
                        length = int(head.split(b"content-length:")[1].split()[0]) if b"content-length:" in head else 0
                        await reader.readexactly(length)
                        self.finished += 1
                        await asyncio.sleep(max(0.0, connections / rate - (time.monotonic() - begun)))
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(connections / rate)
        await asyncio.gather(*(one() for _ in range(connections)))

    async def frames(self, rate, first, frame):
        """Sends frames in batches of 100 over one session, which is opened again when it closes."""
        while True:
            try:
                reader, writer = await self.connect()
                writer.write(UPGRADE.format(path="/").encode())
                await reader.readuntil(b"\r\n\r\n")
                discarding = asyncio.ensure_future(reader.read(1 << 30))
                writer.write(first)
                started = time.monotonic()
                for n in range(1 << 40):
                    await asyncio.sleep(max(0.0, started + n * 100 / rate - time.monotonic()))
                    if discarding.done():
                        break
                    writer.write(frame * 100)
                    await writer.drain()
                    self.finished += 100
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)

    async def streams(self, rate, batch, path, settings=b"", reset=False, hold=0.0):
        """Opens HTTP/2 streams: `batch` per connection and write, at `rate` streams per second."""
        async def one():
            reader, writer = await self.connect(self.h2)
            try:
                writer.write(PREFACE + frame(4, 0, 0, settings))
                if not hold:
                    # A large window for the connection, so that responses are not delayed.
                    writer.write(frame(8, 0, 0, struct.pack(">I", 1 << 30)))
                head = b"\x82\x87\x04" + literal(path) + b"\x01" + literal(HOST)
                for n in range(batch):
                    writer.write(frame(1, 5, 2 * n + 1, head))
                    if reset:
                        writer.write(frame(3, 0, 2 * n + 1, struct.pack(">I", 8)))
                ended = 0
                while hold == 0 and ended < batch and not reset:
                    length, kind, flags, _ = struct.unpack(">3sBBI", await reader.readexactly(9))
                    await reader.readexactly(int.from_bytes(length, "big"))
                    ended += kind == 3 or kind in (0, 1) and flags & 1
                if reset:
                    await reader.read(65536)
                await asyncio.sleep(hold)
            finally:
                writer.transport.abort()
        await self.paced(rate / batch, one)

    async def hello(self):
        """Sends a ClientHello and disconnects."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.tls.wrap_bio(incoming, outgoing, server_hostname=HOST).do_handshake()
        except ssl.SSLWantReadError:
            pass
        reader, writer = await self.tcp()
        writer.write(outgoing.read())
        await reader.read(65536)
        writer.transport.abort()

    async def handshake_only(self):
        _, writer = await self.connect()
        writer.transport.abort()

    async def drip(self, connections, text):
        """Sends one byte per second over each of many connections."""
        async def one():
            while True:
                try:
                    _, writer = await self.connect()
                    for byte in text.encode():
                        writer.write(bytes([byte]))
                        self.finished += 1
                        await asyncio.sleep(1)
                except OSError:
                    await asyncio.sleep(1)
        await asyncio.gather(*(one() for _ in range(connections)))


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(text):
    return bytes([len(text)]) + text.encode()


def masked(first, payload=b""):
    return bytes([first, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


NO_WINDOW = struct.pack(">HI", 4, 0)
WIDE = struct.pack(">HI", 4, 1 << 20)
OK, LONG = GET.format(path="/", more=""), "x-long: " + "x" * 20000 + "\r\n"
# name: (what the attacker sends, its valid form)
KINDS = {
    "tls-abandoned": (lambda c: c.paced(100, c.hello), lambda c: c.paced(100, c.handshake_only)),
    "invalid-paths": (lambda c: c.kept_alive(1000, 10, GET.format(path="/a%2Fb", more="")), lambda c: c.kept_alive(1000, 10, OK)),
    "long-headers": (lambda c: c.paced(100, lambda: c.once(GET.format(path="/", more=LONG))), lambda c: c.paced(100, lambda: c.once(OK))),
    "forbidden-handshakes": (lambda c: c.paced(100, lambda: c.once(UPGRADE.format(path="/denied"))),
                             lambda c: c.paced(100, lambda: c.once(UPGRADE.format(path="/")))),
    "dead-backend": (lambda c: c.paced(100, lambda: c.once(UPGRADE.format(path="/dead"))),
                     lambda c: c.paced(100, lambda: c.once(UPGRADE.format(path="/")))),
    "slow-heads": (lambda c: c.drip(300, OK), lambda c: c.kept_alive(300, 300, OK)),
    "h2-resets": (lambda c: c.streams(1000, 100, "/", reset=True), lambda c: c.streams(1000, 100, "/", WIDE)),
    "h2-unread": (lambda c: c.streams(200, 50, "/large", NO_WINDOW, hold=9), lambda c: c.streams(200, 50, "/large", WIDE)),
    "empty-fragments": (lambda c: c.frames(20000, masked(0x01, b"a"), masked(0x00)), lambda c: c.frames(20000, b"", masked(0x81, b"a"))),
    "pings": (lambda c: c.frames(20000, b"", masked(0x89)), lambda c: c.frames(20000, b"", masked(0x81, b"a"))),
}


async def honest(client, seconds):
    times = []

    async def one():
        begun = time.monotonic()
        status = b"-"
        try:
            status = await asyncio.wait_for(client.once(UPGRADE.format(path="/")), 5)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            pass
        times.append((time.monotonic() - begun) * 1000 if status == b"101" else None)

    tasks, started = [], time.monotonic()
    for n in range(int(HONEST_RATE * seconds)):
        await asyncio.sleep(max(0.0, started + n / HONEST_RATE - time.monotonic()))
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)
    print(json.dumps(times), flush=True)


async def generate(client, run):
    task = asyncio.ensure_future(run(client))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    task.cancel()
    print(client.finished, flush=True)


def main():
    # Connections that the proxy closes are expected here.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    port, certificate, role, value = int(sys.argv[1]), *sys.argv[2:5]
    if role == "honest":
        asyncio.run(honest(Client(port, certificate, "127.0.0.1"), float(value)))
    else:
        attack, valid = KINDS[value]
        asyncio.run(generate(Client(port, certificate, ATTACKER), attack if role == "attack" else valid))


if __name__ == "__main__":
    main()
