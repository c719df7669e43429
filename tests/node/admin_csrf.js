// Malicious pages try to read from an admin address and to send commands to it: admin_csrf.js PORT ID
// A server without any protection is tried first: it shows what a browser permits a page to do. Prints JSON, an object for
// each page and target: what the page could read, and which commands the unprotected server received.

const http = require("node:http")
const WebSocket = require("ws")
const { inPage, withChromium } = require("./chromium")

const [admin, id] = process.argv.slice(2)
const READS = ["/status", "/sessions", "/metrics", "/certificates", "/tap?seconds=1", "/readyz"]
const ORDERS = [
  "/reload", `/sessions/close?id=${id}`, "/sessions/close?route=a", "/drain?route=a", "/handover", "/certificates/renew?host=a.test",
]
const PAGE = "<!doctype html><title>a page</title><body>"

/** Runs in the page and tries every way to reach `base`. Returns what it could read, as [way, path, text]. */
async function attack(base, reads, orders) {
  const learned = []
  const learn = (way, path, text) => learned.push([way, path, String(text).slice(0, 300)])
  const timed = promise => Promise.race([promise, new Promise(resolve => setTimeout(resolve, 3000))]).catch(() => {})
  const element = (tag, set) => timed(new Promise(resolve => {
    const it = Object.assign(document.createElement(tag), set(resolve))
    document.body.append(it)
  }))
  const loads = (way, path) => done => ({ onload: () => done(learn(way, path, "loaded")), onerror: () => done() })
  const fetched = async (way, path, options) => {
    const answer = await fetch(base + path, options)
    if (answer.type !== "opaque") learn(way, path, `${answer.status} ${await answer.text()}`)
  }
  const frame = async (way, path, submit) => {
    const name = `frame${Math.random()}`
    await element("iframe", done => ({ name, ...(submit ? {} : { src: base + path }), onload: done }))
    const it = [...document.querySelectorAll("iframe")].at(-1)
    if (submit) {
      const form = document.createElement("form")
      document.body.append(Object.assign(form, { method: "POST", action: base + path, target: name, enctype: submit }))
      const loaded = new Promise(resolve => { it.onload = resolve })
      form.submit()
      await timed(loaded)
    }
    const text = it.contentDocument?.body.textContent
    if (text) learn(way, path, text)
  }
  const headers = { "Content-Type": "application/json", "X-Requested-With": "XMLHttpRequest", Authorization: "Bearer x" }
  for (const path of [...reads, ...orders]) {
    for (const method of ["GET", "POST"]) {
      const ways = { simple: {}, credentials: { credentials: "include" }, headers: { headers } }
      ways["no-cors"] = { mode: "no-cors" }
      if (method === "POST") ways.text = { mode: "no-cors", body: "x" }
      for (const [way, options] of Object.entries(ways)) {
        await timed(fetched(`fetch ${method} ${way}`, path, { method, ...options }))
      }
    }
    await timed(fetched("fetch PUT", path, { method: "PUT" }))
    await timed(new Promise(resolve => {
      const request = new XMLHttpRequest()
      request.open("POST", base + path)
      request.onloadend = () => resolve(request.status && learn("XMLHttpRequest", path, `${request.status} ${request.responseText}`))
      request.send()
    }))
    navigator.sendBeacon(base + path)
    navigator.sendBeacon(base + path, "x")
    for (const type of ["application/x-www-form-urlencoded", "text/plain"]) await frame(`form ${type}`, path, type)
    await frame("iframe", path)
    await element("img", done => ({ ...loads("img", path)(done), src: base + path }))
    await element("script", done => ({ ...loads("script", path)(done), src: base + path }))
    await element("link", done => ({ ...loads("link", path)(done), rel: "stylesheet", href: base + path }))
    await timed(new Promise(resolve => {
      const events = new EventSource(base + path)
      events.onopen = () => resolve(learn("EventSource", path, "open"))
      events.onerror = () => { events.close(); resolve() }
    }))
    await timed(new Promise(resolve => {
      const socket = new WebSocket(base.replace("http", "ws") + path)
      socket.onopen = () => resolve(learn("WebSocket", path, "open"))
      socket.onerror = resolve
    }))
  }
  return learned
}

/** Starts an HTTP server on a free port. */
async function serve(answer) {
  const server = http.createServer(answer)
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
  return { server, port: server.address().port }
}

async function main() {
  const page = await serve((_, response) => response.setHeader("Content-Type", "text/html").end(PAGE))
  const done = new Set()
  const naive = await serve((request, response) => {
    if (request.method === "POST") done.add(request.url)
    response.setHeader("Access-Control-Allow-Origin", request.headers.origin ?? "*")
    response.setHeader("Access-Control-Allow-Credentials", "true")
    response.setHeader("Access-Control-Allow-Headers", "content-type, x-requested-with, authorization")
    response.setHeader("Access-Control-Allow-Methods", "GET, POST, PUT")
    if (request.headers.accept === "text/event-stream") response.setHeader("Content-Type", "text/event-stream")
    request.resume().on("end", () => response.end("secret"))
  })
  new WebSocket.Server({ server: naive.server })
  const found = []
  // Chromium's own protection is disabled, because older versions and other browsers lack it and it would hide a defect here.
  const flags = ["--host-resolver-rules=MAP *.example 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
  await withChromium(flags, async chromium => {
    for (const [name, port] of [["naive", naive.port], ["admin", admin]]) {
      for (const [from, to, html] of [
        [`127.0.0.1:${page.port}`, `127.0.0.1:${port}`],
        [`evil.example:${page.port}`, `127.0.0.1:${port}`],
        [`evil.example:${page.port}`, `localhost:${port}`],
        // DNS rebinding: the name resolved to another machine when the page was loaded, and resolves to this one now.
        [`evil.example:${port}`, `evil.example:${port}`, PAGE],
      ]) {
        done.clear()
        const learned = await inPage(chromium, `http://${from}/`, attack, [`http://${to}`, READS, ORDERS], html)
        found.push({ target: name, from, to, learned, done: [...done] })
      }
    }
  })
  for (const { server } of [page, naive]) server.close()
  console.log(JSON.stringify(found))
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
