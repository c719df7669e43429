"""What clients notice of one dead backend in a pool: failures and added latency.

Runs Lockgate in a network namespace of its own for each combination of the number of backends, the way in which one of
them dies, the choice of a backend, and the kind of request. See tests/bench/README.md.
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIZES = [2, 3, 10]
DEATHS = ["drop", "refuse", "silent"]
CHOICES = ["least-sessions", "round-robin", "hash", "sticky"]
KINDS = ["websocket", "http"]

# A client gives up after this time; session.handshake_timeout is 10 s.
CLIENT_TIMEOUT = 13.0
PORT = 9000


class Backend:
    """A server that answers handshakes and plain requests with its number, until it dies."""

    def __init__(self, number):
        self.number, self.is_silent = number, False
        self.address = f"10.9.0.{number + 1}"

    async def start(self):
        ip("addr", "add", f"{self.address}/32", "dev", "lo")
        self.server = await asyncio.start_server(self.serve, self.address, PORT, backlog=1024)

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if self.is_silent:
                    await asyncio.sleep(3600)
                if key := re.search(rb"(?i)sec-websocket-key: *(\S+)", head):
                    writer.write(switching_protocols(key[1], self.number))
                    await writer.drain()
                    await reader.read()
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nX-Backend: %d\r\nContent-Length: 2\r\n\r\nok" % self.number)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def die(self, death):
        if death == "drop":
            # From now on the interface `sink` has the route, and discards what it is given: a SYN is lost.
            ip("addr", "del", f"{self.address}/32", "dev", "lo")
        elif death == "refuse":
            self.server.close()
        else:
            self.is_silent = True


def switching_protocols(key, number):
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"X-Backend: %d\r\nSec-WebSocket-Accept: %s\r\n\r\n" % (number, accept)
    )


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Clients:
    """Sends requests to Lockgate, each over a new connection."""

    def __init__(self, kind, ca, port):
        self.kind, self.port = kind, port
        self.tls = ssl.create_default_context(cafile=ca)
        self.open = []

    async def request(self, more="", kind=None):
        """Returns the latency, whether it succeeded, and the headers of the response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, server_hostname="a.test")
        started = time.monotonic()
        handshake = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        kind = kind or self.kind
        upgrade = handshake if kind == "websocket" else ""
        writer.write(f"GET / HTTP/1.1\r\nHost: a.test\r\n{upgrade}{more}\r\n".encode())
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CLIENT_TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError, OSError):
            head = b""
        latency = time.monotonic() - started
        ok = head.startswith(b"HTTP/1.1 101" if kind == "websocket" else b"HTTP/1.1 200")
        if ok and kind == "websocket":
            # The session stays open, so that it counts for least-sessions.
            self.open.append(writer)
        else:
            writer.close()
        headers = dict(re.findall(r"(?im)^([^:\r\n]+): *(.*?)\r$", head.decode("latin-1")))
        return latency, ok, {name.lower(): value for name, value in headers.items()}


async def measure(lockgate, size, death, choice, kind):
    backends = [Backend(number) for number in range(size)]
    ip("link", "set", "lo", "up")
    # Without ARP, `sink` sends to `hole`, where no address belongs to the packets.
    ip("link", "add", "sink", "type", "veth", "peer", "name", "hole")
    ip("link", "set", "sink", "arp", "off", "up")
    ip("link", "set", "hole", "arp", "off", "up")
    ip("addr", "add", "10.9.0.254/24", "dev", "sink")
    for backend in backends:
        await backend.start()
    balance = choice if choice != "sticky" else "round-robin"
    lines = [f'balance = "{balance}"']
    lines += ['hash = "header:x-key"'] if choice == "hash" else []
    lines += ['sticky = "cookie"'] if choice == "sticky" else []
    addresses = ", ".join(f'"ws://{backend.address}:{PORT}"' for backend in backends)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "lockgate.toml")
        config.write_text(
            f'[server]\nhttps = ["127.0.0.1:8443"]\nhttp = []\nadmin = "unix:{folder}/admin.sock"\naccess = "off"\n'
            "[tls]\ndev_ca = true\n[pools.p]\n"
            f"backends = [{addresses}]\n" + "\n".join(lines) + "\n"
            '[[routes]]\nhosts = ["a.test"]\npool = "p"\norigins = ["*"]\n'
        )
        environment = {"HOME": folder, "LOCKGATE_DATA": f"{folder}/data", "PATH": os.environ["PATH"]}
        log = open(Path(folder, "log"), "wb")
        process = subprocess.Popen([lockgate, "run", "--config", config], env=environment, stdout=log, stderr=log)
        try:
            ca = await ready(lockgate, environment, process, Path(folder, "log"))
            return await phases(Clients(kind, ca, 8443), backends, death, choice)
        finally:
            process.kill()
            process.wait()


