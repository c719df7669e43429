// Keeps a connection of one client library open through Pings: idle_client.js CLIENT URL CA-FILE SECONDS
// Each client sends a message, receives its echo, is idle for the time, exchanges a second message and closes.
// Prints "ok CLIENT".

const { readFileSync } = require("node:fs")

const [name, url, caFile, seconds] = process.argv.slice(2)
const ca = readFileSync(caFile)

/** A queue of messages; an end of the connection is an error for the reader. */
class Inbox {
  constructor() {
    this.messages = []
    this.waiting = []
  }

  put(message) {
    const next = this.waiting.shift()
    next ? next(message) : this.messages.push(message)
  }

  async take(expected) {
    const message = this.messages.length ? this.messages.shift() : await new Promise(resolve => this.waiting.push(resolve))
    if (message !== expected) throw new Error(`${message} instead of ${expected}`)
  }
}

/** Exchanges two messages with idle time between them. */
async function exchange(inbox, send) {
  send("first")
  await inbox.take("first")
  await new Promise(resolve => setTimeout(resolve, seconds * 1000))
  send("last")
  await inbox.take("last")
}

/** A client with the interface of browsers. */
async function standard(socket) {
  const inbox = new Inbox()
  socket.onmessage = ({ data }) => inbox.put(data)
  socket.onclose = ({ code, reason }) => inbox.put(`closed with ${code} ${reason}`)
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = event => reject(new Error(event.message ?? "an error"))
  })
  await exchange(inbox, message => socket.send(message))
  socket.close(1000)
  await inbox.take("closed with 1000 ")
}

const CLIENTS = {
  ws() {
    const WebSocket = require("ws")
    return standard(new WebSocket(url, { ca }))
  },

  undici() {
    const { Agent, WebSocket } = require("undici")
    return standard(new WebSocket(url, { dispatcher: new Agent({ connect: { ca } }) }))
  },

  "faye-websocket"() {
    const { Client } = require("faye-websocket")
    return standard(new Client(url, [], { tls: { ca } }))
  },

  async websocket() {
    const { client: Client } = require("websocket")
    const client = new Client({ tlsOptions: { ca } })
    const connection = await new Promise((resolve, reject) => {
      client.on("connect", resolve)
      client.on("connectFailed", reject)
      client.connect(url)
    })
    const inbox = new Inbox()
    connection.on("message", ({ utf8Data }) => inbox.put(utf8Data))
    connection.on("close", (code, reason) => inbox.put(`closed with ${code}`))
    await exchange(inbox, message => connection.sendUTF(message))
    connection.close(1000)
    await inbox.take("closed with 1000")
  },

  async "socket.io-client"() {
    const { io } = require("socket.io-client")
    const target = url.replace("wss", "https")
    const client = io(target, { ca, transports: ["websocket"], reconnection: false, extraHeaders: { Origin: target } })
    const inbox = new Inbox()
    client.on("message", message => inbox.put(message))
    client.on("disconnect", reason => inbox.put(`disconnected: ${reason}`))
    await new Promise((resolve, reject) => {
      client.on("connect", resolve)
      client.on("connect_error", reject)
    })
    await exchange(inbox, message => client.send(message))
    client.disconnect()
  },

  async mqtt() {
    const mqtt = require("mqtt")
    const client = mqtt.connect(url, { ca, keepalive: 600, reconnectPeriod: 0 })
    const inbox = new Inbox()
    client.on("message", (_, payload) => inbox.put(payload.toString()))
    client.on("close", () => inbox.put("disconnected"))
    await client.subscribeAsync("echo")
    await exchange(inbox, message => client.publish("echo", message))
    await client.endAsync()
  },
}

CLIENTS[name]().then(
  () => {
    console.log(`ok ${name}`)
    process.exit(0)
  },
  error => {
    console.error(name, error)
    process.exit(1)
  },
)
