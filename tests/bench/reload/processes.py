"""Reads /proc for the processes of a proxy: all processes of the sessions (setsid) that were started for it."""

import os
import signal
from pathlib import Path


def of_sessions(sessions):
    if os.getsid(0) in sessions:
        raise RuntimeError("the proxy has no session of its own: other processes of this session would be counted and killed")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # The process has ended.
        if state != "Z" and int(session) in sessions:
            found.append(int(entry.name))
    return sorted(found)


def pss_mib(pids):
    """Returns the proportional set size, which counts shared pages once."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pids):
    """Returns the CPU time of all threads, including ended ones, and of the children that were waited for."""
    ticks = 0
    for pid in pids:
        try:
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
