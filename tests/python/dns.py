"""A DNS server (RFC 1035) over UDP and TCP for the names in a file, which is read again for every query.

dns.py ADDRESS FILE: on port 53, the only port that resolv.conf supports. Prints "ready" when it answers. The file is JSON:
{"ttl": 1, "records": [["chat.test", "A", "127.0.1.1"], …], "failing": ["AAAA", …]}; queries for failing types get SERVFAIL.
"""

import json
import pathlib
import sys
import threading

from dnslib import AAAA, QTYPE, RCODE, RR, SRV, A
from dnslib.server import DNSLogger, DNSServer


class Zone:
    def __init__(self, file):
        self.file = pathlib.Path(file)

    def resolve(self, request, handler):
        zone = json.loads(self.file.read_text())
        reply = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        known = [record for record in zone["records"] if record[0] == name]
        if kind in zone["failing"]:
            reply.header.rcode = RCODE.SERVFAIL
        elif not known:
            reply.header.rcode = RCODE.NXDOMAIN
        for owner, record_type, data in known if reply.header.rcode == RCODE.NOERROR else []:
            if record_type == kind:
                reply.add_answer(RR(owner, request.q.qtype, ttl=zone["ttl"], rdata=RDATA[record_type](data)))
        if handler.protocol == "udp" and len(reply.pack()) > 1232:
            # Truncated, with the TC bit, as real servers do: the client repeats its query over TCP (RFC 7766).
            reply = request.reply()
            reply.header.tc = 1
        return reply


def service(data):
    priority, weight, port, target = data.split()
    return SRV(int(priority), int(weight), int(port), target)


# dnslib's zone parser takes a second for a few hundred records.
RDATA = {"A": A, "AAAA": AAAA, "SRV": service}


if __name__ == "__main__":
    address, file = sys.argv[1:]
    quiet = DNSLogger("-request,-reply,-truncated,-error")
    zone = Zone(file)
    for tcp in (False, True):
        DNSServer(zone, address=address, port=53, tcp=tcp, logger=quiet).start_thread()
    print("ready", flush=True)
    threading.Event().wait()
