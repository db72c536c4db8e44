// Debian's Chromium, and what every test looks at.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FOUND = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));

/** What a browser says of its own when a server that is called is not there. */
const CUT = /^Failed to load resource: net::ERR_/;

export async function launch() {
  const executablePath = process.env.CHROMIUM ?? FOUND;
  assert.ok(executablePath, "no Chromium; tests/components/install installs Debian's");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/**
 * A page, and what its console and that of its workers said that it should not have. With `cut` the
 * server may be away for a while; `script` runs in the page before anything else.
 */
export async function open(browser, url, { cut = false, script, ...options } = {}) {
  const complaints = [];
  const complain = (text) => {
    if (!cut || !CUT.test(text)) complaints.push(text);
  };
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  if (script) await context.addInitScript(script);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complain(message.text());
  });
  page.on("pageerror", (error) => complain(error.stack ?? String(error)));
  await page.goto(url);
  const heard = async () => {
    for (const text of await heardOfSharedWorkers(browser)) complain(text);
    return complaints;
  };
  return { page, heard, close: () => context.close() };
}

/** A page for one test, that must not complain. */
export async function visit(browser, url, look, options) {
  const { page, heard, close } = await open(browser, url, options);
  try {
    await look(page);
    assert.deepEqual(await heard(), [], "the console is silent");
  } finally {
    await close();
  }
}

/**
 * What shared workers said since they began: Playwright hears pages and their own workers only. Asked at
 * the end, as a worker that is attached to does not begin anew with its page.
 */
async function heardOfSharedWorkers(browser) {
  const heard = [];
  const devtools = await browser.newBrowserCDPSession();
  const { targetInfos } = await devtools.send("Target.getTargets");
  for (const { targetId } of targetInfos.filter(({ type }) => type === "shared_worker")) {
    const worker = await attached(devtools, targetId, ({ method, params }) => {
      if (method === "Runtime.exceptionThrown") heard.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) heard.push(JSON.stringify(params.args));
      if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) heard.push(params.entry.text);
    });
    // What there is to tell comes before the answer.
    for (const method of ["Runtime.enable", "Log.enable", "Runtime.getHeapUsage"]) await worker.send(method);
    await worker.detach();
  }
  await devtools.detach();
  return heard;
}

/** Sends to a worker by its target and hears what it tells. */
export async function attached(devtools, targetId, tell = () => {}) {
  const { sessionId } = await devtools.send("Target.attachToTarget", { targetId, flatten: false });
  const waiting = new Map();
  const hear = ({ sessionId: from, message }) => {
    if (from !== sessionId) return;
    const said = JSON.parse(message);
    waiting.get(said.id)?.(said.result);
    tell(said);
  };
  devtools.on("Target.receivedMessageFromTarget", hear);
  const send = (method) =>
    new Promise((resolve) => {
      const id = waiting.size + 1;
      waiting.set(id, resolve);
      void devtools.send("Target.sendMessageToTarget", { sessionId, message: JSON.stringify({ id, method }) });
    });
  const detach = async () => {
    devtools.off("Target.receivedMessageFromTarget", hear);
    await devtools.send("Target.detachFromTarget", { sessionId });
  };
  return { send, detach };
}

export async function until(page, phase) {
  await page.waitForFunction((wanted) => document.querySelector(".state")?.textContent?.startsWith(wanted), phase);
}

/** Its rows, by key. */
export function rows(page) {
  return page.evaluate(() =>
    Object.fromEntries(
      [...document.querySelectorAll("section.keys tbody tr:not(.spacer):not([hidden])")].map((row) => [
        row.querySelector(".id").textContent,
        {
          value: row.querySelector("td.value").title || row.querySelector("td.value").textContent,
          shown: row.querySelector("td.value").textContent,
          unit: row.querySelector("td.unit").textContent,
          change: row.querySelector("td.change").textContent,
          quality: row.querySelector("td.quality").textContent,
          age: row.querySelector("td.age").textContent,
        },
      ]),
    ),
  );
}

export async function untilRows(page, wanted) {
  await page.waitForFunction((n) => document.querySelectorAll("section.keys tbody tr:not(.spacer):not([hidden])").length === n, wanted);
  return rows(page);
}

export function figure(page, id) {
  return page.locator(`[data-figure="${id}"]`).textContent().then((text) => Number(text.replaceAll(",", "")));
}

export async function untilFigure(page, id, least) {
  await page.waitForFunction(
    ([name, n]) => Number(document.querySelector(`[data-figure="${name}"]`)?.textContent?.replaceAll(",", "")) >= n,
    [id, least],
  );
}

/** Colours of a chart's canvas, and how many pixels have each of them: what was drawn there. */
export function painted(page, chart = 0) {
  return page.evaluate((index) => {
    const canvas = document.querySelectorAll(".chart canvas")[index];
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const found = {};
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] < 250) continue;
      const colour = `#${[0, 1, 2].map((j) => data[i + j].toString(16).padStart(2, "0")).join("")}`;
      found[colour] = (found[colour] ?? 0) + 1;
    }
    return found;
  }, chart);
}
