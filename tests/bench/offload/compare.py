"""The cost of compression for a Python server and for Lockgate, by the side that compresses: see ../README.md.

    tests/.venv/bin/python tests/bench/offload/compare.py [--quick] target/release/lockgate
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "reload"))

import processes
import proxies
from certificate import certificate

HOST = "chat.bench.test"
DESCRIPTORS = 20_000
STEP_TIMEOUT = 240  # seconds for opening all sessions, or for a report, on a busy machine

# The side that compresses: `session.compression`, and the setting of the server.
ROWS = {
    "the server": ("pass", "deflate"),
    "Lockgate (`offload`)": ("offload", "deflate"),
    "no compression (`strip`)": ("strip", "deflate"),
    "no compression (`pass`, disabled in the server)": ("pass", "none"),
}


class Lockgate(proxies.Lockgate):
    def __init__(self, compression, *others):
        super().__init__(*others)
        self.compression = compression

    def config(self, hosts):
        return super().config(hosts) + f'\n[session]\ncompression = "{self.compression}"\n'


class Children:
    """The processes of a measurement except Lockgate; they end with the measurement."""

    def __init__(self):
        self.running = []

    async def start(self, program, *arguments):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / program), *map(str, arguments),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        self.running.append(child)
        return child

    async def end(self):
        for child in reversed(self.running):  # The clients first, because they report an error if the server ends.
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def line(child):
    text = await asyncio.wait_for(child.stdout.readline(), STEP_TIMEOUT)
    if not text:
        raise RuntimeError("a client or the server ended: see its output above")
    return text


async def totals(clients):
    for client in clients:
        client.stdin.write(b"\n")
    each = [json.loads(await line(client)) for client in clients]
    return {name: sum(one[name] for one in each) for name in each[0]}


async def measure(settings, compression, server_has, certificates):
    """Starts a server and Lockgate, and measures memory and CPU time of both while all sessions send."""
    children, folder = Children(), tempfile.TemporaryDirectory(prefix="bench-")
    for file in ("cert.pem", "key.pem"):
        (Path(folder.name) / file).write_bytes((certificates / file).read_bytes())
    gate = None
    try:
        server = await children.start("server.py", server_has)
        gate = Lockgate(compression, str(Path(settings.lockgate).resolve()), folder.name, int(await line(server)), 10)
        await gate.start([HOST])
        both = {"server": [server.pid], "lockgate": gate.processes()}
        share = settings.sessions // settings.clients
        clients = [
            await children.start("clients.py", gate.port, HOST, certificates / "cert.pem", share, settings.pause)
            for _ in range(settings.clients)
        ]
        for client in clients:
            await line(client)  # The clients share pages of Python with the server: its own memory is known only from here on.
        idle = {name: processes.pss_mib(pids) for name, pids in both.items()}
        for _ in ("open", "start"):
            for client in clients:
                client.stdin.write(b"\n")
            for client in clients:
                await line(client)
        await asyncio.sleep(settings.settle)
        before, spent = await totals(clients), {name: processes.cpu_seconds(pids) for name, pids in both.items()}
        await asyncio.sleep(settings.seconds)
        after, spent_after = await totals(clients), {name: processes.cpu_seconds(pids) for name, pids in both.items()}
        held = {name: processes.pss_mib(pids) for name, pids in both.items()}
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n{gate and gate.log()}") from error
    finally:
        await children.end()
        if gate:
            processes.kill(gate.processes())
            for child in gate.children:
                await child.wait()
        folder.cleanup()
    sessions, echoed = share * settings.clients, after["echoed"] - before["echoed"]
    result = {name: after[name] for name in ("opened", "compressed", "ended", "wrong")} | {"echoed": echoed}
    if (after["opened"], after["ended"], after["wrong"]) != (sessions, 0, 0) or not echoed:
        raise RuntimeError(f"sessions ended or an echo was wrong: {after}")
    for name in both:
        result[f"{name}_kib"] = (held[name] - idle[name]) * 1024 / sessions
        result[f"{name}_us"] = (spent_after[name] - spent[name]) * 1e6 / echoed
    for way in ("sent", "received"):
        result[way] = (after[way] - before[way]) / echoed
    return {name: round(value, 1) for name, value in result.items()}


async def measure_all(settings, certificates):
    results = {row: [] for row in ROWS}
    async with asyncio.timeout(settings.time_limit):
        for _ in range(settings.rounds):  # Interleaved, so that other load on the machine affects all rows.
            for row, (compression, server_has) in ROWS.items():
                results[row].append(await measure(settings, compression, server_has, certificates))
                print(f"{row}: {results[row][-1]}", file=sys.stderr)
    return results


COLUMNS = {
    "server: KiB per session": "server_kib", "server: CPU µs per message": "server_us",
    "Lockgate: KiB per session": "lockgate_kib", "Lockgate: CPU µs per message": "lockgate_us",
    "bytes from the client": "sent", "bytes to the client": "received",
}


def render(results):
    """Prints the median of the runs, with the range in brackets if it is not one value."""
    print("| compression by | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for row, runs in results.items():
        cells = []
        for column in COLUMNS.values():
            values = sorted(run[column] for run in runs)
            low, high = round(values[0]), round(values[-1])
            cells.append(f"{statistics.median(values):.0f}" + (f" ({low}–{high})" if high > low else ""))
        print(f"| {row} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockgate", help="the binary to measure")
    parser.add_argument("--sessions", type=int, help="number of sessions (2000)")
    parser.add_argument("--pause", type=float, default=4, help="seconds between two messages of a session (4)")
    parser.add_argument("--rounds", type=int, help="number of measurements of each row (2)")
    parser.add_argument("--quick", action="store_true", help="a small run that only checks that the benchmark works")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file")
    given = parser.parse_args()
    if given.quick:
        scale = dict(sessions=40, clients=2, rounds=1, settle=1, seconds=2, time_limit=50, pause=0.5)
    else:
        scale = dict(sessions=2000, clients=4, rounds=2, settle=8, seconds=20, time_limit=1200)
    for name in ("sessions", "rounds"):
        scale[name] = getattr(given, name) or scale[name]
    settings = argparse.Namespace(**vars(given) | scale)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), min(hard, DESCRIPTORS)))
    # With an exception instead of a kill, every started process is ended first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        certificate(Path(folder))
        results = asyncio.run(measure_all(settings, Path(folder)))
    about = {
        "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2), "sessions": settings.sessions, "pause": settings.pause,
        "seconds": round(time.monotonic() - began),
        "lockgate": subprocess.run([settings.lockgate, "--version"], capture_output=True, text=True, timeout=10).stdout.strip(),
    }
    render(results)
    print(f"\n{about}")
    if settings.json:
        Path(settings.json).write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")


main()
