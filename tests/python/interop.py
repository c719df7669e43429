"""Checks a client library against a server, directly or through a proxy: `interop.py CLIENT URL CA-FILE [LACKING …]`.

LACKING is what the server does not support: checks by name, `empty` messages, the `reasons` of a Close, the headers and body
of a `refusal`. Prints one line per check that passes; the first failure ends the program with a traceback.
"""

import asyncio
import json
import os
import ssl
import sys
import urllib.error
import urllib.request

import peers

CHECK_TIMEOUT = 60  # seconds per check


class Context:
    def __init__(self, client, url, ca, lacking):
        self.client = client
        self.url = url.rstrip("/")
        self.tls = ssl.create_default_context(cafile=ca) if ca else None
        self.run = os.urandom(4).hex()
        self.lacking = lacking

    def open(self, path, **options):
        return self.client(self.url + path, self.tls, **options)


async def text(context):
    async with context.open("/") as peer:
        for message in ["plain", "żółw 🐢", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536]:
            await peer.send(message)
            assert await peer.receive() == message, f"{len(message)} characters"
        if "empty" not in context.lacking:
            await peer.send("")
            assert await peer.receive() == ""


async def binary(context):
    async with context.open("/") as peer:
        for size in [1, 126, 65536, 1 << 20, 16 << 20]:
            message = os.urandom(size)
            await peer.send(message)
            assert await peer.receive() == message, f"{size} bytes"


async def ping(context):
    async with context.open("/") as peer:
        await peer.ping(b"are you there")
        await peer.send("still")
        assert await peer.receive() == "still"


async def subprotocol(context):
    # The client's second choice is the server's first. The server chooses, and the order of the offer must not change.
    async with context.open("/", subprotocols=["chat.v1", "chat.v2"]) as peer:
        assert peer.subprotocol == "chat.v2", peer.subprotocol
    async with context.open("/") as peer:
        assert peer.subprotocol in (None, ""), peer.subprotocol


async def compression(context):
    if not context.client.compresses:
        return
    async with context.open("/", compress=True) as peer:
        assert "permessage-deflate" in peer.extensions, peer.extensions
        for message in ["a" * 100_000, "short", os.urandom(50_000), "b" * 100_000]:
            await peer.send(message)
            assert await peer.receive() == message


async def server_closes(context):
    async with context.open("/") as peer:
        await peer.send("close 4001 the moon is full")
        assert await peer.closed() == (4001, reason(context, "the moon is full"))


async def client_closes(context):
    query = f"?id={context.run}"
    async with context.open("/" + query) as peer:
        await peer.send("hello")
        await peer.receive()
        await peer.close(4002, "enough")
    async with context.open("/closes" + query) as peer:
        assert json.loads(await peer.receive()) == [4002, reason(context, "enough")]


async def headers(context):
    async with context.open("/headers?room=blue%20sky&x=1", headers={"X-Custom": "Grüße".encode().decode("latin-1")}) as peer:
        seen = json.loads(await peer.receive())
    assert seen["path"] == "/headers" and seen["query"] == "room=blue%20sky&x=1", seen
    fields = dict(seen["headers"])
    host = context.url.split("://")[1]
    assert fields["host"] == host, fields
    assert "x-custom" in fields, fields
    if context.tls:
        assert fields["x-forwarded-for"] == "127.0.0.1", fields
        assert fields["x-forwarded-proto"] in ("https", "wss"), fields
        assert fields["x-forwarded-host"] == host, fields


async def same_origin(context):
    scheme, host = context.url.split("://")
    async with context.open("/", headers={"Origin": f"{scheme.replace('ws', 'http')}://{host}"}) as peer:
        await peer.send("from a browser")
        assert await peer.receive() == "from a browser"


async def refusal(context):
    # The libraries differ in what they report of a refused handshake; all of them report the status.
    try:
        async with context.open("/refuse"):
            raise AssertionError("the refusal became a session")
    except peers.Refused as refused:
        assert refused.status == 403, refused.status
        if "refusal" in context.lacking:
            return
        if refused.body is not None:
            assert refused.body == "not today", refused.body
        if refused.headers is not None:
            assert refused.headers["x-reason"] == "full moon", refused.headers


async def plain_http(context):
    url = context.url.replace("ws", "http", 1) + "/http"
    answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, context=context.tls, timeout=CHECK_TIMEOUT).read())
    assert answer == b"hello over http", answer


def reason(context, given):
    return "" if "reasons" in context.lacking else given


CHECKS = [text, binary, ping, subprotocol, compression, server_closes, client_closes, headers, same_origin, refusal, plain_http]


async def main(client, url, ca, *lacking):
    context = Context(peers.CLIENTS[client], url, ca, lacking)
    for check in CHECKS:
        if check.__name__ in lacking and check is not refusal or check is refusal and "refused" in lacking:
            continue
        try:
            await asyncio.wait_for(check(context), CHECK_TIMEOUT)
        except BaseException:
            print(f"FAILED {client} {check.__name__}", flush=True)
            raise
        print(f"ok {client} {check.__name__}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
