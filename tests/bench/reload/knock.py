"""Opens short sessions at a fixed rate and reports their outcomes: `knock.py PORT HOST CA-FILE RATE SECONDS`.

A separate process, so that the long-lived sessions do not slow it down. Prints "knocking" first and JSON at the end.
"""

import asyncio
import collections
import json
import ssl
import sys

TIMEOUT = 5
REQUEST = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def knock(port, host, tls):
    """Opens one session and returns the outcome as a word."""
    writer = None
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host)
            writer.write(REQUEST.format(host).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return "opened" if head.startswith(b"HTTP/1.1 101") else f"status {head.split()[1].decode()}"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except (OSError, EOFError, ssl.SSLError):
        return "reset"
    finally:
        if writer:
            writer.transport.abort()


async def main(port, host, ca, rate, seconds):
    tls = ssl.create_default_context(cafile=ca)
    clock = asyncio.get_running_loop().time
    rate, began, knocks = float(rate), clock(), []
    print("knocking", flush=True)
    for n in range(int(rate * float(seconds))):
        await asyncio.sleep(max(0, began + n / rate - clock()))
        knocks.append(asyncio.create_task(knock(int(port), host, tls)))
    took = clock() - began
    outcomes = collections.Counter(await asyncio.gather(*knocks))
    print(json.dumps({"outcomes": dict(outcomes), "seconds": round(took, 1)}))


asyncio.run(main(*sys.argv[1:]))
