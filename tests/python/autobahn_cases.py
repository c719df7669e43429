"""Runs the cases of the Autobahn test suite with kosoku, against a server directly and through Lockgate.

    autobahn_cases.py ws://127.0.0.1:PORT/ wss://localhost:PORT/ CA [CASES …]

A verdict through Lockgate must not be worse than the direct one. Some cases are a race between an echo and the end of the
connection, also without a proxy. A case that is worse is therefore repeated up to three times; it fails if its best verdict
through Lockgate is worse than the worst direct one.
"""

import asyncio
import contextlib
import ssl
import sys
from urllib.parse import urlsplit

import kosoku

# Best first; for the verdict on the messages and for the one on the close.
RANKS = {
    "OK": 0, "INFORMATIONAL": 0, "NON-STRICT": 1, "UNIMPLEMENTED": 2, "UNCLEAN": 2, "WRONG CODE": 3, "FAILED BY CLIENT": 3,
    "FAILED": 4, "ERROR": 5,
}
# All cases except most of those with compression, which take minutes.
DEFAULT = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10)] + [f"{group}.1.{case}" for group in (12, 13) for case in range(1, 7)]
CONCURRENT_CASES = 4
# Seconds; all 517 cases take more than ten minutes.
DEADLINE, DEADLINE_OF_NAMED_CASES = 600, 5400


@contextlib.asynccontextmanager
async def bridge(url, ca):
    """Opens a plain port that forwards to `url` over TLS, because kosoku does not support TLS."""
    target = urlsplit(url)
    context = ssl.create_default_context(cafile=ca)

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def forward(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(
            target.hostname, target.port, ssl=context, server_hostname=target.hostname
        )
        with contextlib.suppress(asyncio.CancelledError):  # at the end of the run
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        yield f"ws://localhost:{server.sockets[0].getsockname()[1]}/"


async def verdicts(url, cases):
    try:
        results = await kosoku.run_fuzzingclient(url, cases, None, CONCURRENT_CASES)
    except kosoku.FailureError as failure:
        results = failure.results
    return {result.case_id: (result.behavior.value, result.behavior_close.value) for result in results}


def rank(verdict):
    return [RANKS[part] for part in verdict]


def is_worse(through, direct):
    return any(RANKS[a] > RANKS[b] for a, b in zip(through, direct))


async def main(direct_url, url, ca, cases):
    async with bridge(url, ca) as bridged:
        direct = await verdicts(direct_url, cases)
        through = await verdicts(bridged, cases)
        assert direct.keys() == through.keys() and direct
        worse = [case for case in direct if is_worse(through[case], direct[case])]
        for _ in range(3):
            if not worse:
                break
            direct_again, through_again = await verdicts(direct_url, worse), await verdicts(bridged, worse)
            for case in worse:
                direct[case] = max(direct[case], direct_again[case], key=rank)
                through[case] = min(through[case], through_again[case], key=rank)
            worse = [case for case in worse if is_worse(through[case], direct[case])]
    same = sum(direct[case] == through[case] for case in direct)
    print(f"{len(direct)} cases, {same} with the same verdicts, {len(worse)} worse through Lockgate")
    for case in direct:
        if direct[case] != through[case]:
            print(f"{'worse' if case in worse else 'other'} {case}: direct {direct[case]}, through {through[case]}")
    return bool(worse)


if __name__ == "__main__":
    named = sys.argv[4:]
    deadline = DEADLINE_OF_NAMED_CASES if named else DEADLINE
    sys.exit(asyncio.run(asyncio.wait_for(main(*sys.argv[1:4], named or DEFAULT), deadline)))
