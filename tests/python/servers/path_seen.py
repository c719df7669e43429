"""Answers each request with the path that the application sees, as UTF-8 in hexadecimal. The argument names the server."""

import asyncio
import ctypes
import signal
import socket
import sys
import threading


def encoded(path):
    return path.encode("utf-8", "surrogateescape").hex()


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = encoded(scope["path"]).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ, start_response):
    # PEP 3333: the octets of the path, as Latin-1.
    body = encoded(environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def run_uvicorn(port):
    import uvicorn

    uvicorn.run(asgi, port=port, log_level="error", lifespan="off")


def run_daphne(port):
    from daphne.endpoints import build_endpoint_description_strings
    from daphne.server import Server

    Server(asgi, endpoints=build_endpoint_description_strings("127.0.0.1", port), signal_handlers=False).run()


def run_aiohttp(port):
    from aiohttp import web

    async def handle(request):
        return web.Response(text=encoded(request.path))

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, handle_signals=False)


def run_gunicorn(port):
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            settings = {
                "bind": f"127.0.0.1:{port}",
                "worker_class": "gthread",
                "threads": 2,
                "loglevel": "error",
                "control_socket_disable": True,
                # The worker ends with its parent (PR_SET_PDEATHSIG), which the test kills.
                "post_fork": lambda server, worker: ctypes.CDLL(None).prctl(1, signal.SIGKILL),
            }
            for key, value in settings.items():
                self.cfg.set(key, value)

        def load(self):
            return wsgi

    Application().run()


def run_werkzeug(port):
    from werkzeug import Request, Response
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_):
            pass

    @Request.application
    def app(request):
        return Response(encoded(request.path), mimetype="text/plain")

    make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler).serve_forever()


def run_tornado(port):
    from tornado.web import Application, RequestHandler

    class Handler(RequestHandler):
        def decode_argument(self, value, name=None):
            return value.decode("utf-8", "replace")

        # The path of a handler is decoded only in its groups.
        def get(self, path):
            self.write(encoded(path))

    async def serve():
        Application([(r"(/.*)", Handler)], log_function=lambda _: None).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(serve())


def announce(port):
    """Prints the port once the server listens on it."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
            continue
        print(port, flush=True)
        return


kind, port = sys.argv[1], int(sys.argv[2])
threading.Thread(target=announce, args=(port,), daemon=True).start()
globals()[f"run_{kind}"](port)