async def ready(lockgate, environment, process, log):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"lockgate has ended:\n{log.read_text()}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", 8443)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.05)
    found = subprocess.run([lockgate, "cert", "ca"], env=environment, check=True, capture_output=True, text=True)
    return found.stdout.strip()


async def phases(clients, backends, death, choice):
    # While all backends are alive: the usual latency, and for `sticky` a cookie of each backend.
    usual, cookies = [], {}
    for _ in range(2 * len(backends)):
        latency, ok, headers = await clients.request(kind="http")
        assert ok, headers
        usual.append(latency)
        if "set-cookie" in headers:
            cookies[headers["x-backend"]] = headers["set-cookie"].split(";")[0]
    # No pooled connection to the dead backend is left: Lockgate keeps an idle one for 1.5 s.
    await asyncio.sleep(2)
    backends[0].die(death)
    keys = itertools.count()

    def lines(number):
        if choice == "hash":
            return f"X-Key: {next(keys)}\r\n"
        if choice == "sticky":
            return f"Cookie: {cookies[str(number % len(backends))]}\r\n"
        return ""

    async def spread(count, pause):
        requests = []
        for number in range(count):
            requests.append(asyncio.ensure_future(clients.request(lines(number))))
            await asyncio.sleep(pause)
        return await asyncio.gather(*requests)

    # At least one client for each backend, before anything is known; then the others.
    first = await spread(2 * len(backends), 0.05)
    later = await spread(50, 0.05)

    def summary(results):
        return {
            "clients": len(results),
            "failed": sum(not ok for _, ok, _ in results),
            "slowest": round(max(latency for latency, _, _ in results), 3),
            "median": round(statistics.median(latency for latency, _, _ in results), 3),
        }

    return {"usual": round(statistics.median(usual), 4), "first": summary(first), "later": summary(later)}


def cell(lockgate, combination):
    """Measures one combination in a new network namespace."""
    command = ["unshare", "--net", sys.executable, __file__, "--cell", "/".join(map(str, combination)), lockgate]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{combination}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def table(results):
    print("| death | choice | kind | " + " | ".join(f"{size} backends" for size in SIZES) + " |")
    print("|---|---|---|" + "---|" * len(SIZES))
    for death, choice, kind in itertools.product(DEATHS, CHOICES, KINDS):
        cells = []
        for size in SIZES:
            found = results.get(f"{size}/{death}/{choice}/{kind}")
            parts = [found[part] for part in ("first", "later")] if found else []
            cells.append("; ".join(f"{it['failed']}/{it['clients']}, {it['slowest']:.2f} s" for it in parts) or "–")
        if any(text != "–" for text in cells):
            print(f"| {death} | {choice} | {kind} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lockgate", help="the binary")
    parser.add_argument("--only", action="append", help="a combination such as 2/drop/hash/http, or a part of it")
    parser.add_argument("--quick", action="store_true", help="two backends, refuse and drop")
    parser.add_argument("--json", help="the file for the figures")
    parser.add_argument("--jobs", type=int, default=6, help="combinations that are measured at a time")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    lockgate = os.path.abspath(arguments.lockgate)
    if arguments.cell:
        size, death, choice, kind = arguments.cell.split("/")
        print(json.dumps(asyncio.run(measure(lockgate, int(size), death, choice, kind))))
        return
    if os.geteuid() != 0:
        sys.exit("a network namespace is made, which only root may do")
    combinations = list(itertools.product(SIZES, DEATHS, CHOICES, KINDS))
    if arguments.quick:
        combinations = [one for one in combinations if one[0] == 2 and one[1] != "silent"]
    if arguments.only:
        names = {one: "/".join(map(str, one)) for one in combinations}
        combinations = [one for one in combinations if any(part in names[one] for part in arguments.only)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = pool.map(lambda one: cell(lockgate, one), combinations)
        results = {"/".join(map(str, one)): figures for one, figures in zip(combinations, found)}
    print("Each cell: failures among the first clients and the slowest of them; the same of fifty later clients.\n")
    table(results)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"results": results}, indent=1))


if __name__ == "__main__":
    main()
