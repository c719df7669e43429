"""Checks python-socketio against `servers/socketio_echo.py`, with each transport and the upgrade: `socketio_client.py URL [CA-FILE]`.

Prints one line per check that passes; the first failure ends the program with a traceback.
"""

import asyncio
import contextlib
import json
import os
import ssl
import sys

import aiohttp
import socketio

CHECK_TIMEOUT = 60  # seconds per check


class Context:
    def __init__(self, url, ca, transports):
        self.url, self.transports = url, transports
        self.tls = ssl.create_default_context(cafile=ca) if ca else True
        self.run = os.urandom(4).hex()

    @contextlib.asynccontextmanager
    async def open(self, namespace="/", **options):
        # Closing the HTTP session cancels a pending poll; disconnect() alone would wait for it.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls)) as session:
            client = socketio.AsyncClient(http_session=session, reconnection=False)
            received = asyncio.Queue()
            client.on("message", received.put, namespace)
            client.on("connect_error", received.put, namespace)
            client.on("disconnect", lambda reason: received.put_nowait(Disconnected), namespace)
            # The page's own origin, which python-socketio compares with the headers of the proxy.
            headers = {"Origin": self.url}
            await client.connect(self.url, headers, namespaces=[namespace], transports=self.transports, **options)
            yield client, received


class Disconnected:
    pass


async def transport(context):
    async with context.open() as (client, _):
        assert client.transport() == context.transports[-1], client.transport()


async def echoes(context):
    async with context.open() as (client, received):
        for message in ["plain", "", "żółw 🐢", "x" * 65536, os.urandom(1 << 20), {"a": [1, None]}]:
            await client.send(message)
            assert await received.get() == message


async def server_closes(context):
    async with context.open(auth={"id": context.run}) as (client, received):
        await client.send("close 4001 the moon is full")
        assert await received.get() is Disconnected
    async with context.open("/closes", auth={"id": context.run}) as (_, received):
        assert json.loads(await received.get()) == [None, "server disconnect"]


async def headers(context):
    async with context.open("/headers") as (_, received):
        fields = dict(json.loads(await received.get())["headers"])
    host = context.url.split("://")[1]
    assert fields["host"] == host, fields
    if context.tls is not True:
        assert fields["x-forwarded-for"] == "127.0.0.1", fields
        assert fields["x-forwarded-proto"] == "https", fields
        assert fields["x-forwarded-host"] == host, fields


async def refusal(context):
    async with context.open("/refuse", wait=False) as (_, received):
        assert (await received.get())["message"] == "not today"


CHECKS = [transport, echoes, server_closes, headers, refusal]


async def main(url, ca=None):
    for transports in ["websocket"], ["polling"], ["polling", "websocket"]:
        for check in CHECKS:
            name = f"{'+'.join(transports)} {check.__name__}"
            try:
                await asyncio.wait_for(check(Context(url, ca, transports)), CHECK_TIMEOUT)
            except BaseException:
                print(f"FAILED {name}", flush=True)
                raise
            print(f"ok {name}", flush=True)


asyncio.run(main(*sys.argv[1:]))
