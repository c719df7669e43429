"""Sessions that send a message every so often and check its echo: `clients.py PORT HOST CA-FILE SESSIONS PAUSE`.

It prints "here", and opens them when it reads a line; it prints "open" once all are, lets them talk when it reads another, and
prints "talking"; from then on it prints its totals as JSON for each line.
"""

import asyncio
import contextlib
import json
import random
import ssl
import sys

from websockets.asyncio.client import ClientConnection, connect

import messages

ANSWER = 20  # seconds that a handshake, or an echo, may take on a busy machine
TOTALS = dict(opened=0, compressed=0, echoed=0, wrong=0, ended=0, sent=0, received=0)


class Counting(ClientConnection):
    """Counts what is on the wire within TLS, headers of frames included."""

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


async def session(number, address, tls, pause, few, talk):
    async with few:
        connection = await connect(
            address, host="127.0.0.1", ssl=tls, proxy=None, ping_interval=None, open_timeout=ANSWER,
            create_connection=Counting,
        )
    TOTALS["opened"] += 1
    TOTALS["compressed"] += "Sec-WebSocket-Extensions" in connection.response.headers
    words = random.Random(number)
    try:
        await talk.wait()
        await asyncio.sleep(words.uniform(0, pause))
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            message = messages.message(words)
            await connection.send(message)
            answer = await asyncio.wait_for(connection.recv(), ANSWER)
            TOTALS["echoed"] += 1
            TOTALS["wrong"] += answer != message
            due += pause
            await asyncio.sleep(max(0, due - clock()))
    except Exception as error:  # However it ends: none is to.
        TOTALS["ended"] += 1
        print(f"session {number}: {error!r}", file=sys.stderr)


async def main(port, host, ca, sessions, pause):
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("here", flush=True)
    await lines.readline()
    tls, few, talk = ssl.create_default_context(cafile=ca), asyncio.Semaphore(8), asyncio.Event()
    address = f"wss://{host}:{port}/"
    tasks = [asyncio.create_task(session(n, address, tls, float(pause), few, talk)) for n in range(int(sessions))]
    while TOTALS["opened"] + TOTALS["ended"] < len(tasks) and not any(task.done() for task in tasks):
        await asyncio.sleep(0.05)
    print("open", flush=True)
    await lines.readline()
    talk.set()
    print("talking", flush=True)
    while await lines.readline():
        print(json.dumps(TOTALS), flush=True)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main(*sys.argv[1:]))
