"""Compares runtimes of Lockgate: one thread per core with its own sessions, or threads that share all sessions."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from statistics import median

import rows
from lockgate import Lockgate
from measure import go, line, running

HEAVY = dict(sessions=8, size=65536)
LIGHT = dict(sessions=50, size=1024, rate=2_000)
SPEED = ["echo64", "echo1k", "echo64k", "full", "resumed"]


class OneCore(Lockgate):
    """Pinned to one core. `threads` is TOKIO_WORKER_THREADS; by default Lockgate decides."""

    def __init__(self, settings, label, threads=None):
        super().__init__(settings, label)
        if threads:
            self.environment = {"TOKIO_WORKER_THREADS": str(threads)}


class Shared(Lockgate):
    """One process on all cores."""

    def prepare(self, folder, port, backend):
        return ["taskset", "-c", f"0-{os.cpu_count() - 1}", *super().prepare(folder, port, backend)]

    def first(self, it, accepts):
        """Connects. There is no first process: the threads share the connections."""
        return accepts()


class PerCore(Lockgate):
    """A single-threaded process for each core, all accepting from one socket, like a runtime per core."""

    def prepare(self, folder, port, backend):
        files = []
        for core in range(os.cpu_count()):
            own = folder / str(core)
            own.mkdir()
            for file in folder.glob("*.pem"):
                (own / file.name).symlink_to(file)
            files.append(own / self.file)
            files[-1].write_text(self.config(own, port, backend))
        return [sys.executable, __file__, str(port), self.program, *map(str, files)]

    def first(self, it, accepts):
        """Stops all processes except the first one while `accepts` connects."""
        others = [pid for pid in it.processes() if os.sched_getaffinity(pid) != {0}]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            return accepts()
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)


def measure_all(settings, certificates):
    one = [OneCore(settings, "one thread (default)"), OneCore(settings, "multi-thread, one worker", threads=1)]
    lines = ["| one core: CPU µs per operation | " + " | ".join(row.title for row in rows.SPEED if row.name in SPEED) + " |"]
    lines.append("| --- " * (len(SPEED) + 1) + "|")
    figures = {}
    for _ in range(settings.rounds):
        for peer in one:
            with running(peer, certificates) as it:
                for row in rows.SPEED:
                    if row.name in SPEED:
                        seen = rows.speed(settings, it, row)["cpu_us"]
                        figures.setdefault(peer.label, {}).setdefault(row.name, []).append(seen)
    for label, seen in figures.items():
        lines.append(f"| {label} | " + " | ".join(f"{median(seen[name]):.1f}" for name in SPEED) + " |")
    lines += ["", "| two cores, generator and backend on the same | CPU µs per light message | p50 | p99 | heavy messages per second |"]
    lines.append("| --- " * 5 + "|")
    for skewed in (False, True):
        for peer in (Shared(settings, "one process, shared threads"), PerCore(settings, "one single-threaded process per core")):
            seen = [measure_light(settings, peer, certificates, skewed) for _ in range(settings.rounds)]
            load = "light sessions, with heavy ones on one core" if skewed else "light sessions only"
            cells = [median(figure) for figure in zip(*seen)]
            cpu = "" if skewed else f"{cells[0]:.1f}"
            lines.append(f"| {peer.label}: {load} | {cpu} | {cells[1]:,.0f} | {cells[2]:,.0f} | {cells[3]:,.0f} |")
    return "\n".join(lines)


def measure_light(settings, peer, certificates, skewed):
    """Measures light sessions at a fixed rate. `skewed` adds heavy sessions on one core at full speed."""
    with running(peer, certificates) as it:
        seconds = dict(seconds=settings.seconds, warm=settings.warm)
        if not skewed:
            result = it.speed("echo", **LIGHT, **seconds)
            return result["cpu_us"], result["latency_us"]["p50"], result["latency_us"]["p99"], 0
        heavy = it.generator("echo", **HEAVY, seconds=settings.seconds + 2, warm=0.1)
        child = peer.first(it, heavy.__enter__)
        try:
            with it.generator("echo", **LIGHT, **seconds) as light:
                child.stdin.write(b"\n")
                child.stdin.flush()
                result = go(light, 60)
            done = json.loads(line(child, 60))
        finally:
            heavy.__exit__(None, None, None)
        return 0, result["latency_us"]["p50"], result["latency_us"]["p99"], done["operations"] / done["seconds"]


def launch(port, program, *files):
    """Opens a socket and starts a process for each file, which accepts from it on its own core."""
    with socket.create_server(("127.0.0.1", int(port)), backlog=1024) as listener:
        for core, file in enumerate(files):
            if os.fork() == 0:
                os.sched_setaffinity(0, {core})
                os.dup2(listener.fileno(), 3)
                os.set_inheritable(3, True)
                os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
                os.chdir(Path(file).parent)
                os.execv(program, [program, "run", "--config", file])
    for _ in files:
        os.wait()


if __name__ == "__main__":
    launch(*sys.argv[1:])
