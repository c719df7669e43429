"""The proxies, each configured as its documentation recommends for WebSockets, with one route per host to the same backend.

Common settings: TLS with the same certificate, no access log, one worker or thread per core, up to 8,192 connections. With a
`window` each proxy also gets the setting that limits the lifetime of old sessions.
"""

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path

import processes

COMMAND_TIMEOUT = 10  # seconds for a start, a reload command, a new master


class Proxy:
    """One running proxy in its own directory."""

    setting = None  # the setting that limits the lifetime of old sessions
    version = []  # the arguments that print the version
    replaces_by = "stopped and started"

    def __init__(self, program, folder, backend, window):
        self.program, self.folder, self.backend, self.window = program, Path(folder), backend, window
        self.port, self.admin = free_port(), free_port()
        self.file = self.folder / "proxy.conf"
        self.sessions = set()  # of processes, as setsid(2) makes them
        self.main = None
        self.children = []

    async def start(self, hosts):
        self.file.write_text(self.config(hosts))
        await self.launch()
        await until(self.listens, f"{self.program} listens")

    async def launch(self, *more):
        """Starts the proxy in the foreground; nginx overrides this."""
        with open(self.folder / "log", "ab") as log:
            child = await asyncio.create_subprocess_exec(
                *self.command(), *more, cwd=self.folder, env=self.environment(),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        self.children.append(child)
        self.main = child.pid
        self.sessions.add(self.main)

    async def reload(self, hosts):
        self.file.write_text(self.config(hosts))
        await self.apply()

    async def stop(self):
        """Starts the documented graceful shutdown; does not wait."""
        os.kill(self.main, signal.SIGTERM)

    async def replace(self):
        """Replaces the binary. The default, for proxies without another way, is to stop and start."""
        await self.stop()
        await asyncio.wait_for(self.children[-1].wait(), 60)
        await self.launch()

    def processes(self):
        return processes.of_sessions(self.sessions)

    async def listens(self):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        except OSError:
            return False

    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    async def run(self, *command):
        """Runs a command of the proxy that ends by itself, such as `caddy reload`."""
        with open(self.folder / "log", "ab") as log:
            child = await asyncio.create_subprocess_exec(
                *command, cwd=self.folder, env=self.environment(), stdout=log, stderr=log
            )
            if status := await asyncio.wait_for(child.wait(), COMMAND_TIMEOUT):
                raise RuntimeError(f"{command}: exit {status}\n{self.log()}")

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-2000:]


class Nginx(Proxy):
    setting = "worker_shutdown_timeout"
    replaces_by = "SIGUSR2, SIGQUIT"
    version = ["-v"]

    def config(self, hosts):
        window = f"worker_shutdown_timeout {self.window}s;" if self.window else ""
        user = "user root;" if os.geteuid() == 0 else ""
        servers = "".join(
            f"""
    server {{
        listen 127.0.0.1:{self.port} ssl;
        server_name {host};
        location / {{
            proxy_pass http://127.0.0.1:{self.backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}"""
            for host in hosts
        )
        return f"""
pid nginx.pid;
{user}
worker_processes auto;
worker_rlimit_nofile 20000;
{window}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    server_names_hash_bucket_size 128;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{ listen 127.0.0.1:{self.port} ssl default_server; return 404; }}
    {servers}
}}
"""

    def command(self):
        return [self.program, "-p", str(self.folder), "-c", str(self.file), "-e", str(self.folder / "log")]

    async def launch(self):
        """Starts nginx as a daemon, because in the foreground it cannot replace its binary."""
        await self.run(*self.command())
        # The nginx of Debian writes the file before it calls setsid.
        await until(lambda: (pid := self.pid()) and os.getsid(pid) == pid, "nginx's daemon")
        self.main = self.pid()
        self.sessions.add(self.main)

    def pid(self):
        try:
            return int((self.folder / "nginx.pid").read_text())
        except (OSError, ValueError):
            return None

    async def apply(self):
        os.kill(self.main, signal.SIGHUP)

    async def stop(self):
        os.kill(self.main, signal.SIGQUIT)

    async def replace(self):
        old, before = self.main, len(self.processes())
        os.kill(old, signal.SIGUSR2)
        await until(lambda: self.pid() not in (None, old), "nginx's new master")
        await until(lambda: len(self.processes()) >= 2 * before, "nginx's new workers")
        self.main = self.pid()
        os.kill(old, signal.SIGQUIT)


