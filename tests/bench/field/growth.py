"""Measures Lockgate with increasing numbers of sessions, routes and certificates."""

import ssl
import subprocess
import sys
import time

from lockgate import Lockgate
from measure import running
from peer import HOST

SESSIONS = [10, 100, 1_000, 9_000]
MANY = [1, 10, 100, 1_000, 10_000]
RATE = 5_000  # messages per second of all sessions together


def sessions(settings, certificates, numbers):
    lines = [["sessions", "echo 64 B, µs", "p50, µs", "p99, µs"]]
    for number in numbers:
        with running(Lockgate(settings), certificates) as it:
            figures = it.speed("echo", sessions=number, size=64, rate=RATE, seconds=2 * settings.seconds)
        lines.append([number, figures["cpu_us"], figures["latency_us"]["p50"], figures["latency_us"]["p99"]])
    return lines


def routes(settings, certificates, numbers):
    heads = ["routes"]
    return many(settings, certificates, numbers, heads, lambda more: dict(hosts=[f"r{at:05}.{HOST}" for at in range(more)]))


def names(settings, certificates, numbers):
    heads = ["certificates"]
    return many(settings, certificates, numbers, heads, lambda more: dict(certificates=lambda folder: copies(folder, more)))


def many(settings, certificates, numbers, heads, switches):
    lines = [[*heads, "start, s", "CPU after the start, s", "MiB", "full handshake, µs", "resumed, µs", "echo 64 B, µs",
              "reload, s", "MiB after reload"]]
    for number in numbers:
        peer = Lockgate(settings, **switches(number - 1))
        began = time.monotonic()
        with running(peer, certificates) as it:
            start = time.monotonic() - began
            line = [number, round(start, 2), settled(it), round(it.mib(), 1)]
            timing = dict(seconds=settings.seconds, warm=settings.warm)
            line.append(it.speed("handshake", sessions=16, **timing)["cpu_us"])
            line.append(it.speed("handshake", sessions=16, resume=True, **timing)["cpu_us"])
            line.append(it.speed("echo", sessions=50, size=64, **timing)["cpu_us"])
            line += [reload(it, peer), round(it.mib(), 1)]
        lines.append(line)
        print(dict(zip(lines[0], line)), file=sys.stderr)
    return lines


def settled(it):
    """Waits until the process is idle after its start, so that this work is not attributed to sessions. Returns its CPU time."""
    began = before = it.cpu()
    for _ in range(30):
        time.sleep(1)
        now = it.cpu()
        if now - before < 0.02:
            break
        before = now
    return round(now - began, 2)


def reload(it, peer):
    """Adds a route and returns the duration of `lockgate reload`."""
    with open(it.folder / peer.file, "a") as file:
        file.write(f'\n[[routes]]\nname = "new"\nhosts = ["new.{HOST}"]\nto = "ws://127.0.0.1:9"\n')
    began = time.monotonic()
    command = [peer.program, "reload", "--admin", f"unix:{it.folder}/admin.sock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    took = round(time.monotonic() - began, 2)
    if done.returncode:
        print(f"reload: {done.stdout}{done.stderr}", file=sys.stderr)
        return f"failed after {took}"
    return took


def copies(folder, number):
    """Creates certificates for other names, each with a key file: copies of one certificate with the name replaced. Their
    signatures are invalid, but they are never presented, and creating ten thousand with openssl would take minutes."""
    name = f"c00000.{HOST}"
    made = folder / "made.der"
    subprocess.run(
        ["openssl", "req", "-x509", "-key", folder / "key.pem", "-days", "7", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-outform", "DER", "-out", made],
        check=True, capture_output=True,
    )
    der, key = made.read_bytes(), (folder / "key.pem").read_text()
    files = []
    for at in range(number):
        renamed = der.replace(b"c00000", f"c{at:05}".encode())
        (folder / f"c{at}.pem").write_text(ssl.DER_cert_to_PEM_cert(renamed))
        (folder / f"c{at}.key").write_text(key)
        files.append((f"c{at}.pem", f"c{at}.key"))
    return files


def render(lines):
    heads, *rest = lines
    rows = [heads, ["---"] * len(heads), *rest]
    return "\n".join("| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |" for row in rows)


def measure_all(settings, certificates):
    """Returns the tables as Markdown."""
    maximum = 100 if settings.quick else 10_000
    parts = [(sessions, SESSIONS), (routes, MANY), (names, MANY)]
    return "\n\n".join(render(part(settings, certificates, [number for number in numbers if number <= maximum])) for part, numbers in parts)
