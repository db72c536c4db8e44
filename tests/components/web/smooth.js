// Whether the page stays responsive and its memory flat under load: what a frame waits, what a key press
// waits, and the heaps after collection. `node smooth.js 600 docs/web.json` runs it for ten minutes.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { attached, launch, open, until, untilRows } from "./page.js";
import { load } from "./load.js";
import { Server } from "./server.js";

const LOAD = { keys: 500, rate: 20 };

export async function measure(seconds, { every = 10, load: asked = LOAD } = {}) {
  const server = await new Server().start();
  const browser = await launch();
  const uploading = load(server, "load", asked);
  try {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const { page, heard, close } = await open(browser, `${server.url}#feed=load&key=pi1.temp&key=pi2.temp`);
    await until(page, "Live");
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length === 2);
    await page.evaluate(watch);
    const devtools = await browser.newBrowserCDPSession();
    const heaps = [];
    for (let at = 0; at < seconds; at += every) {
      await new Promise((resolve) => setTimeout(resolve, every * 1_000));
      heaps.push({ seconds: at + every, page: await pageHeap(page), worker: await workerHeap(devtools) });
    }
    const felt = await page.evaluate(() => window.felt());
    const shown = await untilRows(page, await page.locator("section.keys tbody tr:not(.spacer):not([hidden])").count());
    const ages = Object.values(shown).map((row) => Number.parseFloat(row.age));
    const sum = await page.locator(".keys .sum").textContent();
    const balanced = (await page.locator(".ledger .sum").textContent()) === "balanced";
    const complaints = await heard();
    await close();
    return { seconds, ...asked, keysShown: sum, balanced, ...felt, oldestAgeSeconds: Math.max(...ages), heaps, complaints };
  } finally {
    const sent = await uploading.end();
    await browser.close();
    await server.end();
    if (process.env.SMOOTH_VERBOSE) console.error(`${sent} records were sent`);
  }
}

/**
 * In the page: the times between frames, and how long a key press waits for its frame. They are counted
 * by whole milliseconds, so that what is measured does not grow by being measured.
 */
function watch() {
  const counts = () => ({ by: new Uint32Array(10_000), n: 0, sum: 0 });
  const enter = (into, millis) => {
    into.by[Math.min(Math.max(0, Math.round(millis)), into.by.length - 1)] += 1;
    into.n += 1;
    into.sum += millis;
  };
  const frames = counts();
  const presses = counts();
  let last = performance.now();
  const frame = (now) => {
    enter(frames, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  setInterval(() => {
    const began = performance.now();
    setTimeout(() => requestAnimationFrame(() => enter(presses, performance.now() - began)));
  }, 250);
  let blocked = 0;
  let longest = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      blocked += duration;
      longest = Math.max(longest, duration);
    }
  }).observe({ type: "longtask" });
  const at = ({ by, n }, share) => {
    const rank = Math.floor((n - 1) * share);
    let below = 0;
    return by.findIndex((count) => (below += count) > rank);
  };
  window.felt = () => ({
    framesPerSecond: Math.round((1_000 * frames.n) / frames.sum),
    frameMillis: { p50: at(frames, 0.5), p99: at(frames, 0.99), max: at(frames, 1) },
    inputToFrameMillis: { p50: at(presses, 0.5), p99: at(presses, 0.99), max: at(presses, 1) },
    longTasks: { millis: Math.round(blocked), longest: Math.round(longest) },
  });
}

async function pageHeap(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  await session.detach();
  return mebibytes(usedSize);
}

/** Of the worker that all tabs share. */
async function workerHeap(devtools) {
  const { targetInfos } = await devtools.send("Target.getTargets");
  const { targetId } = targetInfos.find(({ type }) => type === "shared_worker");
  const worker = await attached(devtools, targetId);
  await worker.send("HeapProfiler.collectGarbage");
  const { usedSize } = await worker.send("Runtime.getHeapUsage");
  await worker.detach();
  return mebibytes(usedSize);
}

function mebibytes(bytes) {
  return Math.round((bytes / 2 ** 20) * 10) / 10;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = await measure(Number(process.argv[2] ?? 60));
  const text = `${JSON.stringify(found, null, 1)}\n`;
  if (process.argv[3]) writeFileSync(process.argv[3], text);
  process.stdout.write(text);
}
