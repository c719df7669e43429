"""Renders the medians as Markdown, with a row for each proxy."""

from statistics import median

from rows import RATE, SPEED

CPU = [row for row in SPEED if row.name != "rate"]


def medians(rounds):
    """Converts {peer: [{row: figures}]} to {peer: {row: {figure: median}}}."""
    result = {}
    for peer, turns in rounds.items():
        for row in dict.fromkeys(name for turn in turns for name in turn):
            samples = [turn[row] for turn in turns if row in turn]
            result.setdefault(peer, {})[row] = median_of(samples)
    return result


def median_of(samples):
    """Returns the median of each number, at any depth."""
    if isinstance(samples[0], dict):
        return {key: median_of([one[key] for one in samples if key in one]) for key in samples[0]}
    return median(samples)


def render(rounds, labels, settings):
    figures = medians(rounds)
    heads = ["CPU of the proxy, µs per operation", *(row.title for row in CPU), "idle KiB (PSS) per session",
             f"MiB left after closing {settings.sessions:,} (before)"]
    if settings.switches:
        # Measurable only with a Ping every second.
        heads.append("idle µs per session and second")
    lines = [line(heads), line(["---"] * len(heads))]
    for peer, rows in figures.items():
        cells = [number(rows, row.name, "cpu_us") for row in CPU]
        left = number(rows, "idle", "left_mib"), number(rows, "idle", "before_mib")
        cells += [number(rows, "idle", "session_kib"), f"{left[0]} ({left[1]})" if left[0] else ""]
        if settings.switches:
            cells.append(number(rows, "idle", "held_cpu_us"))
        lines.append(line([labels[peer], *cells]))
    for more in latencies(figures, labels), throughput(figures, labels):
        if len(more) > 2:
            lines += ["", *more]
    return "\n".join(lines)


def latencies(figures, labels):
    heads = [f"µs from the intended send time to the echo, 1 KiB ×50, {RATE:,}/s in total", "p50", "p90", "p99", "p99.9", "max"]
    lines = [line(heads), line(["---"] * len(heads))]
    for peer, rows in figures.items():
        if "rate" in rows:
            lines.append(line([labels[peer], *(f"{value:,.0f}" for value in rows["rate"]["latency_us"].values())]))
    return lines


def throughput(figures, labels):
    heads = ["operations per second, generator and backend on the other core", *(row.title for row in CPU)]
    lines = [line(heads), line(["---"] * len(heads))]
    for peer, rows in figures.items():
        cells = [f"{rows[row.name]['operations'] / rows[row.name]['seconds']:,.0f}" if row.name in rows else "" for row in CPU]
        lines.append(line([labels[peer], *cells]))
    return lines


def number(rows, row, figure):
    if row not in rows:
        return ""
    value = rows[row][figure]
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def line(cells):
    return "| " + " | ".join(cells) + " |"
