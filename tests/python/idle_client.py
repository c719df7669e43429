"""Keeps a connection of one client library open through Pings: `idle_client.py CLIENT URL CA-FILE SECONDS`.

Each client sends a message, receives its echo, is idle for the time, exchanges a second message and closes. A library that
answers Pings only while the program reads is left in a read. Prints "ok CLIENT"; any other end is a traceback.
"""

import asyncio
import queue
import ssl
import sys
import threading
from urllib.parse import urlsplit

EXCHANGE_TIMEOUT = 60  # seconds


def context(ca):
    return ssl.create_default_context(cafile=ca)


async def idle(seconds, read):
    """Reads for the time; a message, or the end of the connection, is an error."""
    try:
        message = await asyncio.wait_for(read, seconds)
    except TimeoutError:
        return
    raise AssertionError(f"{message!r} while idle")


async def websockets_asyncio(url, ca, seconds):
    from websockets.asyncio.client import connect

    async with connect(url, ssl=context(ca), proxy=None, ping_interval=None) as connection:
        await connection.send("first")
        assert await connection.recv() == "first"
        await idle(seconds, connection.recv())
        await connection.send("last")
        assert await connection.recv() == "last"


def websockets_sync(url, ca, seconds):
    from websockets.sync.client import connect

    with connect(url, ssl=context(ca), proxy=None, ping_interval=None) as connection:
        connection.send("first")
        assert connection.recv(EXCHANGE_TIMEOUT) == "first"
        try:
            raise AssertionError(f"{connection.recv(seconds)!r} while idle")
        except TimeoutError:
            pass
        connection.send("last")
        assert connection.recv(EXCHANGE_TIMEOUT) == "last"


def websocket_client(url, ca, seconds):
    import websocket

    connection = websocket.create_connection(url, timeout=EXCHANGE_TIMEOUT, sslopt={"context": context(ca)})
    connection.send("first")
    assert connection.recv() == "first"
    timer = threading.Timer(seconds, connection.send, ["last"])
    timer.start()
    # One read over the idle time, in which the library answers Pings.
    assert connection.recv() == "last"
    connection.close()


def websocket_client_app(url, ca, seconds):
    import websocket

    seen, ended = queue.Queue(), queue.Queue()
    app = websocket.WebSocketApp(
        url,
        on_open=lambda app: app.send("first"),
        on_message=lambda app, message: seen.put(message),
        on_close=lambda app, code, reason: ended.put(code),
    )
    threading.Thread(target=app.run_forever, kwargs={"sslopt": {"context": context(ca)}}, daemon=True).start()
    assert seen.get(timeout=EXCHANGE_TIMEOUT) == "first"
    try:
        raise AssertionError(f"closed with {ended.get(timeout=seconds)} while idle")
    except queue.Empty:
        pass
    app.send("last")
    assert seen.get(timeout=EXCHANGE_TIMEOUT) == "last"
    app.close()


async def aiohttp_client(url, ca, seconds):
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=context(ca)) as connection:
        await connection.send_str("first")
        assert await connection.receive_str() == "first"
        await idle(seconds, connection.receive())
        await connection.send_str("last")
        assert await connection.receive_str() == "last"


async def httpx_ws_client(url, ca, seconds):
    import httpx
    import httpx_ws

    async with httpx.AsyncClient(verify=context(ca)) as client:
        async with httpx_ws.aconnect_ws(url, client, keepalive_ping_interval_seconds=None) as connection:
            await connection.send_text("first")
            assert await connection.receive_text() == "first"
            await idle(seconds, connection.receive())
            await connection.send_text("last")
            assert await connection.receive_text() == "last"


async def wsproto_client(url, ca, seconds):
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port, ssl=context(ca))
    connection = WSConnection(ConnectionType.CLIENT)

    async def receive(kind):
        while True:
            for event in connection.events():
                if isinstance(event, Ping):
                    writer.write(connection.send(event.response()))
                elif isinstance(event, kind):
                    return event
                else:
                    raise AssertionError(event)
            data = await reader.read(65536)
            connection.receive_data(data or None)

    writer.write(connection.send(Request(host=target.netloc, target="/")))
    await receive(AcceptConnection)
    writer.write(connection.send(TextMessage(data="first")))
    assert (await receive(TextMessage)).data == "first"
    await idle(seconds, receive(TextMessage))
    writer.write(connection.send(TextMessage(data="last")))
    assert (await receive(TextMessage)).data == "last"
    writer.write(connection.send(CloseConnection(code=1000)))
    await receive(CloseConnection)
    writer.close()


