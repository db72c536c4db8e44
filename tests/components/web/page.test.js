// The page against a real server that holds the fixtures.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { figure, launch, open, painted, rows, until, untilFigure, untilRows } from "./page.js";
import { guarded } from "./guarded.js";
import { Server } from "./server.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FIXTURES = new URL("../../../fixtures/", import.meta.url);
const UP = "#0b7a53";
const DOWN = "#bd3124";
const LINE = "#1f57c3";

let server;
let browser;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  for (const name of ["market_us_stocks_daily.csv", "market_us_stock_ticks_quotes.csv", "sensor_surfrad_alamosa_20160101.csv"]) await server.file(name);
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** A page of its own, that must not complain. */
async function visit(hash, look, options = {}) {
  const { page, complaints, close } = await open(browser, `${options.of?.url ?? server.url}${hash}`, options);
  try {
    await look(page);
    assert.deepEqual(complaints, [], "the console is silent");
  } finally {
    await close();
  }
}

/** The last line of each symbol in the file, by time. */
function lastOf(name, key, value) {
  const [head, ...lines] = readFileSync(new URL(name, FIXTURES), "utf8").trim().split("\n").map((line) => line.split(","));
  return Object.fromEntries(lines.map((cells) => [cells[head.indexOf(key)], cells[head.indexOf(value)]]));
}

test("values on the page are those of the fixture, digit for digit", async () => {
  const expected = lastOf("market_us_stocks_daily.csv", "Ticker", "Close");
  assert.equal(Object.keys(expected).length, 5);
  await visit("#feed=stocks.daily", async (page) => {
    const shown = await untilRows(page, 5);
    for (const [key, close] of Object.entries(expected)) {
      assert.equal(shown[key].value, close, key);
      assert.equal(shown[key].unit, "USD");
    }
    assert.equal(await page.locator(".feed[aria-current] .name").textContent(), "stocks.daily");
    assert.match(await page.locator(".feed[aria-current]").textContent(), /bar.*5 keys.*0 … 12,154/);
  });
});

test("sensors show unit, quality and that they are stale", async () => {
  await visit("#feed=sensors.alamosa", async (page) => {
    const shown = await untilRows(page, 20);
    assert.deepEqual([shown["alamosa.air_temp"].value, shown["alamosa.air_temp"].unit], ["-8.5", "°C"]);
    assert.match(shown["alamosa.uvb"].quality, /^bad/);
    assert.equal(shown["alamosa.uvb"].value, "–");
  });
});

test("a chart of prices has candles of both colours, and older bars come as one zooms out", async () => {
  await visit("#feed=stocks.daily&key=AAPL", async (page) => {
    await page.locator(".chart canvas").waitFor();
    await page.waitForFunction(() => /C 430\.47/.test(document.querySelector(".readout")?.textContent ?? ""));
    const seen = await painted(page);
    assert.ok(seen[UP] > 100 && seen[DOWN] > 100, `candles are drawn: ${seen[UP]}, ${seen[DOWN]}`);
    const begins = () => page.locator(".plot").getAttribute("aria-label").then((text) => Number(/ (\d+)?,?(\d+) bars/.exec(text)?.slice(1).join("") ?? 0));
    const first = await begins();
    for (let i = 0; i < 5; i += 1) await page.getByRole("button", { name: "Zoom out" }).click();
    await page.waitForFunction((n) => Number(/ ([\d,]+) bars/.exec(document.querySelector(".plot").ariaLabel ?? document.querySelector(".plot").getAttribute("aria-label"))?.[1].replace(",", "") ?? 0) > 3 * n, first);
    await page.locator(".plot").focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("Home");
    await page.waitForFunction(() => /from 2000-03-01/.test(document.querySelector(".plot").getAttribute("aria-label")));
    await page.keyboard.press("End");
    assert.equal(await page.locator(".golive").getAttribute("aria-pressed"), "true");
  });
});

test("a chart of readings has a line, and says what its axis measures", async () => {
  await visit("#feed=sensors.alamosa&key=alamosa.air_temp", async (page) => {
    await page.waitForFunction(() => /mean/.test(document.querySelector(".readout")?.textContent ?? ""));
    assert.ok((await painted(page))[LINE] > 200, "a line is drawn");
    await page.locator(".chart summary").click();
    await page.locator(".chart details tbody").getByText("2016-01-0").first().waitFor();
  });
});

test("the filter leaves the keys that match, by key or name", async () => {
  await visit("#feed=sensors.alamosa", async (page) => {
    await untilRows(page, 20);
    await page.keyboard.press("/");
    await page.keyboard.type("temp air");
    assert.deepEqual(Object.keys(await untilRows(page, 1)), ["alamosa.air_temp"]);
    await page.getByRole("searchbox").fill("Station pressure");
    assert.deepEqual(Object.keys(await untilRows(page, 1)), ["alamosa.pressure"]);
    await page.getByRole("searchbox").fill("nothing of that name");
    await page.getByText("No key matches the filter.").waitFor();
  });
});

