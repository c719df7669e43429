"""The proxies, each with a configuration for production: one host over TLS, one backend, one core, no access log.

Common settings: the same certificate, TLS 1.3, tickets, up to 9,000 sessions, an idle time of one hour for a session. A proxy
that does not detect that it has one core is configured for one worker. Lockgate has its defaults and a metrics listener: frame
tracking, Pings, access lines in a file, metrics.
"""

from lockgate import Forward, Lockgate
from native import Haproxy, Nginx, Sozu
from packaged import Caddy, Envoy, Traefik

PEERS = {peer.__name__.lower(): peer for peer in (Forward, Nginx, Haproxy, Caddy, Traefik, Envoy, Sozu, Lockgate)}
