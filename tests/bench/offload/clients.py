"""Sessions that send a message every PAUSE seconds and check its echo: `clients.py PORT HOST CA-FILE SESSIONS PAUSE`.

Prints "here". Opens the sessions after it reads a line, and prints "open" when all are open. Starts to send after it reads
another line, and prints "talking". For each further line it prints its totals as JSON.
"""

import asyncio
import contextlib
import json
import random
import ssl
import sys

from websockets.asyncio.client import ClientConnection, connect

import messages

RESPONSE_TIMEOUT = 20  # seconds for a handshake or an echo, on a busy machine
TOTALS = dict(opened=0, compressed=0, echoed=0, wrong=0, ended=0, sent=0, received=0)


class Counting(ClientConnection):
    """Counts the bytes inside TLS, including frame headers."""

    def connection_made(self, transport):
        super().connection_made(transport)
        write = transport.write

        def counted(data):
            TOTALS["sent"] += len(data)
            write(data)

        transport.write = counted

    def data_received(self, data):
        TOTALS["received"] += len(data)
        super().data_received(data)


async def session(number, address, tls, pause, dials, start):
    async with dials:
        connection = await connect(
            address, host="127.0.0.1", ssl=tls, proxy=None, ping_interval=None, open_timeout=RESPONSE_TIMEOUT,
            create_connection=Counting,
        )
    TOTALS["opened"] += 1
    TOTALS["compressed"] += "Sec-WebSocket-Extensions" in connection.response.headers
    rng = random.Random(number)
    try:
        await start.wait()
        await asyncio.sleep(rng.uniform(0, pause))
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            message = messages.message(rng)
            await connection.send(message)
            answer = await asyncio.wait_for(connection.recv(), RESPONSE_TIMEOUT)
            TOTALS["echoed"] += 1
            TOTALS["wrong"] += answer != message
            due += pause
            await asyncio.sleep(max(0, due - clock()))
    except Exception as error:  # No session may end, for any reason.
        TOTALS["ended"] += 1
        print(f"session {number}: {error!r}", file=sys.stderr)


async def main(port, host, ca, sessions, pause):
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("here", flush=True)
    await lines.readline()
    tls, dials, start = ssl.create_default_context(cafile=ca), asyncio.Semaphore(8), asyncio.Event()
    address = f"wss://{host}:{port}/"
    tasks = [asyncio.create_task(session(n, address, tls, float(pause), dials, start)) for n in range(int(sessions))]
    while TOTALS["opened"] + TOTALS["ended"] < len(tasks) and not any(task.done() for task in tasks):
        await asyncio.sleep(0.05)
    print("open", flush=True)
    await lines.readline()
    start.set()
    print("talking", flush=True)
    while await lines.readline():
        print(json.dumps(TOTALS), flush=True)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main(*sys.argv[1:]))
