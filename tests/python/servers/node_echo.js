// The echo server on Node and ws, with the interface of `echo.py`. `npm install` in this directory fetches ws.

const { createServer } = require("node:http")
const { WebSocketServer } = require("ws")

const SUBPROTOCOLS = ["chat.v2", "chat.v1"]
const MAX_MESSAGE_LEN = 32 * 1024 * 1024

const closes = new Map() // id: a promise of the close of its connection, and its resolve function
function closeOf(id) {
  if (!closes.has(id)) {
    let resolve
    const promise = new Promise(fulfil => (resolve = fulfil))
    closes.set(id, { promise, resolve })
  }
  return closes.get(id)
}

const http = createServer((request, response) => {
  const found = request.url === "/http"
  response.writeHead(found ? 200 : 404)
  response.end(found ? "hello over http" : "")
})

const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: MAX_MESSAGE_LEN,
  perMessageDeflate: true,
  handleProtocols: offered => SUBPROTOCOLS.find(protocol => offered.has(protocol)) ?? false,
})

http.on("upgrade", (request, socket, head) => {
  const url = new URL(request.url, "ws://localhost")
  if (url.pathname === "/refuse") {
    const lines = ["HTTP/1.1 403 Forbidden", "Connection: close", "Content-Length: 9", "x-reason: full moon", "", "not today"]
    return socket.end(lines.join("\r\n"))
  }
  sockets.handleUpgrade(request, socket, head, connection => {
    connection.on("error", () => {}) // "close" follows
    if (url.pathname === "/headers") headers(connection, request)
    else if (url.pathname === "/closes") sendClose(connection, url.searchParams.get("id"))
    else echo(connection, url.searchParams.get("id") ?? "")
  })
})

function headers(connection, request) {
  const [path, query = ""] = request.url.split("?")
  const seen = []
  for (let i = 0; i < request.rawHeaders.length; i += 2)
    seen.push([request.rawHeaders[i].toLowerCase(), request.rawHeaders[i + 1]])
  connection.send(JSON.stringify({ path, query, headers: seen }))
  connection.close(1000)
}

async function sendClose(connection, id) {
  connection.send(JSON.stringify(await closeOf(id).promise))
  connection.close(1000)
}

function echo(connection, id) {
  connection.on("close", (code, reason) => closeOf(id).resolve([code, reason.toString()]))
  connection.on("message", (data, isBinary) => {
    const order = isBinary ? null : /^close (\d+) (.*)$/s.exec(data)
    if (order) connection.close(Number(order[1]), order[2])
    else connection.send(data, { binary: isBinary })
  })
}

http.listen(0, "127.0.0.1", () => console.log(http.address().port))
