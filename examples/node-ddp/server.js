// A shared list of tasks over DDP, Meteor's protocol, on Node and ws. The page is served on the same port.

const { randomUUID } = require("node:crypto")
const { readFileSync } = require("node:fs")
const { createServer } = require("node:http")
const { join } = require("node:path")
const { WebSocketServer } = require("ws")

const page = readFileSync(join(__dirname, "index.html"))
const tasks = new Map([["1", { text: "put Lockgate in front" }]])
const subscriptions = new Map() // socket: the ids of its subscriptions to the tasks

const http = createServer((request, response) => {
  const found = request.url === "/"
  response.writeHead(found ? 200 : 404, { "Content-Type": "text/html; charset=utf-8" })
  response.end(found ? page : "not found\n")
})

const sockets = new WebSocketServer({ server: http, path: "/websocket", maxPayload: 64 * 1024 })
sockets.on("connection", socket => {
  socket.on("error", () => {}) // "close" follows
  socket.on("close", () => subscriptions.delete(socket))
  socket.on("message", data => {
    let message
    try {
      message = JSON.parse(data)
    } catch {}
    receive(socket, message ?? {})
  })
})

function receive(socket, message) {
  const { msg, id } = message
  const mine = subscriptions.get(socket)
  if (msg === "ping") send(socket, { msg: "pong", id })
  else if (msg === "pong") return
  else if (msg === "connect" && !mine) connect(socket, message)
  else if (!mine) send(socket, { msg: "error", reason: "connect first", offendingMessage: message })
  else if (msg === "sub") subscribe(socket, mine, message)
  else if (msg === "unsub") {
    mine.delete(id)
    send(socket, { msg: "nosub", id })
  } else if (msg === "method") call(socket, message)
  else send(socket, { msg: "error", reason: "unknown message", offendingMessage: message })
}

function connect(socket, { version }) {
  if (version !== "1") {
    send(socket, { msg: "failed", version: "1" })
    return socket.close()
  }
  subscriptions.set(socket, new Set())
  send(socket, { msg: "connected", session: randomUUID() })
}

function subscribe(socket, mine, { id, name }) {
  if (name !== "tasks") return send(socket, { msg: "nosub", id, error: { error: 404, reason: `no publication ${name}` } })
  if (mine.size === 0) for (const task of tasks.keys()) send(socket, added(task))
  mine.add(id)
  send(socket, { msg: "ready", subs: [id] })
}

function call(socket, { id, method, params }) {
  const text = params?.[0]
  if (method !== "add" || typeof text !== "string")
    send(socket, { msg: "result", id, error: { error: 404, reason: `no method ${method}` } })
  else {
    const task = randomUUID()
    tasks.set(task, { text })
    for (const [other, theirs] of subscriptions) if (theirs.size > 0) send(other, added(task))
    send(socket, { msg: "result", id, result: task })
  }
  send(socket, { msg: "updated", methods: [id] })
}

function added(task) {
  return { msg: "added", collection: "tasks", id: task, fields: tasks.get(task) }
}

function send(socket, message) {
  socket.send(JSON.stringify(message))
}

http.listen(Number(process.argv[2] ?? 3000), "127.0.0.1")
