"""The proxies, each with a configuration for production: one host over TLS, one backend, one core, no access log.

What they have in common: the same certificate, TLS 1.3, tickets, room for 9,000 sessions, an hour of quiet allowed to a
session. Where a proxy does not see by itself that it has one core, it is told. Lockgate has its defaults and what `metrics`
adds: frames tracked, Pings, access lines written to a file, metrics served.
"""

import os
import shutil
import socket
import ssl
import time
from pathlib import Path

HOST = "bench.test"
HERE = Path(__file__).resolve().parent
TESTS = HERE.parent.parent
PATIENCE = 15  # seconds for a start


class Peer:
    """How one proxy is started; `program` is where it is, or None."""

    label = None
    version = ["--version"]
    missing = "apt-get install {name}"

    def __init__(self, settings):
        self.settings = settings
        self.program = self.find()

    @property
    def name(self):
        return type(self).__name__.lower()

    @property
    def key(self):
        """What its figures are kept under."""
        return self.name

    def find(self):
        return shutil.which(self.name, path=os.environ["PATH"] + ":/usr/sbin")

    def prepare(self, folder, port, backend):
        """Writes what it reads, and gives the command."""
        (folder / self.file).write_text(self.config(folder, port, backend))
        return [part.format(program=self.program, folder=folder) for part in self.command]


class FromPyPi(Peer):
    missing = "tests/bench/field/compare.py --install"
    where = "bin/{name}"

    def find(self):
        """Not the script that pip makes: one process more, and Python's."""
        found = list((TESTS / ".venv-field").glob(self.where.format(name=self.name)))
        return str(found[0]) if found else None


class Forward(Peer):
    label = "raw tokio-rustls byte forwarder"
    version = None

    def find(self):
        return str(self.settings.load)

    def prepare(self, folder, port, backend):
        return [self.program, "forward", "--listen", str(port), "--to", f"127.0.0.1:{backend}",
                "--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]


class Nginx(Peer):
    version = ["-v"]
    file = "nginx.conf"
    command = ["{program}", "-p", "{folder}", "-c", "{folder}/nginx.conf", "-e", "{folder}/error.log"]

    def config(self, folder, port, backend):
        user = "user root;" if os.geteuid() == 0 else ""
        bodies = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""
pid {folder}/nginx.pid;
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
    access_log off;
    {bodies}
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:SSL:10m;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        server_name {HOST};
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"""


class Haproxy(Peer):
    version = ["-v"]
    label = "HAProxy"
    file = "haproxy.cfg"
    command = ["{program}", "-W", "-f", "{folder}/haproxy.cfg"]

    def config(self, folder, port, backend):
        return f"""
global
    maxconn 9500
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 5s
    timeout http-request 10s
    timeout client 60s
    timeout server 60s
    timeout client-fin 30s
    timeout tunnel 1h
frontend https
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem
    default_backend echo
backend echo
    server echo 127.0.0.1:{backend}
"""


class Caddy(FromPyPi):
    label = "Caddy"
    version = ["version"]
    file = "Caddyfile"
    command = ["{program}", "run", "--config", "{folder}/Caddyfile", "--adapter", "caddyfile"]

    def config(self, folder, port, backend):
        return f"""
{{
    admin off
    persist_config off
    auto_https disable_redirects
    servers {{
        protocols h1 h2
    }}
}}
https://{HOST}:{port} {{
    bind 127.0.0.1
    tls {folder}/cert.pem {folder}/key.pem {{
        protocols tls1.3
    }}
    reverse_proxy 127.0.0.1:{backend}
}}
"""


class Traefik(FromPyPi):
    label = "Traefik"
    version = ["version"]
    file = "traefik.toml"
    command = ["{program}", "--configfile={folder}/traefik.toml"]

    def config(self, folder, port, backend):
        (folder / "routes.toml").write_text(f"""
[http.routers.echo]
rule = "Host(`{HOST}`)"
service = "echo"
[http.routers.echo.tls]
[[http.services.echo.loadBalancer.servers]]
url = "http://127.0.0.1:{backend}"
[tls.options.default]
minVersion = "VersionTLS13"
[[tls.certificates]]
certFile = "{folder}/cert.pem"
keyFile = "{folder}/key.pem"
""")
        return f"""
