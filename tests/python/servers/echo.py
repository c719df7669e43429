"""Shared code of the echo servers.

Every server offers these WebSockets, as far as its library supports them (each server lists what it lacks):

    /          echoes; the text "close CODE REASON" closes with that code and reason
    /headers   sends one JSON object: path, query and headers of the request
    /closes    ?id=X sends [code, reason] of the connection that was opened with ?id=X, after it has ended
    /refuse    answers 403, "x-reason: full moon", "not today"

and over plain HTTP:

    /http      answers "hello over http"
"""

import asyncio
import json
import socket
from concurrent.futures import Future
from urllib.parse import parse_qs, urlsplit

SUBPROTOCOLS = ["chat.v2", "chat.v1"]
MAX_MESSAGE_LEN = 32 * 1024 * 1024
REFUSAL = {"status": 403, "reason": "full moon", "body": "not today"}
HELLO = "hello over http"

# Some servers use threads, others asyncio: these futures work with both.
_closes: dict[str, Future] = {}


def listen() -> socket.socket:
    """Returns a listening socket on a free port; prints the port as the first line."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    return sock


def identity(query: str) -> str:
    return parse_qs(query).get("id", [""])[0]


def closed(query: str, code: int | None, reason: str | None) -> None:
    """Records how the connection that was opened with this query has ended."""
    future = _close_of(identity(query))
    if not future.done():
        future.set_result([code, reason or ""])


async def close_seen(query: str) -> str:
    return json.dumps(await asyncio.wait_for(asyncio.wrap_future(_close_of(identity(query))), 10))


def close_seen_by_thread(query: str) -> str:
    return json.dumps(_close_of(identity(query)).result(10))


def request_seen(target: str, headers) -> str:
    parts = urlsplit(target)
    return json.dumps({"path": parts.path, "query": parts.query, "headers": [[k.lower(), v] for k, v in headers]})


def close_order(message) -> tuple[int, str] | None:
    """Returns (4001, "some reason") for "close 4001 some reason"."""
    if not (isinstance(message, str) and message.startswith("close ")):
        return None
    _, code, reason = message.split(" ", 2)
    return int(code), reason


def _close_of(name: str) -> Future:
    return _closes.setdefault(name, Future())
