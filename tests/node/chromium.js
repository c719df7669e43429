// Starts headless Chromium and connects to its DevTools.

const { spawn } = require("node:child_process")
const { mkdtempSync, rmSync } = require("node:fs")
const { tmpdir } = require("node:os")
const { join } = require("node:path")
const WebSocket = require("ws")

const REMOVE_TIMEOUT = 60_000

/** Calls `use` with a Chromium that has these additional flags, and ends it afterwards. */
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
    let output = ""
    browser.on("error", reject)
    browser.on("exit", () => reject(new Error(`chromium ended: ${output}`)))
    browser.stderr.on("data", data => {
      output += data
      const found = output.match(/DevTools listening on (\S+)/)
      if (found) resolve(found[1])
    })
  })
  const devtools = new WebSocket(address, { maxPayload: 1 << 26 })
  const answers = new Map()
  const events = []
  const listeners = []
  let last = 0
  devtools.on("message", data => {
    const message = JSON.parse(data)
    if (message.id) return answers.get(message.id)(message)
    events.push(message)
    for (const listener of listeners) listener(message)
  })
  await new Promise(resolve => devtools.on("open", resolve))
  const call = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
    const id = ++last
    answers.set(id, ({ result, error }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result)))
    devtools.send(JSON.stringify({ id, method, params, sessionId }))
  })
  /** Resolves with the first matching event, also if it was received earlier. */
  const event = is => new Promise(resolve => {
    const listener = message => { if (is(message)) resolve(message) }
    events.forEach(listener)
    listeners.push(listener)
  })
  return { browser, call, event }
}

/** Returns the result of the function `script` in a page of this address. `html` replaces the page's content. */
async function inPage({ call, event }, url, script, parameters, html) {
  const { targetId } = await call("Target.createTarget", { url: "about:blank" })
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true })
  await call("Page.enable", {}, sessionId)
  await call("Page.setLifecycleEventsEnabled", { enabled: true }, sessionId)
  if (html) {
    await call("Fetch.enable", { patterns: [{ urlPattern: url }] }, sessionId)
    const paused = event(message => message.method === "Fetch.requestPaused" && message.sessionId === sessionId)
    paused.then(({ params }) => call("Fetch.fulfillRequest", {
      requestId: params.requestId, responseCode: 200, body: Buffer.from(html).toString("base64"),
      responseHeaders: [{ name: "Content-Type", value: "text/html" }],
    }, sessionId))
  }
  const { loaderId } = await call("Page.navigate", { url }, sessionId)
  // Only of this loader: the event of the previous blank page may arrive late.
  await event(({ method, params }) =>
    method === "Page.lifecycleEvent" && params.loaderId === loaderId && params.name === "load")
  if (html) await call("Fetch.disable", {}, sessionId)
  const expression = `(${script})(...${JSON.stringify(parameters)})`
  const { result, exceptionDetails } = await call(
    "Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId)
  await call("Target.closeTarget", { targetId })
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
  return result.value
}

/** Removes the profile. Chromium's helper processes may outlive it and still write for a moment. */
async function remove(folder) {
  for (const until = Date.now() + REMOVE_TIMEOUT; ;) {
    try {
      return rmSync(folder, { recursive: true, force: true })
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

module.exports = { withChromium, inPage }
