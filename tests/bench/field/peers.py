"""The proxies, each with a configuration for production: one host over TLS, one backend, one core, no access log.

What they have in common: the same certificate, TLS 1.3, tickets, room for 9,000 sessions, an hour of quiet allowed to a
session. Where a proxy does not see by itself that it has one core, it is told. Lockgate has its defaults and what `metrics`
adds: frames tracked, Pings, access lines written to a file, metrics served.
"""

from lockgate import Forward, Lockgate
from native import Haproxy, Nginx, Sozu
from packaged import Caddy, Envoy, Traefik

PEERS = {peer.__name__.lower(): peer for peer in (Forward, Nginx, Haproxy, Caddy, Traefik, Envoy, Sozu, Lockgate)}
