// Headless Chromium with a connection to its DevTools.

const { spawn } = require("node:child_process")
const { mkdtempSync, rmSync } = require("node:fs")
const { tmpdir } = require("node:os")
const { join } = require("node:path")
const WebSocket = require("ws")

const PATIENCE = 60_000

/** Calls `use` with a Chromium that has these flags besides, and ends it. */
async function withChromium(flags, use) {
  const profile = mkdtempSync(join(tmpdir(), "lockgate-browser-"))
  const chromium = await start(profile, flags)
  try {
    return await use(chromium)
  } finally {
    const gone = new Promise(resolve => chromium.browser.on("exit", resolve))
    chromium.browser.kill()
    await gone
    await remove(profile)
  }
}

async function start(profile, flags) {
  const browser = spawn("chromium", [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--ignore-certificate-errors", "--remote-debugging-port=0",
    `--user-data-dir=${profile}`, ...flags,
  ], { stdio: ["ignore", "ignore", "pipe"] })
  const address = await new Promise((resolve, reject) => {
    let said = ""
    browser.on("error", reject)
    browser.on("exit", () => reject(new Error(`chromium ended: ${said}`)))
    browser.stderr.on("data", data => {
      said += data
      const found = said.match(/DevTools listening on (\S+)/)
      if (found) resolve(found[1])
    })
  })
  const devtools = new WebSocket(address, { maxPayload: 1 << 26 })
  const answers = new Map()
  const events = []
  const awaited = []
  let last = 0
  devtools.on("message", data => {
    const message = JSON.parse(data)
    if (message.id) return answers.get(message.id)(message)
    events.push(message)
    for (const hear of awaited) hear(message)
  })
  await new Promise(resolve => devtools.on("open", resolve))
  const ask = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
    const id = ++last
    answers.set(id, ({ result, error }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result)))
    devtools.send(JSON.stringify({ id, method, params, sessionId }))
  })
  /** Also one that came before it was asked for. */
  const event = is => new Promise(resolve => {
    const hear = message => { if (is(message)) resolve(message) }
    events.forEach(hear)
    awaited.push(hear)
  })
  return { browser, ask, event }
}

/** What `script`, a function, returns in a page of this address. `html`: the page is this, wherever it would come from. */
async function inPage({ ask, event }, url, script, parameters, html) {
  const { targetId } = await ask("Target.createTarget", { url: "about:blank" })
  const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true })
  await ask("Page.enable", {}, sessionId)
  await ask("Page.setLifecycleEventsEnabled", { enabled: true }, sessionId)
  if (html) {
    await ask("Fetch.enable", { patterns: [{ urlPattern: url }] }, sessionId)
    const asked = event(message => message.method === "Fetch.requestPaused" && message.sessionId === sessionId)
    asked.then(({ params }) => ask("Fetch.fulfillRequest", {
      requestId: params.requestId, responseCode: 200, body: Buffer.from(html).toString("base64"),
      responseHeaders: [{ name: "Content-Type", value: "text/html" }],
    }, sessionId))
  }
  const { loaderId } = await ask("Page.navigate", { url }, sessionId)
  // Its own loader's: the blank page before it may say "load" as late as now.
  await event(({ method, params }) =>
    method === "Page.lifecycleEvent" && params.loaderId === loaderId && params.name === "load")
  if (html) await ask("Fetch.disable", {}, sessionId)
  const expression = `(${script})(...${JSON.stringify(parameters)})`
  const { result, exceptionDetails } = await ask(
    "Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId)
  await ask("Target.closeTarget", { targetId })
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
  return result.value
}

/** Chromium's helpers may live, and write, a moment longer than itself. */
async function remove(folder) {
  for (const until = Date.now() + PATIENCE; ;) {
    try {
      return rmSync(folder, { recursive: true, force: true })
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

module.exports = { withChromium, inPage }
