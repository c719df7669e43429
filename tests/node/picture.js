// Draws docs/demo.png: two tabs that chat through `lockgate demo`, and the lines that Lockgate prints.
// usage: node tests/node/picture.js LOCKGATE FILE

const { spawn } = require("node:child_process")
const { mkdtempSync, rmSync, writeFileSync } = require("node:fs")
const { createServer } = require("node:net")
const { tmpdir } = require("node:os")
const { join } = require("node:path")
const { withChromium } = require("./chromium")

const TAB = { width: 470, height: 370 }
const DEADLINE = 60_000

/** What the tabs send, in this order. */
const LINES = [[0, "Hello"], [1, "Hello, over wss://"], [0, "Open a second tab and try it"]]

async function main(lockgate, file) {
  const data = mkdtempSync(join(tmpdir(), "lockgate-picture-"))
  const port = await freePort()
  const demo = spawn(lockgate, ["demo", "--listen", `127.0.0.1:${port}`, "--admin", "off", "--data", data])
  let printed = ""
  for (const output of [demo.stdout, demo.stderr]) output.on("data", text => { printed += text })
  try {
    await until(() => printed.includes(" ready "))
    const picture = await withChromium([], chromium => draw(chromium, port, () => shown(printed, port, data)))
    writeFileSync(file, Buffer.from(picture, "base64"))
  } finally {
    demo.kill()
    rmSync(data, { recursive: true })
  }
}

async function draw(chromium, port, log) {
  const tabs = []
  for (const name of ["Otter 41", "Heron 27"]) {
    const tab = await open(chromium, `https://localhost:${port}/`, TAB)
    tabs.push({ ...tab, name })
  }
  for (const { evaluate } of tabs) await until(() => evaluate("socket.readyState === WebSocket.OPEN"))
  for (const [index, [sender, words]] of LINES.entries()) {
    const message = JSON.stringify({ name: tabs[sender].name, words })
    await tabs[sender].evaluate(`socket.send(${JSON.stringify(message)})`)
    const isShown = `document.querySelectorAll("#lines li:not(.note)").length > ${index}`
    for (const { evaluate } of tabs) await until(() => evaluate(isShown))
  }
  const pictures = []
  for (const { evaluate, screenshot, name } of tabs) {
    // The page chooses a name at random; the picture has the same names every time.
    await evaluate(`document.getElementById("state").textContent = "connected as ${name}"
      for (const line of document.querySelectorAll("#lines li"))
        if (line.querySelector("b")?.textContent === "${name}") line.className = "mine"`)
    pictures.push(await screenshot())
  }
  const size = { width: 2 * TAB.width + 60, height: TAB.height + 210 }
  const page = await open(chromium, "about:blank", size)
  await page.evaluate(`document.write(${JSON.stringify(html(pictures, log()))})`)
  await until(() => page.evaluate("[...document.images].every(image => image.complete)"))
  return page.screenshot()
}

/** The lines of the picture: the port and the directory are those of a reader, and long lines are cut. */
function shown(printed, port, data) {
  const lines = printed.trim().split("\n").map(line => line
    .replaceAll(`:${port}`, ":8443")
    .replaceAll(data, "~/.local/share/lockgate")
    .replace(/(T\d\d:\d\d:\d\d\.\d{3})\d*Z/, "$1Z"))
  const wanted = lines.filter(line => line.includes("the demo is a chat") || line.includes(" ready ") || line.includes(" open "))
  return ["$ cargo run -- demo", ...wanted].map(line => line.length > 128 ? `${line.slice(0, 127)}…` : line)
}

function html(pictures, lines) {
  const escaped = lines.map(line => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;")).join("\n")
  const tabs = pictures.map(picture => `<figure><div>https://localhost:8443</div><img src="data:image/png;base64,${picture}"></figure>`)
  return `<!doctype html><style>
    body { margin: 0; padding: 20px; overflow: hidden; background: #e8edf2; display: grid; grid-template-columns: 1fr 1fr; gap: 20px; font: 13px system-ui, sans-serif }
    figure { margin: 0; background: #fff; border-radius: 8px; overflow: hidden; box-shadow: 0 1px 4px #0003 }
    figure div { background: #d5dde5; padding: 6px 14px; color: #34414e }
    img { display: block; width: 100% }
    pre { grid-column: 1 / 3; margin: 0; padding: 14px 16px; background: #11161c; color: #d5dde5; border-radius: 8px; font: 12px ui-monospace, "DejaVu Sans Mono", monospace; line-height: 1.6; overflow: hidden }
  </style>${tabs.join("")}<pre>${escaped}</pre>`
}

/** Opens a tab of this size. */
async function open({ call, event }, url, size) {
  const { targetId } = await call("Target.createTarget", { url: "about:blank" })
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true })
  await call("Page.enable", {}, sessionId)
  await call("Emulation.setDeviceMetricsOverride", { ...size, deviceScaleFactor: 1, mobile: false }, sessionId)
  await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "light" }] }, sessionId)
  if (url !== "about:blank") {
    await call("Page.navigate", { url }, sessionId)
    await event(({ method, sessionId: id }) => method === "Page.loadEventFired" && id === sessionId)
  }
  const evaluate = async expression => {
    const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId)
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value
  }
  const screenshot = async () => (await call("Page.captureScreenshot", { format: "png" }, sessionId)).data
  return { evaluate, screenshot }
}

async function until(condition) {
  for (const end = Date.now() + DEADLINE; !(await condition());) {
    if (Date.now() > end) throw new Error(`not reached in time: ${condition}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

const [lockgate, file] = process.argv.slice(2)
if (!file) {
  console.error("usage: node tests/node/picture.js LOCKGATE FILE")
  process.exit(2)
}
main(lockgate, file).catch(error => {
  console.error(error)
  process.exit(1)
})