test("the fidelity switch changes what the server sends", async () => {
  await visit("#feed=pace", async (page) => {
    await server.send("pace", [{ key: "a", value: 0 }]);
    await until(page, "Live");
    await page.getByRole("radio", { name: "All", exact: true }).check();
    await page.waitForFunction(() => location.hash.includes("pace=full"));
    const burst = (from) => Array.from({ length: 200 }, (_, i) => ({ key: "a", value: from + i }));
    await page.waitForFunction(() => document.querySelector(".state").textContent === "Live");
    const before = await figure(page, "delivered");
    await server.send("pace", burst(1_000));
    await untilFigure(page, "delivered", before + 200);
    await page.getByRole("radio", { name: "1/s", exact: true }).check();
    await page.waitForFunction(() => location.hash.includes("pace=1000"));
    await until(page, "Live");
    const [delivered, leftOut] = [await figure(page, "delivered"), await figure(page, "leftOut")];
    await server.send("pace", burst(2_000));
    await untilFigure(page, "leftOut", leftOut + 150);
    assert.ok((await figure(page, "delivered")) - delivered < 50, "a backlog collapses to the latest");
    await page.waitForFunction(() => document.querySelector("td.value")?.textContent === "2199");
  });
});

test("a table that is held keeps still, says so, and catches up", async () => {
  await visit("#feed=held", async (page) => {
    await server.send("held", [{ key: "a", value: 1 }]);
    await untilRows(page, 1);
    await page.getByRole("button", { name: "Pause" }).click();
    await server.send("held", [{ key: "a", value: 2 }]);
    await page.getByText(/^Paused, \d+ updates? waiting$/).waitFor();
    assert.equal((await rows(page)).a.value, "1");
    await page.getByRole("button", { name: "Pause" }).click();
    await page.waitForFunction(() => document.querySelector("td.value")?.textContent === "2");
    await page.locator("section.keys tbody td.value").hover();
    await page.getByText("Held while you read").waitFor();
  });
});

test("a restart of the server shows as a reconnection, and the ledger stays balanced", async () => {
  const own = await new Server().start();
  try {
    await own.send("live", [{ key: "a", value: 1 }]);
    await visit(
      "#feed=live",
      async (page) => {
        await untilRows(page, 1);
        await own.kill("SIGKILL");
        await until(page, "Reconnecting");
        await own.start();
        await until(page, "Live");
        await own.send("live", [{ key: "a", value: 2 }, { key: "b", value: 3 }]);
        const shown = await untilRows(page, 2);
        assert.deepEqual([shown.a.value, shown.b.value], ["2", "3"]);
        await untilFigure(page, "delivered", 2);
        assert.equal(await figure(page, "reconnects"), 1);
        assert.equal(await figure(page, "missed"), 0);
        assert.equal(await page.locator(".ledger .sum").textContent(), "balanced");
      },
      { of: own, refused: true },
    );
  } finally {
    await own.end();
  }
});

test("a gap is shown with its reason", async () => {
  const own = await new Server().start();
  try {
    const many = (from, n) => Array.from({ length: n }, (_, i) => ({ key: "a", value: from + i }));
    await own.send("gaps", many(0, 20));
    await visit(
      "#feed=gaps&key=a",
      async (page) => {
        await untilRows(page, 1);
        await page.locator(".chart canvas").waitFor();
        await until(page, "Live");
        // While the page is away, what it has not seen is trimmed.
        await page.context().setOffline(true);
        await own.kill("SIGTERM");
        await until(page, "Reconnecting");
        await own.start();
        await own.send("gaps", many(100, 50));
        await own.run(["feeds", "trim", "gaps", "--before", "60"]);
        await page.context().setOffline(false);
        await page.locator(".losses li").first().waitFor();
        assert.match(await page.locator(".losses").textContent(), /Gap TRIMMED gaps at .*offsets 20 … 60: trimmed by an operator/);
        assert.match(await page.locator(".account").textContent(), /missed/);
        assert.equal(await page.locator(".ledger .sum").textContent(), "balanced");
        await page.getByText("1 gap in what the ring still had").waitFor();
      },
      { of: own, refused: true },
    );
  } finally {
    await own.end();
  }
});

