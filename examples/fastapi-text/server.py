"""A text that all clients edit; the last change wins."""

import pathlib
import sys

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse

app = FastAPI()
text = ""
editors: set[WebSocket] = set()


@app.get("/")
async def page():
    return FileResponse(pathlib.Path(__file__).parent / "index.html")


@app.websocket("/ws")
async def edit(editor: WebSocket):
    global text
    await editor.accept()
    editors.add(editor)
    try:
        await editor.send_text(text)
        while True:
            text = await editor.receive_text()
            for other in editors - {editor}:
                await other.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        editors.discard(editor)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
