// Checks Node's ws against one server, directly or through a proxy: client.js URL CA [LACKING …]
// The checks of tests/python/interop.py with a client in another language; LACKING is what the server does not support.

const assert = require("node:assert")
const { randomBytes } = require("node:crypto")
const { readFileSync } = require("node:fs")
const https = require("node:https")
const WebSocket = require("ws")

const [url, caFile, ...without] = process.argv.slice(2)
const ca = readFileSync(caFile)
const lacks = what => without.includes(what)
const DEADLINE = 60_000

/** A connection whose messages and end can be awaited in order. */
class Peer {
  constructor(path, { protocols = [], headers = {}, compress = false } = {}) {
    this.socket = new WebSocket(url + path, protocols, { ca, headers, perMessageDeflate: compress, maxPayload: 1 << 25 })
    this.messages = []
    this.waiting = []
    this.socket.on("message", (data, isBinary) => this.deliver(isBinary ? data : data.toString()))
    this.ended = new Promise(resolve => this.socket.on("close", (code, reason) => resolve([code, reason.toString()])))
    this.opened = new Promise((resolve, reject) => {
      this.socket.on("open", () => resolve(this))
      this.socket.on("error", reject)
      this.socket.on("unexpected-response", (_, response) => reject(Object.assign(new Error("refused"), { response })))
    })
  }

  deliver(message) {
    const next = this.waiting.shift()
    next ? next(message) : this.messages.push(message)
  }

  receive() {
    return this.messages.length ? this.messages.shift() : new Promise(resolve => this.waiting.push(resolve))
  }

  async echoes(message) {
    this.socket.send(message)
    assert.deepStrictEqual(await this.receive(), message)
  }

  async close(code, reason) {
    this.socket.close(code, reason)
    return await this.ended
  }
}

const open = async (path, options) => await new Peer(path, options).opened

async function text() {
  const peer = await open("/")
  for (const message of ["plain", "żółw 🐢", "x".repeat(125), "x".repeat(126), "x".repeat(65536)]) await peer.echoes(message)
  if (!lacks("empty")) await peer.echoes("")
  await peer.close(1000)
}

async function binary() {
  const peer = await open("/")
  for (const size of [1, 126, 65536, 1 << 20, 16 << 20]) await peer.echoes(randomBytes(size))
  await peer.close(1000)
}

async function ping() {
  const peer = await open("/")
  const pong = new Promise(resolve => peer.socket.on("pong", data => resolve(data.toString())))
  peer.socket.ping("are you there")
  assert.strictEqual(await pong, "are you there")
  await peer.close(1000)
}

async function subprotocol() {
  const peer = await open("/", { protocols: ["chat.v1", "chat.v2"] })
  assert.strictEqual(peer.socket.protocol, "chat.v2")
  await peer.close(1000)
}

async function compression() {
  const peer = await open("/", { compress: true })
  assert.match(peer.socket.extensions, /permessage-deflate/)
  for (const message of ["a".repeat(100_000), "short", randomBytes(50_000)]) await peer.echoes(message)
  await peer.close(1000)
}

async function closes() {
  const peer = await open("/")
  peer.socket.send("close 4001 the moon is full")
  const [code, reason] = await peer.ended
  assert.strictEqual(code, 4001)
  if (!lacks("reasons")) assert.strictEqual(reason, "the moon is full")

  const id = randomBytes(4).toString("hex")
  const other = await open(`/?id=${id}`)
  await other.echoes("hello")
  await other.close(4002, "enough")
  const witness = await open(`/closes?id=${id}`)
  const [seen, why] = JSON.parse(await witness.receive())
  assert.strictEqual(seen, 4002)
  if (!lacks("reasons")) assert.strictEqual(why, "enough")
  await witness.close(1000)
}

async function headers() {
  const peer = await open("/headers?room=blue%20sky&x=1", { headers: { "X-Custom": "1" } })
  const seen = JSON.parse(await peer.receive())
  const fields = Object.fromEntries(seen.headers)
  assert.strictEqual(seen.query, "room=blue%20sky&x=1")
  assert.strictEqual(fields.host, new URL(url).host)
  assert.strictEqual(fields["x-custom"], "1")
  assert.strictEqual(fields["x-forwarded-for"], "127.0.0.1")
  assert.match(fields["x-forwarded-proto"], /^(https|wss)$/)
  await peer.close(1000)
}

async function refusal() {
  const refused = await open("/refuse").catch(error => error)
  const { response } = refused
  assert.strictEqual(response?.statusCode, 403, refused)
  if (lacks("refusal")) return
  assert.strictEqual(response.headers["x-reason"], "full moon")
  assert.strictEqual((await response.toArray()).join(""), "not today")
}

async function http() {
  const response = await new Promise((resolve, reject) =>
    https.get(url.replace("wss", "https") + "/http", { ca }, resolve).on("error", reject))
  assert.strictEqual((await response.toArray()).join(""), "hello over http")
}

const CHECKS = { text, binary, ping, subprotocol, compression, closes, headers, refusal, http }

async function main() {
  for (const [name, check] of Object.entries(CHECKS)) {
    if (name === "refusal" ? lacks("refused") : lacks(name)) continue
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no end")), DEADLINE).unref())
    await Promise.race([check(), late]).catch(error => {
      console.log(`FAILED node ${name}`)
      throw error
    })
    console.log(`ok node ${name}`)
  }
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
