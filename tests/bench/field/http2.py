"""Compares WebSockets over HTTP/2 (RFC 8441) with HTTP/1.1: one and a hundred on a connection."""

import sys

import table
from rows import Row

SCALE = dict(rounds=1, seconds=1, warm=0.2, sessions=1_000, settle=1.5)
STREAMS = {0: "HTTP/1.1", 1: "HTTP/2, 1 on a connection", 100: "HTTP/2, 100 on a connection"}
KINDS = [
    Row("echo64", "echo 64 B ×100", "echo", dict(sessions=100, size=64)),
    Row("echo1k", "echo 1 KiB ×100", "echo", dict(sessions=100, size=1024)),
    Row("echo64k", "echo 64 KiB ×100", "echo", dict(sessions=100, size=65536)),
    Row("open", "a session opened and closed ×100", "handshake", dict(sessions=100)),
    Row("push", "push 1 KiB ×100", "push", dict(sessions=100, size=1024)),
    Row("idle", "idle KiB (PSS) per session", "idle"),
]


def name(kind, streams):
    return f"{kind.name}/h2x{streams}" if streams else f"{kind.name}/h1"


# Adjacent rows, so that other load on the machine affects all three.
ROWS = [
    Row(name(kind, streams), kind.title, kind.mode, dict(kind.arguments, streams=streams)) for kind in KINDS for streams in STREAMS
]


def supporting(peers):
    for peer in peers:
        if not peer.http2:
            print(f"{peer.label or peer.name} does not support WebSockets over HTTP/2 and is skipped", file=sys.stderr)
    return [peer for peer in peers if peer.http2]


def render(rounds, labels, _settings):
    """Renders three rows for each proxy; each figure of HTTP/2 is followed by its ratio to HTTP/1.1."""
    heads = ["CPU of the proxy, µs per operation", "WebSockets over", *(kind.title for kind in KINDS)]
    lines = [table.line(heads), table.line(["---"] * len(heads))]
    for peer, figures in table.medians(rounds).items():
        for streams, way in STREAMS.items():
            cells = [cell(figures, kind, streams) for kind in KINDS]
            if any(cells):
                lines.append(table.line([labels[peer], way, *cells]))
    return "\n".join(lines)


def cell(figures, kind, streams):
    figure = "session_kib" if kind.mode == "idle" else "cpu_us"
    text = table.number(figures, name(kind, streams), figure)
    base = figures.get(name(kind, 0), {}).get(figure)
    if not text or not streams or not base:
        return text
    return f"{text} (×{figures[name(kind, streams)][figure] / base:.2f})"
