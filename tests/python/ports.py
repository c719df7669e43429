"""Sessions through a Lockgate with twenty local ports per address to its backend: ports.py LOCKGATE FOLDER SOURCES.

Run it in a separate network namespace. Prints how many of fifty clients, each with its own address, got a session.
"""

import asyncio
import pathlib
import ssl
import subprocess
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

CLIENTS = 50
CONFIG = """
[server]
https = ["127.0.0.1:8443"]
http = []
admin = "off"
access = "off"
[tls]
dev_ca = true
[pools.a]
backends = [{{ address = "ws://127.0.0.1:8765", sources = {} }}]
retry = {{ times = 0 }}
passive = {{ fails = 0 }}
[[routes]]
hosts = ["*"]
pool = "a"
"""


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main(lockgate, folder, sources):
    folder = pathlib.Path(folder)
    (folder / "config.toml").write_text(CONFIG.format(sources))
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # its CA is new
    async with serve(echo, "127.0.0.1", 8765):
        command = [lockgate, "run", "--config", folder / "config.toml"]
        environment = {"HOME": str(folder), "LOCKGATE_DATA": str(folder / "data")}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                while " ready " not in process.stderr.readline() and process.poll() is None:
                    pass
                print(await sessions(tls), flush=True)
            finally:
                process.kill()


async def sessions(tls):
    held = []
    for n in range(CLIENTS):
        try:
            own = {"local_addr": (f"127.0.1.{n + 1}", 0), "ssl": tls}
            held.append(await connect("wss://127.0.0.1:8443/", server_hostname="localhost", **own))
        except InvalidStatus as refused:
            assert refused.response.status_code == 502, refused
    for connection in held:
        await connection.send("still here")
        assert await connection.recv() == "still here"
    for connection in held:
        await connection.close()
    return len(held)


asyncio.run(main(*sys.argv[1:]))
