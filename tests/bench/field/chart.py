"""Draws the medians as a chart for the README: plain SVG, without a background.

    tests/bench/field/chart.py figures.json chart.svg
"""

import json
import sys
from html import escape
from pathlib import Path

from peers import PEERS
from table import medians

PANELS = [
    ("echo64", "cpu_us", "echo 64 B, 50 sessions: µs of CPU"),
    ("echo1k", "cpu_us", "echo 1 KiB, 50 sessions: µs of CPU"),
    ("echo64k", "cpu_us", "echo 64 KiB, 8 sessions: µs of CPU"),
    ("full", "cpu_us", "connection with a full handshake: µs of CPU"),
    ("resumed", "cpu_us", "connection with a resumed handshake: µs of CPU"),
    ("idle", "session_kib", "an idle session: KiB"),
    ("idle", "left_mib", "after {sessions:,} sessions: MiB"),
]
# Contrast of at least 4 : 1 against white and against black.
TEXT, BAR, OURS = "#6e7781", "#8c959f", "#1489b8"
COLUMNS, BAR_WIDTH, FIGURE, LINE, HEAD = 2, 240, 70, 18, 34


def draw(figures, labels, sessions):
    labels = labels | {"forward": "raw forwarder"}
    panels = [(title.format(sessions=sessions), bars(figures, row, figure)) for row, figure, title in PANELS]
    panels = [panel for panel in panels if panel[1]]
    left = 26 + 7 * max((len(labels.get(peer, peer)) for peer in figures), default=0)
    wide, high = left + BAR_WIDTH + FIGURE, HEAD + LINE * len(figures) + 16
    size = COLUMNS * wide, -(-len(panels) // COLUMNS) * high
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}" role="img">',
        "<title>CPU and memory of Lockgate and of other proxies; less is better</title>",
    ]
    for index, (title, values) in enumerate(panels):
        parts.append(f'<g transform="translate({index % COLUMNS * wide}, {index // COLUMNS * high})">')
        parts.append(f'<text x="8" y="20" font-weight="600">{escape(title)}</text>')
        maximum = max(value for _, value in values)
        for line, (peer, value) in enumerate(values):
            parts += bar(left, HEAD + line * LINE, labels.get(peer, peer), value, value / maximum, peer == "lockgate")
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def bars(figures, row, figure):
    return sorted(((peer, rows[row][figure]) for peer, rows in figures.items() if row in rows), key=lambda one: one[1])


def bar(left, top, label, value, part, ours):
    width = max(1, round(part * BAR_WIDTH))
    weight = ' font-weight="600"' if ours else ""
    shown = f"{value:.0f}" if value >= 100 else f"{value:.1f}"
    return [
        f'<text x="{left - 6}" y="{top + 12}" text-anchor="end"{weight}>{escape(label)}</text>',
        f'<rect x="{left}" y="{top + 2}" width="{width}" height="{LINE - 5}" rx="2" fill="{OURS if ours else BAR}"/>',
        f'<text x="{left + width + 6}" y="{top + 12}"{weight}>{shown}</text>',
    ]


def main():
    figures = json.loads(Path(sys.argv[1]).read_text())
    labels = {name: peer.label or name for name, peer in PEERS.items()}
    Path(sys.argv[2]).write_text(draw(medians(figures["results"]), labels, figures["about"]["sessions"]))


if __name__ == "__main__":
    main()
