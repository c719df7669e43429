"""The rows of the benchmark."""

import contextlib
import sys
import time
from dataclasses import dataclass, field

from measure import running


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    mode: str
    arguments: dict = field(default_factory=dict)


SPEED = [
    Row("echo64", "echo 64 B ×50", "echo", dict(sessions=50, size=64)),
    Row("echo1k", "echo 1 KiB ×50", "echo", dict(sessions=50, size=1024)),
    Row("echo64k", "echo 64 KiB ×8", "echo", dict(sessions=8, size=65536)),
    Row("full", "full handshake", "handshake", dict(sessions=16)),
    Row("resumed", "resumed", "handshake", dict(sessions=16, resume=True)),
    Row("rate", "echo 1 KiB ×50 at {rate}/s", "echo", dict(sessions=50, size=1024)),
    Row("push", "push 1 KiB ×8", "push", dict(sessions=8, size=1024)),
]
MEMORY = Row("idle", "idle KiB (PSS) per session", "idle")
ROWS = [*SPEED, MEMORY]
RATE = 5_000  # messages per second, which every proxy can relay


class TimeLimitReached(Exception):
    """The time limit of the run has passed."""


def round_of(settings, peers, certificates, end, failed, of=ROWS, number=0):
    """Measures one round. All proxies run and are idle while each one is measured for a row, so that other load on the machine
    affects all of them. The first proxy differs in each round. Memory is measured in every second round, with one new proxy at a
    time."""
    results = {peer.key: {} for peer in peers}
    first = number % max(1, len(peers))
    peers = peers[first:] + peers[:first]

    def one(peer, row, measure):
        if time.monotonic() > end:
            raise TimeLimitReached
        try:
            results[peer.key][row.name] = figures = measure()
        except (RuntimeError, OSError) as error:
            failed(f"{peer.key}, {row.name}: {error}")
        else:
            print(f"{peer.key}, {row.name}: {figures.get('cpu_us', figures.get('session_kib'))}", file=sys.stderr)

    chosen = [row for row in of if not settings.row or row.name in settings.row]
    quick = [row for row in chosen if row.mode != "idle"]
    with contextlib.suppress(TimeLimitReached):
        with contextlib.ExitStack() as stack:
            active = []
            for peer in peers if quick else []:
                try:
                    active.append((peer, stack.enter_context(running(peer, certificates))))
                except (RuntimeError, OSError) as error:
                    failed(f"{peer.key}: {error}")
            for row in quick:
                for peer, it in active:
                    wait_until_idle(active)
                    one(peer, row, lambda it=it, row=row: speed(settings, it, row))
        for row in chosen:
            for peer in peers if row.mode == "idle" and number % 2 == 0 else []:
                one(peer, row, lambda peer=peer, row=row: memory(settings, peer, certificates, row))
    return {key: figures for key, figures in results.items() if figures}


def wait_until_idle(active):
    """Waits until every proxy has finished the work of the last measurement, at most three seconds."""
    used = 0
    for _ in range(15):
        before, used = used, sum(it.cpu() for _, it in active)
        if used - before < 0.02:
            return
        time.sleep(0.2)


def speed(settings, it, row):
    more = dict(rate=RATE) if row.name == "rate" else {}
    return it.speed(row.mode, seconds=settings.seconds, warm=settings.warm, **row.arguments, **more)


def memory(settings, peer, certificates, row):
    with running(peer, certificates) as it:
        return it.memory(settings.sessions, settings.settle, **row.arguments)