[global]
checkNewVersion = false
sendAnonymousUsage = false
[log]
level = "ERROR"
[entryPoints.https]
address = "127.0.0.1:{port}"
[providers.file]
filename = "{folder}/routes.toml"
"""


class Envoy(FromPyPi):
    label = "Envoy"
    where = "lib/python*/site-packages/envoy/_bin/envoy"
    file = "envoy.yaml"
    command = ["{program}", "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c", "{folder}/envoy.yaml"]

    def config(self, folder, port, backend):
        package = "type.googleapis.com/envoy.extensions"
        return f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": {package}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: {folder}/cert.pem }}
              private_key: {{ filename: {folder}/key.pem }}
      filters:
      - name: http
        typed_config:
          "@type": {package}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: https
          stream_idle_timeout: 3600s
          # By default a second in which a client that awaits the end of the connection, as RFC 6455 has it, still waits.
          delayed_close_timeout: 0s
          upgrade_configs: [{{ upgrade_type: websocket }}]
          route_config:
            virtual_hosts:
            - name: echo
              domains: ["{HOST}", "{HOST}:*"]
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: echo, timeout: 0s }} }}]
          http_filters:
          - name: router
            typed_config: {{ "@type": {package}.filters.http.router.v3.Router }}
  clusters:
  - name: echo
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_requests: 20000, max_pending_requests: 20000 }}] }}
    load_assignment:
      cluster_name: echo
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }} }}
"""


class Sozu(Peer):
    label = "Sōzu"
    missing = "cargo install sozu --version 2.3.3 --locked --root tests/bench/field/peers"
    file = "sozu.toml"
    command = ["{program}", "start", "-c", "{folder}/sozu.toml"]

    def find(self):
        return self.settings.sozu or shutil.which("sozu", path=f"{HERE}/peers/bin:" + os.environ["PATH"])

    def config(self, folder, port, backend):
        return f"""
command_socket = "{folder}/sozu.sock"
log_level = "error"
log_target = "stdout"
worker_count = 1
max_connections = 9500
max_buffers = 40000
activate_listeners = true
front_timeout = 3600
back_timeout = 3600

[[listeners]]
protocol = "https"
address = "127.0.0.1:{port}"
tls_versions = ["TLS_V13"]

[clusters.echo]
protocol = "http"
frontends = [{{ address = "127.0.0.1:{port}", hostname = "{HOST}", certificate = "{folder}/cert.pem", key = "{folder}/key.pem", certificate_chain = "{folder}/cert.pem" }}]
backends = [{{ address = "127.0.0.1:{backend}" }}]
"""


class Lockgate(Peer):
    label = "Lockgate"
    missing = "cargo build --release, and give its path"
    file = "lockgate.toml"
    command = ["{program}", "run", "--config", "{folder}/lockgate.toml"]

    def __init__(self, settings, label=None, **switches):
        """Switches: `server`, `limits` and `session` are lines of those sections, the other two give more of the same."""
        super().__init__(settings)
        self.label = label or self.label
        self.switches = switches

    @property
    def key(self):
        return self.name if self.label == Lockgate.label else self.label

    def find(self):
        return self.settings.lockgate and str(Path(self.settings.lockgate).resolve())

    def config(self, folder, port, backend):
        more = self.switches.get
        certificates = more("certificates", lambda folder: [])(folder)
        files = "".join(f'    {{ cert = "{cert}", key = "{key}" }},\n' for cert, key in [("cert.pem", "key.pem"), *certificates])
        hosts = [HOST, *more("hosts", [])]
        routes = "".join(
            f'\n[[routes]]\nname = "{host}"\nhosts = ["{host}"]\nto = "ws://127.0.0.1:{backend}"\n' for host in hosts
        )
        return f"""
[server]
https = ["127.0.0.1:{port}"]
http = []
admin = "unix:{folder}/admin.sock"
{more("server", f'metrics = "127.0.0.1:{free_port()}"')}

[limits]
{more("limits", "")}

[session]
{more("session", "")}

[tls]
certificates = [
{files}]
{routes}
"""


PEERS = {peer.__name__.lower(): peer for peer in (Forward, Nginx, Haproxy, Caddy, Traefik, Envoy, Sozu, Lockgate)}


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def until_it_works(port, child, certificate):
    """Some listen before they know their routes."""
    end = time.monotonic() + PATIENCE
    while not upgrades(port, certificate):
        if child.poll() is not None:
            raise RuntimeError(f"ended with {child.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"no WebSocket within {PATIENCE} s")
        time.sleep(0.02)


def upgrades(port, certificate):
    tls = ssl.create_default_context(cafile=certificate)
    head = (f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as tcp, tls.wrap_socket(tcp, server_hostname=HOST) as it:
            it.sendall(head.encode())
            return it.recv(12) == b"HTTP/1.1 101"
    except OSError:
        return False
