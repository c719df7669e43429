"""Proxies in Go and C++ that are installed from PyPI."""

from peer import HOST, FromPyPi


class Caddy(FromPyPi):
    label = "Caddy"
    http2 = True
    environment = {"GODEBUG": "http2xconnect=1"}  # without this, Go's HTTP server does not offer extended CONNECT
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
    http2 = True
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
          # The default delays the close by a second, during which a client that waits for it (RFC 6455) is delayed too.
          delayed_close_timeout: 0s
          http2_protocol_options: {{ allow_connect: true }}
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