class Haproxy(Proxy):
    setting = "hard-stop-after"
    replaces_by = "SIGUSR2"
    version = ["-v"]

    def config(self, hosts):
        window = f"hard-stop-after {self.window}s\n    close-spread-time {self.window}s" if self.window else ""
        rules = "".join(f"    use_backend {host} if {{ req.hdr(host),field(1,:) -i {host} }}\n" for host in hosts)
        backends = "".join(f"backend {host}\n    server echo 127.0.0.1:{self.backend}\n" for host in hosts)
        return f"""
global
    maxconn 8192
    {window}
defaults
    mode http
    timeout connect 5s
    timeout http-request 10s
    timeout client 60s
    timeout server 60s
    timeout client-fin 30s
    timeout tunnel 1h
frontend https
    bind 127.0.0.1:{self.port} ssl crt both.pem
{rules}
{backends}
"""

    def command(self):
        return [self.program, "-W", "-f", str(self.file)]

    async def apply(self):
        os.kill(self.main, signal.SIGUSR2)

    async def stop(self):
        os.kill(self.main, signal.SIGUSR1)

    async def replace(self):
        os.kill(self.main, signal.SIGUSR2)


class Caddy(Proxy):
    setting = "stream_close_delay"
    version = ["version"]

    def config(self, hosts):
        window = f"{{\n        stream_close_delay {self.window}s\n    }}" if self.window else ""
        sites = "".join(
            f"""
https://{host}:{self.port} {{
    bind 127.0.0.1
    tls cert.pem key.pem
    reverse_proxy 127.0.0.1:{self.backend} {window}
}}
"""
            for host in hosts
        )
        return f"""
{{
    admin 127.0.0.1:{self.admin}
    persist_config off
    auto_https disable_redirects
    servers {{
        protocols h1 h2
    }}
}}
{sites}
"""

    def command(self):
        return [self.program, "run", "--config", str(self.file), "--adapter", "caddyfile"]

    async def apply(self):
        await self.run(
            self.program, "reload", "--config", str(self.file), "--adapter", "caddyfile",
            "--address", f"127.0.0.1:{self.admin}",
        )


class Lockgate(Proxy):
    setting = "drain.window"
    version = ["--version"]

    def config(self, hosts):
        routes = "".join(
            f'\n[[routes]]\nname = "{host}"\nhosts = ["{host}"]\nto = "ws://127.0.0.1:{self.backend}"\n' for host in hosts
        )
        return f"""
[server]
https = ["127.0.0.1:{self.port}"]
http = []
admin = "unix:{self.folder}/admin.sock"
access = "off"

[drain]
window = "{self.window}s"

[tls]
certificates = [{{ cert = "cert.pem", key = "key.pem" }}]
{routes}
"""

    def command(self):
        return [self.program, "run", "--config", str(self.file)]

    def environment(self):
        return super().environment() | {"LOCKGATE_DATA": str(self.folder / "data")}

    async def apply(self):
        await self.run(self.program, "reload", "--admin", f"unix:{self.folder}/admin.sock")

    async def start(self, hosts):
        child = await asyncio.create_subprocess_exec(
            self.program, "run", "--help", stdout=asyncio.subprocess.PIPE, env=self.environment()
        )
        text, _ = await child.communicate()
        if b"--takeover" in text:  # This build supports it.
            self.replaces_by = "`--takeover`"
        await super().start(hosts)

    async def replace(self):
        if self.replaces_by == "`--takeover`":
            await self.launch("--takeover")
        else:
            await super().replace()


PROXIES = {"nginx": Nginx, "haproxy": Haproxy, "caddy": Caddy, "lockgate": Lockgate}


def find(name, here, lockgate):
    """Returns the path of the program, or None."""
    if name == "lockgate":
        return lockgate and str(Path(lockgate).resolve())
    if name == "caddy":
        return str(here.parent.parent / ".venv-caddy/bin/caddy")
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


async def until(condition, what, seconds=COMMAND_TIMEOUT):
    try:
        async with asyncio.timeout(seconds):
            while True:
                result = condition()
                if await result if asyncio.iscoroutine(result) else result:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise RuntimeError(f"timeout after {seconds} s: {what}") from None
