"""Opens short sessions at a steady rate and says what became of them: `knock.py PORT HOST CA-FILE RATE SECONDS`.

A process of its own, so that the sessions which are held do not slow it down. It prints "knocking" first and JSON at the end.
"""

import asyncio
import collections
import json
import ssl
import sys

PATIENCE = 5
REQUEST = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def knock(port, host, tls):
    """A word for what happened."""
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
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
