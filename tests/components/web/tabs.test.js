// Where the connection lives: shared by all tabs, in a worker of the page's own, or in the page.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, until, untilRows, visit } from "./page.js";
import { Server } from "./server.js";

let server;
let browser;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  await server.file("market_us_stock_ticks_quotes.csv");
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Open Subscribes of pages, by the views they have of the feed. */
async function subscribed(feed) {
  const table = (await server.run(["subscribers", feed])).trim().split("\n").map((line) => line.split(/ {2,}/));
  const [head, ...open] = table;
  return open.filter((row) => row[head.indexOf("NAME")] === "page").map((row) => row[head.indexOf("FIDELITY")]);
}

/** The kinds of workers that the browser runs. */
async function workers() {
  const devtools = await browser.newBrowserCDPSession();
  const { targetInfos } = await devtools.send("Target.getTargets");
  await devtools.detach();
  return targetInfos.map(({ type }) => type).filter((type) => type.includes("worker")).sort();
}

test("two tabs share one subscription, and the one that is left keeps it", async () => {
  await visit(browser, `${server.url}#feed=stocks.quotes`, async (one) => {
    await until(one, "Live");
    const other = await one.context().newPage();
    await other.goto(`${server.url}#feed=stocks.quotes`);
    await until(other, "Live");
    await other.waitForFunction(() => document.querySelector(".state").title.includes("2 tabs share"));
    assert.deepEqual(Object.keys(await untilRows(other, 3)), ["AAPL", "GOOG", "MSFT"]);
    assert.deepEqual([await subscribed("stocks.quotes"), await workers()], [["conflate"], ["shared_worker"]]);
    await other.close();
    await one.bringToFront();
    await one.waitForFunction(() => !document.querySelector(".state").title.includes("tabs share"));
    await one.getByRole("radio", { name: "1/s", exact: true }).check();
    await until(one, "Live");
    assert.deepEqual(await subscribed("stocks.quotes"), ["conflate"]);
  });
});

for (const [where, script, expected] of [
  ["a worker of its own", "delete window.SharedWorker", ["worker"]],
  ["the page", "delete window.SharedWorker; delete window.Worker", []],
  ["the page, where the shared worker cannot be loaded", `window.SharedWorker = class { port = new MessageChannel().port1; constructor() { setTimeout(() => this.onerror(new Event("error")), 500); } }`, []],
  ["the page, where workers may not be made", "for (const name of ['SharedWorker', 'Worker']) window[name] = class { constructor() { throw new Error('not allowed'); } };", []],
]) {
  test(`without more than that the connection lives in ${where}`, async () => {
    const feed = `alone.${expected.length}.${script.length}`;
    await server.send(feed, [{ key: "a", value: 1 }]);
    await visit(
      browser,
      `${server.url}#feed=${feed}&key=a`,
      async (page) => {
        await untilRows(page, 1);
        assert.deepEqual([await page.evaluate(() => typeof SharedWorker === "function" && String(SharedWorker).includes("[native code]")), await workers()], [false, expected]);
        await server.send(feed, [{ key: "a", value: 2 }, { key: "b", value: 3 }]);
        await page.waitForFunction(() => document.querySelector("td.value")?.textContent === "2");
        assert.equal((await untilRows(page, 2)).b.value, "3");
        await page.locator(".chart canvas").waitFor();
        assert.deepEqual(await subscribed(feed), ["conflate", "bars"]);
        assert.equal(await page.locator(".ledger .sum").textContent(), "balanced");
      },
      { script },
    );
  });
}
