"""Pushes the load of the machine to every page once per second."""

import asyncio
import json
import os
import pathlib
import sys

import tornado.web
import tornado.websocket

PAGE = (pathlib.Path(__file__).parent / "index.html").read_text()


class Page(tornado.web.RequestHandler):
    def get(self):
        self.write(PAGE)


class Live(tornado.websocket.WebSocketHandler):
    viewers = set()

    def open(self):
        self.viewers.add(self)
        self.write_message(reading())

    def on_close(self):
        self.viewers.discard(self)


def reading():
    return json.dumps({"load": os.getloadavg()[0], "viewers": len(Live.viewers)})


async def main(port):
    app = tornado.web.Application([("/", Page), ("/ws", Live)])
    app.listen(port, "127.0.0.1", xheaders=True)
    while True:
        await asyncio.sleep(1)
        for viewer in list(Live.viewers):
            viewer.write_message(reading())


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8888))