async def tornado_client(url, ca, seconds):
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    connection = await websocket_connect(HTTPRequest(url, ssl_options=context(ca)))
    await connection.write_message("first")
    assert await connection.read_message() == "first"
    pending = asyncio.ensure_future(connection.read_message())
    await idle(seconds, asyncio.shield(pending))
    await connection.write_message("last")
    assert await pending == "last"
    connection.close(1000)
    assert await connection.read_message() is None


async def autobahn_client(url, ca, seconds):
    import peers

    async with peers.Autobahn(url, context(ca)) as peer:
        await peer.send("first")
        assert await peer.receive() == "first"
        await idle(seconds, asyncio.shield(peer.end))
        await peer.send("last")
        assert await peer.receive() == "last"


def simple_websocket_client(url, ca, seconds):
    import simple_websocket

    connection = simple_websocket.Client(f"{url}/", ssl_context=context(ca))
    connection.send("first")
    assert connection.receive(EXCHANGE_TIMEOUT) == "first"
    message = connection.receive(seconds)
    assert message is None, f"{message!r} while idle"
    connection.send("last")
    assert connection.receive(EXCHANGE_TIMEOUT) == "last"
    connection.close()


async def socketio_client(url, ca, seconds):
    import aiohttp
    import socketio

    received = asyncio.Queue()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context(ca))) as session:
        client = socketio.AsyncClient(http_session=session, reconnection=False)
        client.on("message", received.put)
        client.on("disconnect", lambda reason: received.put_nowait(reason))
        url = url.replace("wss", "https")
        await client.connect(url, {"Origin": url}, transports=["websocket"])
        await client.send("first")
        assert await received.get() == "first"
        await idle(seconds, received.get())
        await client.send("last")
        assert await received.get() == "last"
        await client.disconnect()


def paho_client(url, ca, seconds):
    import paho.mqtt.client as mqtt

    received = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="websockets", reconnect_on_failure=False)
    client.tls_set_context(context(ca))
    client.on_connect = lambda client, *_: client.subscribe("paho")
    client.on_subscribe = lambda *_: received.put("subscribed")
    client.on_message = lambda client, userdata, message: received.put(message.payload.decode())
    client.on_disconnect = lambda client, userdata, flags, code, properties: received.put(f"disconnected: {code}")
    target = urlsplit(url)
    # No PINGREQ of MQTT within the idle time.
    client.connect(target.hostname, target.port, keepalive=600)
    client.loop_start()
    assert received.get(timeout=EXCHANGE_TIMEOUT) == "subscribed"
    client.publish("paho", "first")
    assert received.get(timeout=EXCHANGE_TIMEOUT) == "first"
    try:
        raise AssertionError(f"{received.get(timeout=seconds)!r} while idle")
    except queue.Empty:
        pass
    client.publish("paho", "last")
    assert received.get(timeout=EXCHANGE_TIMEOUT) == "last"
    client.disconnect()
    client.loop_stop()


CLIENTS = {
    "websockets": websockets_asyncio,
    "websockets-sync": websockets_sync,
    "websocket-client": websocket_client,
    "websocket-client-app": websocket_client_app,
    "aiohttp": aiohttp_client,
    "httpx-ws": httpx_ws_client,
    "wsproto": wsproto_client,
    "tornado": tornado_client,
    "autobahn": autobahn_client,
    "simple-websocket": simple_websocket_client,
    "python-socketio": socketio_client,
    "paho-mqtt": paho_client,
}


def main(name, url, ca, seconds):
    client = CLIENTS[name]
    arguments = (url, ca, float(seconds))
    if asyncio.iscoroutinefunction(client):
        asyncio.run(client(*arguments))
    else:
        client(*arguments)
    print(f"ok {name}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
