// The page while its server stops, loses records, refuses a feed or has a feed made anew.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { load } from "./load.js";
import { figure, launch, rows, until, untilFigure, untilRows, visit } from "./page.js";
import { Server } from "./server.js";

let server;
let browser;

before(async () => {
  browser = await launch();
  server = await new Server().start();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

const look = (hash, see, options) => visit(browser, `${server.url}${hash}`, see, options);
const many = (from, n) => Array.from({ length: n }, (_, i) => ({ key: "a", value: from + i }));
const verdict = (page) => page.locator(".ledger .sum").textContent();

/** The account of each selector: what it is of, from, next, received, left out, missed. */
async function account(page) {
  await page.getByText("By selector").click();
  const cells = await page.locator(".ledger tbody tr").evaluateAll((found) => found.map((row) => [...row.children].map((cell) => cell.textContent)));
  return cells.map(([of, ...numbers]) => [of, ...numbers.map((text) => Number(text.replaceAll(",", "")))]);
}

test("a server that is killed and started again shows as a reconnection, and the ledger balances", async () => {
  await server.send("live", [{ key: "a", value: 1 }]);
  await look(
    "#feed=live&pace=full",
    async (page) => {
      await untilRows(page, 1);
      const before = load(server, "live", { keys: 50, rate: 10 });
      await untilFigure(page, "delivered", 500);
      const acknowledged = await before.end();
      await server.kill("SIGKILL");
      await until(page, "Reconnecting");
      assert.equal(await page.locator(".state").getAttribute("data-phase"), "waiting");
      await server.start();
      await until(page, "Live");
      await server.send("live", [{ key: "a", value: 2 }, { key: "b", value: 3 }]);
      await page.getByText("52 keys").waitFor();
      const shown = await rows(page);
      assert.deepEqual([shown.a.value, shown.b.value], ["2", "3"]);
      await untilFigure(page, "delivered", acknowledged + 2);
      assert.equal(await figure(page, "delivered"), acknowledged + 2, "each record once");
      assert.deepEqual([await figure(page, "reconnects"), await figure(page, "missed"), await figure(page, "leftOut")], [1, 0, 0]);
      assert.equal(await verdict(page), "balanced");
      // Behind the snapshot of the first record: all that was acknowledged, and the two.
      assert.deepEqual(await account(page), [["live, values", 1, acknowledged + 3, acknowledged + 2, 0, 0]]);
    },
    { cut: true },
  );
});

test("a gap is shown with its reason, in the ledger and in the chart", async () => {
  await server.send("gaps", many(0, 20));
  await look(
    "#feed=gaps&key=a",
    async (page) => {
      await untilRows(page, 1);
      await page.locator(".chart canvas").waitFor();
      await until(page, "Live");
      // While the page is away, what it has not seen is trimmed.
      await server.aside(async () => {
        await until(page, "Reconnecting");
        await server.send("gaps", many(100, 50));
        await server.run(["feeds", "trim", "gaps", "--before", "60"]);
      });
      await page.locator(".losses li").first().waitFor();
      assert.match(await page.locator(".losses").textContent(), /Gap TRIMMED gaps at .*40 records, offsets 20 … 60: trimmed by an operator/);
      assert.equal(await page.locator(".losses li").count(), 1, "one gap, though the chart was told as well");
      assert.equal(await figure(page, "missed"), 40);
      assert.match(await page.locator(".account").textContent(), / 40 missed/);
      assert.equal(await verdict(page), "balanced");
      await page.getByText("1 gap in what the ring still had").waitFor();
    },
    { cut: true },
  );
});

test("a feed that is refused in one tab leaves the other tab alone", async () => {
  await server.send("there", [{ key: "a", value: 1 }]);
  await look("#feed=there", async (page) => {
    await untilRows(page, 1);
    const other = await page.context().newPage();
    await other.goto(`${server.url}#feed=not-there`);
    await other.getByText(/The server refuses: .*not-there.*UNKNOWN_FEED/).waitFor();
    await until(other, "Refused");
    await server.send("there", [{ key: "a", value: 2 }]);
    await page.bringToFront();
    await page.waitForFunction(() => document.querySelector("td.value")?.textContent === "2");
    assert.equal(await page.locator(".state").textContent(), "Live");
    assert.equal(await verdict(page), "balanced");
    // It is tried again by and by.
    await server.send("not-there", [{ key: "b", value: 3 }]);
    await other.bringToFront();
    await until(other, "Live");
    assert.equal((await untilRows(other, 1)).b.value, "3");
  });
});

test("a feed that is deleted and made anew has none of its old keys", async () => {
  await server.send("anew", [{ key: "old", value: 1 }]);
  await look("#feed=anew&key=old", async (page) => {
    await untilRows(page, 1);
    await page.locator(".chart canvas").waitFor();
    await server.run(["feeds", "delete", "anew", "--yes"]);
    await until(page, "Refused");
    await server.send("anew", [{ key: "new", value: 2 }]);
    await until(page, "Live");
    await page.waitForFunction(() => document.querySelector("td.value")?.textContent === "2");
    assert.deepEqual(Object.keys(await rows(page)), ["new"]);
    await page.locator(".losses li").first().waitFor();
    assert.match(await page.locator(".losses").textContent(), /Gap EPOCH_CHANGED anew at [\d:]+: the feed was created anew/);
    assert.equal(await verdict(page), "balanced");
  });
});

test("a server without feeds says how to send a record; a feed without records that none came", async () => {
  const empty = await new Server().start();
  try {
    await visit(browser, empty.url, async (page) => {
      await page.getByText("No feed yet. Send a record:").waitFor();
      await until(page, "Live");
      await empty.run(["feeds", "create", "bare"]);
      await page.locator(".feed .name", { hasText: "bare" }).waitFor();
      await page.getByText("No record came yet.").waitFor();
      await until(page, "Live");
      await empty.send("bare", [{ key: "a", value: 1 }]);
      assert.equal((await untilRows(page, 1)).a.value, "1");
    });
  } finally {
    await empty.end();
  }
});
