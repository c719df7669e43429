"""The echo server on FastAPI and uvicorn."""

import echo
import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/http")
async def plain_http():
    return PlainTextResponse(echo.HELLO)


@app.websocket("/refuse")
async def refuse(websocket: WebSocket):
    await websocket.send_denial_response(
        PlainTextResponse(
            echo.REFUSAL["body"], status_code=echo.REFUSAL["status"], headers={"x-reason": echo.REFUSAL["reason"]}
        )
    )


@app.websocket("/headers")
async def headers(websocket: WebSocket):
    await websocket.accept()
    target = f"{websocket.url.path}?{websocket.url.query}"
    await websocket.send_text(echo.request_seen(target, websocket.headers.items()))
    await websocket.close()


@app.websocket("/closes")
async def closes(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(await echo.close_seen(websocket.url.query))
    await websocket.close()


@app.websocket("/")
async def handle(websocket: WebSocket):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=next((p for p in echo.SUBPROTOCOLS if p in offered), None))
    while True:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            echo.closed(websocket.url.query, event.get("code"), event.get("reason"))
            return
        if order := echo.close_order(event.get("text")):
            await websocket.close(*order)
            return
        if event.get("text") is not None:
            await websocket.send_text(event["text"])
        else:
            await websocket.send_bytes(event["bytes"])


config = uvicorn.Config(app, ws_max_size=echo.MAX_MESSAGE_LEN, log_level="warning", lifespan="off")
uvicorn.Server(config).run(sockets=[echo.listen()])
