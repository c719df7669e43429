"""What is measured, row by row."""

from dataclasses import dataclass, field


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
    # The last: its clients leave in the middle of a message, and a proxy may be busy with that for a while.
    Row("push", "push 1 KiB ×8", "push", dict(sessions=8, size=1024)),
]
MEMORY = Row("idle", "idle KiB (PSS) per session", "idle")
ROWS = [*SPEED, MEMORY]
RATE = 5_000  # messages a second that each proxy can take


def turn(settings, running):
    """One peer's part of one round; `running` starts a fresh one."""
    results = {}
    chosen = [row for row in ROWS if not settings.row or row.name in settings.row]
    speeds = [row for row in chosen if row is not MEMORY]
    if speeds:
        with running() as it:
            for row in speeds:
                more = dict(rate=RATE) if row.name == "rate" else {}
                results[row.name] = it.speed(row.mode, seconds=settings.seconds, warm=settings.warm, **row.arguments, **more)
    if MEMORY in chosen:
        # Not the same one: what those left behind would count as if it had been there before.
        with running() as it:
            results["idle"] = it.memory(settings.sessions, settings.settle)
    return results
