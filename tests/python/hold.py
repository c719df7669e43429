"""Opens one session, prints "open", and holds it until it is killed: `hold.py URL CA-FILE`."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(url, ca):
    async with connect(url, ssl=ssl.create_default_context(cafile=ca), proxy=None) as connection:
        print("open", flush=True)
        await connection.wait_closed()


asyncio.run(main(*sys.argv[1:]))
