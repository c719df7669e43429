"""Proxies in C and Rust, each with one worker."""

import os
import shutil

from peer import HERE, HOST, Peer


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
    http2 = True
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
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2,http/1.1
    default_backend echo
backend echo
    server echo 127.0.0.1:{backend}
"""


class Sozu(Peer):
    label = "Sōzu"
    missing = "apt-get install protobuf-compiler; cargo install sozu --version 2.3.3 --locked --root tests/bench/field/peers"
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
backends = [{{ address = "127.0.0.1:{backend}" }}]

[[clusters.echo.frontends]]
address = "127.0.0.1:{port}"
hostname = "{HOST}"
certificate = "{folder}/cert.pem"
key = "{folder}/key.pem"
certificate_chain = "{folder}/cert.pem"
"""
