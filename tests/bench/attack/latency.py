"""Compares the time of an honest client's handshakes during an attack with the time during valid traffic of the same rate.

    python3 tests/bench/attack/latency.py target/release/lockgate [--only KIND] [--rounds 5] [--seconds 4] [--json FILE]

The proxy runs on core 0; backend, attacker and honest client share core 1. Attacker and honest client have different
addresses of 127.0.0.0/8. Exits with 1 if the median of the ratios of the 99th percentiles exceeds 2 for a kind of attack.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "field"))

from compare import certificate  # noqa: E402
from measure import OTHERS, PROXY, ended, line, started  # noqa: E402
from peer import HOST, free_port, until_it_works  # noqa: E402
from traffic import KINDS  # noqa: E402

LIMIT = 2.0
CONFIG = """
[server]
https = ["127.0.0.1:{port}"]
http = []
admin = "unix:{folder}/admin.sock"

[tls]
certificates = [{{ cert = "cert.pem", key = "key.pem" }}]

[session]
messages_per_second = 100000

[limits]
body_idle = "5s"

[[routes]]
name = "all"
hosts = ["{host}"]
to = "ws://127.0.0.1:{backend}"

[[routes]]
name = "denied"
hosts = ["{host}"]
path = "/denied"
deny = ["0.0.0.0/0", "::/0"]
to = "ws://127.0.0.1:{backend}"

[[routes]]
name = "dead"
hosts = ["{host}"]
path = "/dead"
to = "ws://127.0.0.1:{dead}"
"""


def percentile(times, share):
    failed = sum(it is None for it in times)
    times = sorted(float("inf") if it is None else it for it in times)
    return times[min(len(times) - 1, int(len(times) * share))], failed


def measure(program, folder, kind, role, seconds):
    """Runs a new proxy with this traffic; returns p50 and p99 in milliseconds, failed handshakes, and what the generator did."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    for file in folder.parent.glob("*.pem"):
        (folder / file.name).symlink_to(file)
    python, port = sys.executable, free_port()
    backend = started([python, str(HERE / "backend.py")], OTHERS, folder, stdout=subprocess.PIPE)
    children = [backend]
    try:
        behind = int(line(backend, 10))
        text = CONFIG.format(port=port, folder=folder, host=HOST, backend=behind, dead=free_port())
        (folder / "lockgate.toml").write_text(text)
        with open(folder / "log", "wb") as log:
            proxy = started([program, "run", "--config", "lockgate.toml"], PROXY, folder, stdin=subprocess.PIPE, stdout=log, stderr=log)
        children.append(proxy)
        until_it_works(port, proxy, folder / "cert.pem")
        command = [python, str(HERE / "traffic.py"), str(port), str(folder / "cert.pem")]
        generator = started([*command, role, kind], OTHERS, folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        children.append(generator)
        line(generator, 10)
        time.sleep(1)  # the rate is reached before the first handshake is timed
        honest = started([*command, "honest", str(seconds)], OTHERS, folder, stdout=subprocess.PIPE)
        children.append(honest)
        times = json.loads(line(honest, seconds + 30))
        generator.stdin.close()
        done = int(line(generator, 15))
        p50, failed = percentile(times, 0.5)
        return p50, percentile(times, 0.99)[0], failed, done
    except RuntimeError as error:
        raise RuntimeError(f"{kind}, {role}: {error}\n{(folder / 'log').read_text(errors='replace')[-1000:]}") from error
    finally:
        for child in children:
            ended(child)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockgate", help="the binary to measure")
    parser.add_argument("--only", action="append", choices=KINDS, help="only this kind of attack; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds, of which the median is reported (5)")
    parser.add_argument("--seconds", type=float, default=4, help="duration of each measurement (4)")
    parser.add_argument("--quick", action="store_true", help="a small run that only checks that the measurement works")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 0.5
    program, rows = str(Path(given.lockgate).resolve()), []
    with tempfile.TemporaryDirectory() as folder:
        certificate(Path(folder))
        for kind in given.only or KINDS:
            runs = []
            for _ in range(given.rounds):
                runs.append([measure(program, folder, kind, role, given.seconds) for role in ("valid", "attack")])
            ratio = statistics.median(attack[1] / valid[1] for valid, attack in runs)
            valid, attack = ([statistics.median(run[at][n] for run in runs) for n in range(4)] for at in (0, 1))
            rows.append((kind, valid, attack, ratio))
            print(f"{kind}: p99 {valid[1]:.1f} ms -> {attack[1]:.1f} ms, ratio {ratio:.2f}, "
                  f"failed {valid[2]:.0f} -> {attack[2]:.0f}, actions {valid[3]:.0f} -> {attack[3]:.0f}", flush=True)
    table = ["| attack | p50 valid | p50 attack | p99 valid | p99 attack | ratio of p99 | failed |", "|---|---|---|---|---|---|---|"]
    table += [f"| {kind} | {v[0]:.1f} | {a[0]:.1f} | {v[1]:.1f} | {a[1]:.1f} | {ratio:.2f} | {a[2]:.0f} |" for kind, v, a, ratio in rows]
    print("\n".join(table))
    if given.json:
        fields = ("p50_ms", "p99_ms", "failed", "actions")
        results = {
            kind: {"valid": dict(zip(fields, valid)), "attack": dict(zip(fields, attack)), "ratio": ratio}
            for kind, valid, attack, ratio in rows
        }
        Path(given.json).write_text(json.dumps(results, indent=1) + "\n")
    if given.quick:
        return
    worse = [kind for kind, _, attack, ratio in rows if ratio > LIMIT or attack[2]]
    if worse:
        sys.exit(f"more than {LIMIT} times the p99 of valid traffic, or failed handshakes: {', '.join(worse)}")


if __name__ == "__main__":
    main()
