// Checks from a page in headless Chromium, each target through Lockgate: browser.js 1.1|2 URL[,LACKING …] …
// The page is loaded from the server first, because Chromium uses RFC 8441 only on an existing connection.

const { inPage, withChromium } = require("./chromium")

const [version, ...targets] = process.argv.slice(2)
const DEADLINE = 60_000

/** Runs in the page. */
async function checks(url, lacking) {
  const lacks = what => lacking.includes(what)
  const failed = []
  const open = (path, protocols = []) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url + path, protocols)
    socket.binaryType = "arraybuffer"
    const messages = [], waiting = []
    socket.onmessage = ({ data }) => waiting.length ? waiting.shift()(data) : messages.push(data)
    const receive = () => messages.length ? messages.shift() : new Promise(resolve => waiting.push(resolve))
    const ended = new Promise(resolve => { socket.onclose = ({ code, reason }) => resolve([code, reason]) })
    socket.onopen = () => resolve({ socket, receive, ended })
    ended.then(end => reject(new Error(`closed with ${end}`)))
  })
  const same = (one, other) => {
    if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error(`${JSON.stringify(one)} is not ${JSON.stringify(other)}`)
  }
  const echoes = async (peer, message) => {
    peer.socket.send(message)
    const back = await peer.receive()
    if (typeof message === "string") return same(back, message)
    same(back.byteLength, message.byteLength)
    const [a, b] = [new Uint8Array(back), new Uint8Array(message.buffer ?? message)]
    if (!a.every((byte, index) => byte === b[index])) throw new Error("bytes differ")
  }
  const all = {
    async text() {
      const peer = await open("/")
      for (const message of ["plain", "żółw 🐢", "x".repeat(60000)]) await echoes(peer, message)
      peer.socket.close(1000)
      await peer.ended
    },
    async binary() {
      const peer = await open("/")
      for (const size of [1, 65536, 1 << 20, 16 << 20]) await echoes(peer, new Uint8Array(size).map((_, index) => index * 31))
      peer.socket.close(1000)
    },
    async compression() {
      const peer = await open("/")
      same(peer.socket.extensions.includes("permessage-deflate"), true)
      await echoes(peer, "a".repeat(100_000))
      peer.socket.close(1000)
    },
    async subprotocol() {
      const peer = await open("/", ["chat.v1", "chat.v2"])
      same(peer.socket.protocol, "chat.v2")
      peer.socket.close(1000)
    },
    async closes() {
      const peer = await open("/")
      peer.socket.send("close 4001 the moon is full")
      const [code, reason] = await peer.ended
      same(code, 4001)
      if (!lacks("reasons")) same(reason, "the moon is full")
      const id = crypto.randomUUID()
      const other = await open(`/?id=${id}`)
      await echoes(other, "hello")
      other.socket.close(4002, "enough")
      await other.ended // with any code, as the server answers
      const witness = await open(`/closes?id=${id}`)
      const [seen, why] = JSON.parse(await witness.receive())
      same(seen, 4002)
      if (!lacks("reasons")) same(why, "enough")
      witness.socket.close(1000)
    },
    async headers() {
      const peer = await open("/headers?room=blue%20sky&x=1")
      const seen = JSON.parse(await peer.receive())
      const fields = Object.fromEntries(seen.headers)
      same(seen.query, "room=blue%20sky&x=1")
      same(fields.host, new URL(url).host)
      same(fields.origin, location.origin)
      same(fields["x-forwarded-for"], "127.0.0.1")
      peer.socket.close(1000)
    },
    async token() {
      if (lacks("headers")) return
      for (const [path, offered, chosen] of [
        ["/headers", ["bearer", "a.b-c"], ["bearer"]],
        ["/headers", ["bearer.a.b-c"], ["bearer.a.b-c"]],
        ["/headers", ["chat.v1", "bearer", "a.b-c"], ["chat.v1", "bearer"]], // some servers select none at this path
        ["/headers?token=a.b-c", [], [""]],
      ]) {
        const peer = await open(path, offered)
        const seen = await peer.receive()
        same(JSON.parse(seen).headers.filter(([name]) => name === "authorization"), [["authorization", "Bearer a.b-c"]])
        same(seen.split("a.b-c").length, 2)
        same(chosen.includes(peer.socket.protocol), true)
        peer.socket.close(1000)
      }
    },
    async refusal() {
      const end = await open("/refuse").then(() => "a session", error => error.message)
      same(end, "closed with 1006,")
    },
  }
  for (const [name, check] of Object.entries(all)) {
    if (name === "refusal" ? lacks("refused") : lacks(name)) continue
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no end")), 60_000))
    await Promise.race([check(), late]).catch(error => failed.push(`${name}: ${error.message}`))
  }
  return failed
}

async function visit(chromium, target) {
  const [url, ...lacking] = target.split(",")
  return inPage(chromium, url.replace("wss", "https") + "/http", checks, [url, lacking])
}

async function all(chromium) {
  let failed = 0
  for (const target of targets) {
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`${target}: no end`)), DEADLINE).unref())
    const failures = await Promise.race([visit(chromium, target), late])
    for (const failure of failures) console.log(`FAILED chromium over ${version}, ${target}: ${failure}`)
    if (!failures.length) console.log(`ok chromium over ${version}, ${target}`)
    failed += failures.length
  }
  return failed
}

withChromium(version === "1.1" ? ["--disable-http2"] : [], all).then(failed => process.exit(failed ? 1 : 0), error => {
  console.error(error)
  process.exit(1)
})
