// Keeps WebSockets of a page in headless Chromium open through Pings: idle_page.js SECONDS URL …
// The page is loaded from the server first, as a browser does. Prints "ok chromium" for each.

const { inPage, withChromium } = require("./chromium")

const [seconds, ...urls] = process.argv.slice(2)

/** Runs in the page. */
async function exchange(url, seconds) {
  const socket = new WebSocket(url)
  const messages = []
  let deliver = message => messages.push(message)
  const take = () => messages.length ? messages.shift() : new Promise(resolve => { deliver = resolve })
  const expect = async expected => {
    const message = await take()
    deliver = message => messages.push(message)
    if (message !== expected) throw new Error(`${message} instead of ${expected}`)
  }
  socket.onmessage = ({ data }) => deliver(data)
  socket.onclose = ({ code, reason }) => deliver(`closed with ${code} ${reason}`)
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = () => reject(new Error("no connection"))
  })
  socket.send("first")
  await expect("first")
  await new Promise(resolve => setTimeout(resolve, seconds * 1000))
  socket.send("last")
  await expect("last")
  socket.close(1000)
  return "ok"
}

withChromium([], async chromium => {
  for (const url of urls) {
    const result = await inPage(chromium, url.replace("wss", "https") + "/http", exchange, [url, Number(seconds)])
    if (result !== "ok") throw new Error(`${url}: ${JSON.stringify(result)}`)
    console.log("ok chromium")
  }
}).then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
