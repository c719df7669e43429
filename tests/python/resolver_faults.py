"""Compares how Lockgate and getent(1) resolve a name under faults of DNS servers, resolv.conf(5) and hosts(5).

resolver_faults.py LOCKGATE FOLDER: in a network, mount and UTS namespace of its own, with `resolv.conf` and `hosts` of the
folder bound over those of /etc. Prints a JSON object for each case.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import time

from faulty_dns import Server

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
BOTH = {"app.test": {"A": ["127.0.0.10"], "AAAA": ["::1"]}}
FOUR = {"app.test": {"A": ["127.0.0.10"]}}
OTHER = {"other.test": {"A": ["127.0.0.11"]}}
SIXTY = {"app.test": {"A": [f"127.0.1.{n}" for n in range(1, 61)]}}
SHORT = "options timeout:1 attempts:2\n"
LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"


def zone(records=BOTH, **faults):
    return {"records": records, "faults": {name.replace("every", "*"): fault for name, fault in faults.items()}}


def silent(records=BOTH):
    return zone(records, every="silent")


def of(*servers):
    return "".join(f"nameserver {server}\n" for server in servers)


def in_domains(*domains):
    return {f"app.{domain}": {"A": [f"127.0.0.{20 + n}"]} for n, domain in enumerate(domains)}


def case(what, servers, resolv=None, hosts=LOCALHOST, name="app.test", expect="equal", tool="doctor"):
    """`expect`: "more", if Lockgate finds addresses although getent does not; "first", if Lockgate has those of the family that
    answered first."""
    lines = resolv if resolv is not None else of(*servers)
    CASES.append((what, servers, lines, hosts, name, expect, tool))


CASES = []
case("both families", {ONE: zone()})
case("both families after 300 ms", {ONE: zone(every={"delay": 0.3})})
case("AAAA silent", {ONE: zone(AAAA="silent")}, of(ONE) + SHORT)
case("A silent", {ONE: zone(A="silent")}, of(ONE) + SHORT, expect="more")
case("AAAA 300 ms late", {ONE: zone(AAAA={"delay": 0.3})}, expect="first")
case("A 300 ms late, IPv6 only on loopback", {ONE: zone(A={"delay": 0.3})}, expect="first")
for error in ("SERVFAIL", "REFUSED", "NXDOMAIN", "NOTIMP"):
    case(f"AAAA {error}", {ONE: zone(FOUR, AAAA=error)}, of(ONE) + SHORT)
case("AAAA silent, single-request", {ONE: zone(AAAA="silent")}, of(ONE) + SHORT + "options single-request\n")
case("both families, single-request", {ONE: zone()}, of(ONE) + "options single-request\n")
case("both families, no-aaaa", {ONE: zone()}, of(ONE) + "options no-aaaa\n")
case("both families, use-vc", {ONE: zone()}, of(ONE) + "options use-vc\n")
case("AAAA silent, name missing", {ONE: zone(OTHER, AAAA="silent")}, of(ONE) + SHORT)
case("AAAA silent, search list", {ONE: zone(in_domains("c.test"), AAAA="silent")},
     of(ONE) + SHORT + "search a.test b.test c.test\n", name="app")

case("first server closed", {TWO: zone()}, of(ONE, TWO))
case("first server silent", {ONE: silent(), TWO: zone()}, of(ONE, TWO) + SHORT)
case("first server silent, default timeout", {ONE: silent(), TWO: zone()}, of(ONE, TWO))
case("second server closed", {ONE: zone()}, of(ONE, TWO))
case("second server silent", {ONE: zone(), TWO: silent()}, of(ONE, TWO))
case("two of three silent", {ONE: silent(), TWO: silent(), THREE: zone()}, of(ONE, TWO, THREE) + SHORT)
case("two of three closed", {THREE: zone()}, of(ONE, TWO, THREE))
case("third server silent", {ONE: zone(), TWO: zone(), THREE: silent()}, of(ONE, TWO, THREE))
case("every server closed", {}, of(ONE, TWO, THREE))
case("every server silent", {ONE: silent(), TWO: silent()}, of(ONE, TWO) + SHORT)
case("fourth server is ignored", {"127.0.0.5": zone()}, of(ONE, TWO, THREE, "127.0.0.5"))
for error in ("SERVFAIL", "REFUSED", "NOTIMP", "empty"):
    case(f"first server {error}", {ONE: zone(every=error), TWO: zone()}, of(ONE, TWO))
    case(f"every server {error}", {ONE: zone(every=error), TWO: zone(every=error)}, of(ONE, TWO) + SHORT)
case("first server FORMERR", {ONE: zone(every="FORMERR"), TWO: zone()}, of(ONE, TWO), expect="more")
case("first server knows, second NXDOMAIN", {ONE: zone(), TWO: zone(OTHER)}, of(ONE, TWO))
case("first server NXDOMAIN, second knows", {ONE: zone(OTHER), TWO: zone()}, of(ONE, TWO))
case("first server without records, second knows", {ONE: zone({"app.test": {"TXT": []}}), TWO: zone()}, of(ONE, TWO))
case("NXDOMAIN", {ONE: zone(OTHER)})
case("first server closed, rotate", {TWO: zone()}, of(ONE, TWO) + "options rotate\n")

case("60 addresses over TCP", {ONE: zone(SIXTY)})
case("60 addresses with edns0", {ONE: zone(SIXTY)}, of(ONE) + "options edns0\n")
case("60 addresses, first server without TCP", {ONE: zone(SIXTY) | {"tcp": False}, TWO: zone(SIXTY)}, of(ONE, TWO))
case("60 addresses, no TCP", {ONE: zone(SIXTY) | {"tcp": False}}, expect="more")
case("edns0 answered by FORMERR", {ONE: zone(every="no-edns")}, of(ONE) + "options edns0\n", expect="more")
case("datagrams of other queries first", {ONE: zone(every="forged")})
case("question in lower case", {ONE: zone({"app.test": {"A": ["127.0.0.10"]}}, every="lower")})
case("alias of an alias", {ONE: zone({"app.test": {"CNAME": "b.test"}, "b.test": {"CNAME": "c.test"},
                                      "c.test": {"A": ["127.0.0.12"], "AAAA": ["::1"]}})})
case("alias of a missing name", {ONE: zone({"app.test": {"CNAME": "b.test"}})})

case("search list", {ONE: zone(in_domains("b.test"))}, of(ONE) + "search a.test b.test\n", name="app")
case("first search domain counts", {ONE: zone(in_domains("a.test", "b.test"))}, of(ONE) + "search a.test b.test\n",
     name="app")
case("no records in the first search domain", {ONE: zone({"app.a.test": {"TXT": []}} | in_domains("b.test"))},
     of(ONE) + "search a.test b.test\n", name="app")
case("SERVFAIL in the first search domain",
     {ONE: {"records": in_domains("b.test"),
            "faults": {"A app.a.test": "SERVFAIL", "AAAA app.a.test": "SERVFAIL"}}},
     of(ONE) + SHORT + "search a.test b.test\n", name="app")
case("REFUSED in the first search domain",
     {ONE: {"records": in_domains("b.test"), "faults": {"A app.a.test": "REFUSED", "AAAA app.a.test": "REFUSED"}}},
     of(ONE) + SHORT + "search a.test b.test\n", name="app")
case("single label without search list", {ONE: zone({"app": {"A": ["127.0.0.13"]}})}, of(ONE) + "search .\n", name="app")
case("single label as it is, last", {ONE: zone({"app": {"A": ["127.0.0.13"]}})}, of(ONE) + "search a.test\n", name="app")
case("single label, no-tld-query", {ONE: zone({"app": {"A": ["127.0.0.13"]}})},
     of(ONE) + "search a.test\noptions no-tld-query\n", name="app")
case("domain of the host name", {ONE: zone({"app.corp.test": {"A": ["127.0.0.14"]}})}, name="app")
case("domain line", {ONE: zone(in_domains("a.test"))}, of(ONE) + "search b.test\ndomain a.test c.test\n", name="app")
case("last search line counts", {ONE: zone(in_domains("a.test", "b.test"))},
     of(ONE) + "search a.test\nsearch b.test\n", name="app")
DEEP = {"app.db": {"A": ["127.0.0.15"]}, "app.db.a.test": {"A": ["127.0.0.16"]}}
case("ndots:1, name with a dot", {ONE: zone(DEEP)}, of(ONE) + "search a.test\n", name="app.db")
case("ndots:2, name with a dot", {ONE: zone(DEEP)}, of(ONE) + "search a.test\noptions ndots:2\n", name="app.db")
case("ndots:5, five search domains", {ONE: zone()},
     of(ONE) + "search a.test b.test c.test d.test e.test\noptions ndots:5\n")
case("ndots:0, single label", {ONE: zone(in_domains("a.test") | {"app": {"A": ["127.0.0.13"]}})},
     of(ONE) + "search a.test\noptions ndots:0\n", name="app")
case("name with a dot only in a search domain", {ONE: zone({"app.db.a.test": {"A": ["127.0.0.16"]}})},
     of(ONE) + "search a.test\n", name="app.db")
case("dot at the end", {ONE: zone(DEEP)}, of(ONE) + "search a.test\noptions ndots:5\n", name="app.db.", tool="probe")
case("dot at the end, name in the hosts file", {ONE: zone(DEEP)}, hosts="127.0.0.9 app.db\n", name="app.db.", tool="probe")
case("upper case", {ONE: zone()}, name="APP.Test", tool="probe")

case("malformed lines in resolv.conf", {ONE: zone()},
     "nameserver\nnameserver 10.0.0.256\nnameserver fe80::1%none\nnonsense\nsearch a..b\noptions ndots:x what\n"
     + " nameserver 127.0.0.9\n# comment\n; comment\n\n\tsearch x\nnameserver \t " + ONE + " trailing text\n")
case("no server line", {"127.0.0.1": zone()}, "# nothing\n")
case("empty resolv.conf", {"127.0.0.1": zone()}, "")
case("only malformed server lines", {"127.0.0.1": zone()}, "nameserver 1.2.3.4.5\nnameserver x\n")
case("bytes that are not UTF-8 in resolv.conf", {ONE: zone()}, "# caf\udce9\n" + of(ONE))
case("long line in resolv.conf", {ONE: zone()}, "# " + "x" * 100_000 + "\n" + of(ONE))
case("last line without a line feed", {ONE: zone()}, "search a.test\nnameserver " + ONE)
case("CR LF in resolv.conf", {ONE: zone()}, f"search a.test\r\nnameserver {ONE}\r\n", expect="more")
case("server in another notation", {ONE: zone()}, "nameserver 127.2\n")
case("IPv6 server", {"::1": zone()}, "nameserver ::1\n")
case("IPv6 server with a scope", {"::1": zone()}, "nameserver ::1%lo\n")

case("hosts file before DNS", {ONE: zone()}, hosts="127.0.0.8 app.test\n")
case("IPv4 in the hosts file only", {ONE: zone(BOTH)}, hosts="127.0.0.8 app.test\n")
case("alias in the hosts file", {}, hosts="127.0.0.8\tname\t  app.test # comment\n", name="app.test")
case("several lines in the hosts file", {}, hosts="127.0.0.8 app.test\n127.0.0.9 x APP.test\n::1 app.test\n127.0.0.8 app.test\n")
case("malformed lines in the hosts file", {ONE: zone(OTHER)},
     hosts="127.0.0.300 app.test\n127.0.0.7\napp.test 127.0.0.6\nfe80::1%lo app.test\nxyz\n#\n127.0.0.8 app.test\n127.0.00.5 app.test\n")
case("bytes that are not UTF-8 in the hosts file", {}, hosts="# caf\udce9\n127.0.0.8 app.test # \udcff\n")
case("CR LF in the hosts file", {}, hosts="127.0.0.8 app.test\r\n127.0.0.9 other\r\n")
case("long line in the hosts file", {}, hosts="127.0.0.8 " + " ".join(f"h{n}" for n in range(20_000)) + " app.test\n")
case("comment without a blank in the hosts file", {}, hosts="127.0.0.8 app.test#x\n")
case("empty hosts file", {ONE: zone()}, hosts="")
case("hosts file does not use the search list", {ONE: zone(in_domains("a.test"))}, of(ONE) + "search a.test\n",
     hosts="127.0.0.8 app.a.test\n", name="app")
case("name missing in both", {ONE: zone(OTHER)}, hosts="127.0.0.8 x.test\n")
case("localhost", {}, name="localhost")


def by_getent(name):
    started = time.monotonic()
    run = subprocess.run(["getent", "ahosts", name], capture_output=True, text=True, timeout=60)
    return {line.split()[0] for line in run.stdout.splitlines()}, time.monotonic() - started


def by_doctor(lockgate, folder, name):
    config = folder / "config.toml"
    config.write_text(
        '[server]\nhttps = ["127.0.0.1:0"]\nhttp = []\nadmin = "off"\n[tls]\ndev_ca = true\n'
        f'[acme]\ndirectory = "https://127.0.0.1:9/dir"\nstorage = "{folder}/data"\n[[routes]]\nhosts = ["{name}"]\nto = "ws://127.0.0.1:9"\norigins = ["*"]\n'
    )
    started = time.monotonic()
    run = subprocess.run([lockgate, "doctor", "--config", config], capture_output=True, text=True, timeout=60)
    took = time.monotonic() - started
    line = next((line for line in run.stdout.splitlines() if f"name {name}" in line), None)
    assert line, run
    found = re.search(r"resolves to (.+), (this machine|which is not)", line)
    return set(found[1].split(", ")) if found else set(), took, line


def by_probe(lockgate, name):
    started = time.monotonic()
    listening = socket.create_server(("", 8765))
    run = subprocess.run([lockgate, "probe", "--json", "--timeout", "1s", f"ws://{name}:8765/"], capture_output=True,
                         text=True, timeout=60)
    listening.close()
    report = json.loads(run.stdout)
    address = report.get("address")
    took = report.get("dns_ms", 1000 * (time.monotonic() - started)) / 1000
    return {address.rsplit(":", 1)[0].strip("[]")} if address else set(), took, run.stdout


def main():
    lockgate, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    socket.sethostname("proxy.corp.test")
    only = sys.argv[3:]
    for what, servers, resolv, hosts, name, expect, tool in CASES:
        if only and what not in only:
            continue
        (folder / "resolv.conf").write_text(resolv, errors="surrogateescape")
        (folder / "hosts").write_text(hosts, errors="surrogateescape")
        running = [Server(address, lambda zone=zone: zone) for address, zone in servers.items()]
        times = []
        # The shortest of up to five times each: what remains is the wait for servers, not that for a busy processor.
        while len(times) < 5 and (not times or min(times)[0] > min(time for _, time in times) + 0.3):
            theirs, their_time = by_getent(name)
            ours, our_time, line = by_doctor(lockgate, folder, name) if tool == "doctor" else by_probe(lockgate, name)
            times.append((our_time, their_time))
        our_time, their_time = min(time for time, _ in times), min(time for _, time in times)
        for server in running:
            server.close()
        row = {"case": what, "expect": expect, "tool": tool, "getent": sorted(theirs), "lockgate": sorted(ours),
               "getent_s": round(their_time, 3), "lockgate_s": round(our_time, 3), "line": line}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