test("hostile key names are harmless and can be told apart", async () => {
  const names = [
    "<img src=x onerror=alert(1)>",
    "\"><script>alert(1)</script>",
    "\u202Eevil\u202C",
    "a\u200Bb",
    "tab\tline\nend",
    "\u0000\u001B[31mred",
    "{{7*7}}${7*7}",
    "' onmouseover='alert(1)",
    "x".repeat(256),
  ];
  await server.send("hostile", names.map((key, i) => ({ key, value: i })));
  await visit("#feed=hostile", async (page) => {
    let dialogs = 0;
    page.on("dialog", (dialog) => {
      dialogs += 1;
      void dialog.dismiss();
    });
    const shown = Object.keys(await untilRows(page, names.length));
    assert.ok(shown.includes("<img src=x onerror=alert(1)>"));
    assert.ok(shown.includes("⟨202E⟩evil⟨202C⟩") && shown.includes("a⟨200B⟩b"));
    assert.ok(shown.includes("tab⟨0009⟩line⟨000A⟩end") && shown.includes("⟨0000⟩⟨001B⟩[31mred"));
    for (const button of await page.locator("section.keys button.key").all()) if (await button.isVisible()) await button.click();
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length === 8);
    assert.equal(await page.locator("section.keys img, .charts img, #app script").count(), 0);
    assert.equal(dialogs, 0);
    await page.reload();
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length === 8);
  });
});

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }],
]) {
  test(`axe-core finds nothing serious: ${name}`, async () => {
    await visit(
      "#feed=sensors.alamosa&key=alamosa.air_temp",
      async (page) => {
        await untilRows(page, 20).catch(() => {});
        await page.locator(".chart canvas").waitFor();
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
        const serious = violations.filter((found) => ["serious", "critical"].includes(found.impact));
        assert.deepEqual(serious.map((found) => `${found.id}: ${found.nodes.map((node) => node.html).join(" ")}`), []);
      },
      options,
    );
  });
}

test("a phone's width is enough: nothing goes beyond it", async () => {
  await visit(
    "#feed=stocks.daily&key=AAPL",
    async (page) => {
      await page.locator(".chart canvas").waitFor();
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.equal(width, 390);
      const shown = await untilRows(page, 5);
      assert.ok(shown.AAPL);
    },
    { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true },
  );
});

test("keys and charts are reached and used by keyboard alone", async () => {
  await visit("#feed=stocks.daily", async (page) => {
    await untilRows(page, 5);
    await page.locator("section.keys button.key").first().focus();
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement.querySelector(".id").textContent), "FB");
    await page.keyboard.press("Enter");
    await page.locator(".chart canvas").waitFor();
    assert.match(await page.locator(".chart figcaption").textContent(), /^FB/);
  });
});

test("two tabs share one subscription", async () => {
  const context = await browser.newContext();
  const [one, other] = [await context.newPage(), await context.newPage()];
  await one.goto(`${server.url}#feed=stocks.quotes`);
  await until(one, "Live");
  await other.goto(`${server.url}#feed=stocks.quotes`);
  await until(other, "Live");
  await other.waitForFunction(() => document.querySelector(".state").title.includes("2 tabs share"));
  assert.deepEqual(Object.keys(await untilRows(other, 3)), ["AAPL", "GOOG", "MSFT"]);
  const open = (await server.run(["subscribers", "stocks.quotes"])).split("\n").filter((line) => line.includes("page"));
  assert.equal(open.length, 1, open.join("\n"));
  await other.close();
  await one.bringToFront();
  await one.waitForFunction(() => !document.querySelector(".state").title.includes("tabs share"));
  await context.close();
});

test("a server that wants a token is given one: refused, then accepted, kept over a reload", async () => {
  const front = await guarded(server, "right");
  try {
    await visit(
      "#feed=stocks.daily",
      async (page) => {
        const field = page.getByLabel("Token");
        await field.fill("wrong");
        await until(page, "Token wanted");
        await page.getByRole("button", { name: "Connect" }).click();
        await page.getByText("The server does not accept this token").waitFor();
        await field.fill("right");
        await field.press("Enter");
        await until(page, "Live");
        assert.equal((await untilRows(page, 5)).AAPL.value, "430.47");
        assert.equal(await field.count(), 0);
        await page.reload();
        await until(page, "Live");
        await untilRows(page, 5);
      },
      { of: front },
    );
  } finally {
    front.end();
  }
});

test("what the page is made of is cached for ever, the page itself is asked for again", async () => {
  const page = await fetch(server.url);
  assert.match(page.headers.get("content-security-policy"), /default-src 'self'/);
  assert.equal(page.headers.get("cache-control"), "no-cache");
  const again = await fetch(server.url, { headers: { "if-none-match": page.headers.get("etag") } });
  assert.equal(again.status, 304);
  const [script] = /assets\/index-[^"]+\.js/.exec(await page.text());
  const asset = await fetch(server.url + script);
  assert.deepEqual([asset.status, asset.headers.get("content-type")], [200, "text/javascript; charset=utf-8"]);
  assert.match(asset.headers.get("cache-control"), /immutable/);
  assert.equal((await fetch(`${server.url}assets/none.js`)).status, 404);
  assert.match(await (await fetch(`${server.url}status`)).text(), /stocks\.daily/);
});
