"""Variants of Lockgate with each optional feature on and off, to measure its cost."""

from lockgate import Lockgate

METRICS_OFF = 'metrics = "off"'
ACCESS_OFF = 'access = "off"'
PING_OFF = 'ping = { interval = "30s", timeout = "20s", legs = "off" }'
# Limits that are never reached, but counted.
LIMITS = 'connections_per_ip = 100000\naccepts_per_ip = "100000/s"\nsessions = 9000\nconnections = 9400'
SESSION_LIMITS = """messages_per_second = 10000000
bytes_per_second = 100000000000
max_fragments = 1000
max_idle = "1h"
max_age = "12h\""""


def variants(settings):
    def one(label, **switches):
        return Lockgate(settings, label, **switches)

    return [
        one("defaults"),
        one("no access lines", server=ACCESS_OFF),
        one("no metrics listener", server=METRICS_OFF),
        one("no Pings", session=PING_OFF),
        one("Pings every second", session='ping = { interval = "1s", timeout = "20s", legs = "client" }'),
        one("Pings every second, both legs", session='ping = { interval = "1s", timeout = "20s", legs = "both" }'),
        one("limits", limits=LIMITS, session=SESSION_LIMITS),
        one("all off", server=f"{METRICS_OFF}\n{ACCESS_OFF}", session=PING_OFF),
    ]
