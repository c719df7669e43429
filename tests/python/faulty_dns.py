"""DNS servers (RFC 1035) with faults, over UDP and TCP.

`Server` is used by other scripts. Alone: faulty_dns.py ADDRESS FILE serves what the JSON file describes, which is read
again for every query, appends each query as "TYPE name" to FILE.log, and prints "ready" when it answers.

A description: {"ttl": 5, "records": {"app.test": {"A": ["127.0.0.1"]}}, "faults": {"AAAA": "silent"}, "tcp": true}.
A fault concerns a type or, as "*", every query: "silent", an error such as "SERVFAIL", "NXDOMAIN", "empty" (an answer
of a server that is not responsible), "forged" (preceded by datagrams that belong to other queries), "lower" (the name of
the question in lower case), "no-edns" (FORMERR to a query with EDNS), or {"delay": seconds}.
"""

import json
import pathlib
import socket
import struct
import sys
import threading
import time

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, SOA, A, DNSRecord

RDATA = {"A": A, "AAAA": AAAA, "CNAME": CNAME}


class Server:
    """A server; `port` 53 is the only one that resolv.conf supports."""

    def __init__(self, address, describe, log=lambda line: None, port=53):
        self.describe = describe
        self.log = log
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.udp.bind((address, port))
        self.tcp = None
        if describe().get("tcp", True):
            self.tcp = socket.socket(family, socket.SOCK_STREAM)
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.tcp.bind((address, port))
            self.tcp.listen(16)
        self.threads = [threading.Thread(target=self.serve_udp, daemon=True)]
        if self.tcp:
            self.threads.append(threading.Thread(target=self.serve_tcp, daemon=True))
        for thread in self.threads:
            thread.start()

    def close(self):
        for listener in (self.udp, self.tcp):
            if listener:
                try:
                    listener.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # UDP: the call wakes the thread, although the socket is not connected.
                listener.close()
        for thread in self.threads:
            thread.join(5)

    def serve_udp(self):
        while True:
            try:
                query, sender = self.udp.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            answer = lambda query=query, sender=sender: [self.send(part, sender) for part in self.answers(query, True)]
            threading.Thread(target=answer, daemon=True).start()

    def send(self, part, sender):
        try:
            self.udp.sendto(part, sender)
        except OSError:
            pass  # The server was closed, or the client is gone.

    def serve_tcp(self):
        while True:
            try:
                stream, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_stream, args=(stream,), daemon=True).start()

    def serve_stream(self, stream):
        with stream, stream.makefile("rb") as reader:
            while len(head := reader.read(2)) == 2:
                for part in self.answers(reader.read(struct.unpack("!H", head)[0]), False):
                    stream.sendall(struct.pack("!H", len(part)) + part)

    def answers(self, query, over_udp):
        zone = self.describe()
        request = DNSRecord.parse(query)
        kind, name = QTYPE[request.q.qtype], str(request.q.qname).rstrip(".").lower()
        self.log(f"{kind} {name} {'udp' if over_udp else 'tcp'}")
        faults = zone.get("faults", {})
        fault = faults.get(f"{kind} {name}", faults.get(kind, faults.get("*")))
        if fault == "silent":
            return []
        if isinstance(fault, dict):
            time.sleep(fault["delay"])
        reply = request.reply(ra=fault != "empty", aa=0)
        records = zone.get("records", {})
        # A name exists if it has records, or if it is above such a name (RFC 8020).
        if name not in records and not any(known.endswith("." + name) for known in records):
            reply.header.rcode = RCODE.NXDOMAIN
        if fault == "no-edns" and any(rr.rtype == QTYPE.OPT for rr in request.ar):
            reply.header.rcode = RCODE.FORMERR
        if isinstance(fault, str) and fault in RCODE.reverse:
            reply.header.rcode = RCODE.reverse[fault]
        if reply.header.rcode == RCODE.NOERROR and fault != "empty":
            self.add(reply, request.q.qname, kind, records, zone.get("ttl", 5))
        soa = zone.get("soa")
        if soa is not None and not reply.rr:
            data = SOA("ns.test.", "admin.test.", (1, 60, 60, 60, soa))
            reply.add_auth(RR("test.", QTYPE.SOA, ttl=soa, rdata=data))
        if fault == "lower":
            reply.q.qname = name + "."
        packed = reply.pack()
        limit = next((rr.rclass for rr in request.ar if rr.rtype == QTYPE.OPT), 512)
        if over_udp and len(packed) > limit:
            reply.header.tc = 1
            while len(packed) > limit:
                reply.rr.pop()
                packed = reply.pack()
        if fault == "forged":
            other = request.reply()
            other.header.id = request.header.id ^ 1
            other.add_answer(RR(request.q.qname, QTYPE.A, ttl=5, rdata=A("192.0.2.66")))
            foreign = DNSRecord.question("foreign.test").reply()
            foreign.header.id = request.header.id
            foreign.add_answer(RR("foreign.test", QTYPE.A, ttl=5, rdata=A("192.0.2.67")))
            return [other.pack(), foreign.pack(), packed]
        return [packed]

    @staticmethod
    def add(reply, owner, kind, records, ttl):
        for _ in range(8):
            of_name = records.get(str(owner).rstrip(".").lower(), {})
            for data in of_name.get(kind, []):
                reply.add_answer(RR(owner, getattr(QTYPE, kind), ttl=ttl, rdata=RDATA[kind](data)))
            if "CNAME" not in of_name:
                return
            reply.add_answer(RR(owner, QTYPE.CNAME, ttl=ttl, rdata=CNAME(of_name["CNAME"])))
            owner = of_name["CNAME"]


if __name__ == "__main__":
    address, file = sys.argv[1:]
    description = pathlib.Path(file)
    queries = open(file + ".log", "a", buffering=1)
    Server(address, lambda: json.loads(description.read_text()), lambda line: queries.write(line + "\n"))
    print("ready", flush=True)
    threading.Event().wait()
