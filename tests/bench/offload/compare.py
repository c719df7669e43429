"""What compression costs a Python server and Lockgate, by who does it: see ../README.md.

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
PATIENCE = 240  # seconds until all sessions are open, or figures come, on a busy machine

# Who compresses: `session.compression`, and the server's own setting.
ROWS = {
    "the server": ("pass", "deflate"),
    "Lockgate (`offload`)": ("offload", "deflate"),
    "nobody (`strip`)": ("strip", "deflate"),
    "nobody (`pass`, the server has it off)": ("pass", "none"),
}


class Lockgate(proxies.Lockgate):
    def __init__(self, compression, *others):
        super().__init__(*others)
        self.compression = compression

    def config(self, hosts):
        return super().config(hosts) + f'\n[session]\ncompression = "{self.compression}"\n'


class Children:
    """What the measurement starts besides Lockgate; all of it ends with the measurement."""

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
        for child in reversed(self.running):  # The clients first, who would complain of the others' end.
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def line(child):
    said = await asyncio.wait_for(child.stdout.readline(), PATIENCE)
    if not said:
        raise RuntimeError("a client or the server ended: what it said stands above")
    return said


async def totals(clients):
    for client in clients:
        client.stdin.write(b"\n")
    each = [json.loads(await line(client)) for client in clients]
    return {name: sum(one[name] for one in each) for name in each[0]}


async def measure(settings, compression, server_has, certificates):
    """One fresh server, one fresh Lockgate, and what each of them holds and does while all sessions talk."""
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
            await line(client)  # They share Python with the server: only now is what it has to itself known.
        idle = {name: processes.pss_mib(pids) for name, pids in both.items()}
        for _ in ("open them", "talk"):
            for client in clients:
                client.stdin.write(b"\n")
            for client in clients:
                await line(client)
        await asyncio.sleep(settings.settle)
        before, spent = await totals(clients), {name: processes.cpu_seconds(pids) for name, pids in both.items()}
        await asyncio.sleep(settings.seconds)
        after, spent_then = await totals(clients), {name: processes.cpu_seconds(pids) for name, pids in both.items()}
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
        result[f"{name}_us"] = (spent_then[name] - spent[name]) * 1e6 / echoed
    for way in ("sent", "received"):
        result[way] = (after[way] - before[way]) / echoed
    return {name: round(value, 1) for name, value in result.items()}


async def everything(settings, certificates):
    results = {row: [] for row in ROWS}
    async with asyncio.timeout(settings.whole):
        for _ in range(settings.rounds):  # Interleaved: what else the machine does meets all rows.
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
    """The median of the runs, and in brackets how far they are apart where that can be seen."""
    print("| who compresses | " + " | ".join(COLUMNS) + " |")
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
    parser.add_argument("--sessions", type=int, help="how many sessions (2000)")
    parser.add_argument("--pause", type=float, default=4, help="seconds between two messages of a session (4)")
    parser.add_argument("--rounds", type=int, help="how often each row is measured (2)")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there")
    given = parser.parse_args()
    if given.quick:
        scale = dict(sessions=40, clients=2, rounds=1, settle=1, seconds=2, whole=50, pause=0.5)
    else:
        scale = dict(sessions=2000, clients=4, rounds=2, settle=8, seconds=20, whole=1200)
    for name in ("sessions", "rounds"):
        scale[name] = getattr(given, name) or scale[name]
    settings = argparse.Namespace(**vars(given) | scale)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), min(hard, DESCRIPTORS)))
    # What was started is ended before this program ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        certificate(Path(folder))
        results = asyncio.run(everything(settings, Path(folder)))
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
