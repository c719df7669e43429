"""The results as a Markdown table: a column for each proxy, a row for each figure."""


def render(results, settings):
    columns = list(results)
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for scenario, title, rows in TABLE:
        if not any(scenario in result for result in results.values()):
            continue
        lines.append(f"| **{title.format(s=settings)}** |" + " |" * len(columns))
        for label, figure in rows:
            cells = [cell(results[column].get(scenario), figure) for column in columns]
            lines.append(f"| {label.format(s=settings)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(result, figure):
    if result is None:
        return ""
    if "error" in result:
        return "failed"
    return str(figure(result))


def closes(result):
    codes = ", ".join(f"{count} × {code}" for code, count in result["codes"].items() if code not in ("1006", "silent"))
    return codes or "0"


def left_after(result):
    return "not yet" if result["left_after"] is None else f"{result['left_after']} s"


def over_seconds(result):
    return f"{result['over_seconds']} s" if result["ended"] else ""


def failed(result):
    knocks = sum(result["knocks"].values())
    return f"{result['knocks_failed']} of {knocks}"


ENDS = [
    ("closed with a Close frame (× code)", closes),
    ("closed without one (1006)", lambda it: it["bare"]),
    ("maximum of ends per second", lambda it: it["peak_per_second"]),
    ("time until the last close", over_seconds),
]

TABLE = [
    ("reloads", "{s.reloads} reloads, each adds a route", [
        ("sessions dropped", lambda it: f"{it['ended']} of {it['sessions']}"),
        ("of them with a Close frame (× code)", lambda it: closes(it) if it["ended"] else ""),
        ("messages lost", lambda it: it["messages_lost"] + it["messages_wrong"]),
        ("new sessions refused", lambda it: it["refused"]),
        ("additional processes", lambda it: it["processes_left"]),
        ("additional memory, MiB (before)", lambda it: f"{it['memory_left']:+} ({it['memory_before']})"),
    ]),
    ("removal", "own route removed", ENDS + [
        ("still open after {s.limit} s", lambda it: it["still_open"]),
    ]),
    ("stop", "graceful shutdown", ENDS + [
        ("still open after {s.limit} s", lambda it: it["still_open"]),
        ("process ended after", left_after),
    ]),
    ("replacement", "binary replaced, {s.rate} new connections per second", [
        ("how", lambda it: it["way"]),
        ("connections refused or reset", failed),
    ] + ENDS + [
        ("still open on the old process", lambda it: it["still_open"]),
    ]),
]
