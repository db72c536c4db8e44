// What docs/http.md says of browsers: `new EventSource(..)` in a page, with nothing of ours.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./page.js";
import { Server } from "./server.js";

const LIVE = "/v1/feeds/plant/live";
const record = (n) => ({ key: "pi17.temp", value: n });
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

let server;
let browser;

before(async () => {
  server = await new Server().start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Listens in the page, and keeps what it hears. */
function listen(address) {
  window.heard = { snapshot: [], values: [], offsets: [], names: [] };
  window.events = new EventSource(address);
  window.events.onmessage = ({ data }) => {
    const { snapshot, offset, reading } = JSON.parse(data);
    if (snapshot) return window.heard.snapshot.push(reading.value);
    window.heard.offsets.push(Number(offset));
    window.heard.values.push(reading.value);
  };
  for (const name of ["snapshot_complete", "caught_up", "gap", "reconnect"]) {
    window.events.addEventListener(name, () => window.heard.names.push(name));
  }
}

const hears = (page, count) => page.waitForFunction((n) => window.heard.values.length >= n, count);

test("an EventSource has the latest, then what comes, and goes on by itself after a kill -9", async () => {
  await server.send("plant", numbers(0, 5).map(record));
  const { page, close } = await open(browser, server.url, { refused: true });
  try {
    await page.evaluate(listen, LIVE);
    await page.waitForFunction(() => window.heard.names.includes("caught_up"));
    assert.deepEqual(await page.evaluate(() => window.heard.snapshot), [4]);
    await server.send("plant", numbers(5, 8).map(record));
    await hears(page, 3);

    await server.kill();
    await page.waitForFunction(() => window.events.readyState === EventSource.CONNECTING);
    await server.start();
    await server.send("plant", numbers(8, 12).map(record));
    await hears(page, 7);
    const heard = await page.evaluate(() => window.heard);
    assert.deepEqual(heard.offsets, numbers(5, 12));
    assert.deepEqual(heard.values, numbers(5, 12));
    assert.equal(heard.names.includes("gap"), false);
    assert.equal(heard.names.filter((name) => name === "snapshot_complete").length, 1, "it did not begin anew");
  } finally {
    await close();
  }
});
