"""Starts, measures and ends one proxy between the load generator and the backend, on loopback."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reload"))

import processes  # noqa: E402
from peer import START_TIMEOUT, free_port, until_it_works  # noqa: E402

PROXY, OTHERS = 0, 1  # cores
ROW_TIMEOUT = 60  # seconds for a row in addition to its configured duration


def started(command, core, folder, environment=None, **more):
    """Starts a command on one core and in a new session, which identifies its processes."""
    core = core if core < os.cpu_count() else 0
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LOCKGATE_DATA": str(folder / "data"), **(environment or {})}
    return subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}), **more,
    )


def ended(child):
    processes.kill(processes.of_sessions({child.pid}))
    child.wait()


@contextlib.contextmanager
def running(peer, certificates):
    """Runs a new proxy in a new directory, and a new backend; yields an object that measures them."""
    folder = certificates / f"{peer.name}-{time.monotonic_ns()}"
    folder.mkdir()
    for file in certificates.glob("*.pem"):
        (folder / file.name).symlink_to(file)
    load = str(peer.settings.load)
    backend = started([load, "backend"], OTHERS, folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        behind, port = int(line(backend, START_TIMEOUT)), free_port()
        command = peer.prepare(folder, port, behind)
        # Not in the directory of certificates and configuration: some proxies watch it, and each line would wake them.
        log_file = certificates / "logs" / folder.name
        log_file.parent.mkdir(exist_ok=True)
        with open(log_file, "ab") as log:
            # Processes of this benchmark end with their input, so that they end even if this program is killed.
            proxy = started(command, PROXY, folder, peer.environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            until_it_works(port, proxy, folder / "cert.pem")
            yield Running(proxy, port, load, folder)
        except RuntimeError as error:
            log = log_file.read_text(errors="replace")[-1000:]
            raise RuntimeError(f"{peer.name}: {error}\n{log}") from error
        finally:
            ended(proxy)
    finally:
        ended(backend)


class Running:
    def __init__(self, proxy, port, load, folder):
        self.proxy, self.port, self.load, self.folder = proxy, port, load, folder

    def processes(self):
        return processes.of_sessions({self.proxy.pid})

    def cpu(self):
        return processes.cpu_seconds(self.processes())

    def mib(self):
        return processes.pss_mib(self.processes())

    @contextlib.contextmanager
    def generator(self, mode, **arguments):
        command = [self.load, mode, "--to", f"127.0.0.1:{self.port}", "--cert", str(self.folder / "cert.pem")]
        for name, value in arguments.items():
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        child = started(command, OTHERS, self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if (answer := line(child, ROW_TIMEOUT)) != "ready":
                raise RuntimeError(f"{mode}: {answer}")
            yield child
        finally:
            ended(child)
            for pipe in (child.stdin, child.stdout, child.stderr):
                pipe.close()

    def speed(self, mode, **arguments):
        """Measures the CPU time of all processes of the proxy per operation. The sessions are already open."""
        with self.generator(mode, **arguments) as child:
            used = self.cpu()
            result = go(child, arguments.get("seconds", 2) + ROW_TIMEOUT)
            used = self.cpu() - used
        if not result["operations"] or result["failures"]:
            raise RuntimeError(f"{mode} {arguments}: {result}")
        result["cpu_us"] = round(used / result["operations"] * 1e6, 2)
        result["busy"] = round(used / result["seconds"], 2)
        return result

    def memory(self, sessions, settle, **arguments):
        """Measures the PSS before, while `sessions` sessions are open and idle, and after they have closed."""
        before = self.mib()
        with self.generator("idle", sessions=sessions, **arguments) as child:
            used = self.cpu()
            time.sleep(settle)
            used = self.cpu() - used
            held = self.mib()
            result = go(child, ROW_TIMEOUT)
        if result["failures"]:
            raise RuntimeError(f"idle: {result}")
        time.sleep(settle)
        return {
            "sessions": sessions,
            "before_mib": round(before, 1),
            "held_mib": round(held, 1),
            "left_mib": round(self.mib(), 1),
            "held_cpu_us": round(used * 1e6 / sessions / settle, 2),
            "session_kib": round((held - before) * 1024 / sessions, 2),
        }


def go(child, seconds):
    child.stdin.write(b"\n")
    child.stdin.flush()
    return json.loads(line(child, seconds))


def line(child, seconds):
    """Returns one line, or raises an error with the reason."""
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    text = child.stdout.readline().decode().strip() if ready else ""
    if text:
        return text
    if not ready:
        raise RuntimeError(f"no output within {seconds} s")
    raise RuntimeError(child.stderr.read().decode().strip() if child.stderr else "ended")
