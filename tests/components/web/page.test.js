// What the page shows of a real server that holds the fixtures.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { figure, launch, painted, rows, until, untilFigure, untilRows, visit } from "./page.js";
import { Server } from "./server.js";

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

const look = (hash, see, options) => visit(browser, `${server.url}${hash}`, see, options);

/** The lines of a file as objects, by its head. */
function lines(name) {
  const [head, ...rest] = readFileSync(new URL(name, FIXTURES), "utf8").trim().split("\n").map((line) => line.split(","));
  return rest.map((cells) => Object.fromEntries(head.map((column, i) => [column, cells[i]])));
}

/** The last line of each, by time. */
function lastOf(name, key) {
  return Object.fromEntries(lines(name).map((line) => [line[key], line]));
}

/** Keys, columns, flags and units of a fixture, as its mapping has them. */
function columnsOf(mapping) {
  const tables = readFileSync(new URL(mapping, FIXTURES), "utf8").split("[[wide]]").slice(1);
  return tables.map((table) => Object.fromEntries([...table.matchAll(/^(\w+) = "(.*)"$/gm)].map(([, name, value]) => [name, value])));
}

test("values on the page are those of the fixture, digit for digit", async () => {
  const expected = Object.entries(lastOf("market_us_stocks_daily.csv", "Ticker"));
  assert.equal(expected.length, 5);
  await look("#feed=stocks.daily", async (page) => {
    const shown = await untilRows(page, 5);
    assert.deepEqual(expected.map(([key, { Close }]) => [key, Close, "USD"]), expected.map(([key]) => [key, shown[key].value, shown[key].unit]));
    assert.equal(await page.locator(".feed[aria-current] .name").textContent(), "stocks.daily");
    assert.match(await page.locator(".feed[aria-current]").textContent(), /bar.*5 keys.*0 … 12,154/);
  });
});

test("sensors show the fixture's last values, units and quality, and that they are stale", async () => {
  const last = lines("sensor_surfrad_alamosa_20160101.csv").at(-1);
  const columns = columnsOf("sensor_surfrad_alamosa_20160101.mapping.toml");
  assert.equal(columns.length, 20);
  const units = { Cel: "°C", "W/m2": "W/m²", "mW/m2": "mW/m²", deg: "°" };
  const expected = columns.map(({ key, column, quality, unit }) => {
    const isMissing = last[column] === "-9999.9";
    const value = isMissing ? "–" : String(Number(last[column]));
    return [`alamosa.${key}`, value, units[unit] ?? unit, { 0: "", 1: "bad", 2: "uncertain" }[last[quality]]];
  });
  await look("#feed=sensors.alamosa", async (page) => {
    const shown = await untilRows(page, 20);
    assert.deepEqual(expected.map(([key]) => [key, shown[key].value, shown[key].unit, shown[key].quality.split(" ")[0]]), expected);
    assert.ok(expected.some(([, , , quality]) => quality === "bad"));
    // Taken in a moment ago, a minute apart by its own account: not stale yet.
    assert.match(shown["alamosa.air_temp"].age, /^[\d.]+ s$/);
  });
});

test("a key is stale after three of its usual intervals", async () => {
  await server.send("stale", [{ key: "a", value: 1 }]);
  await server.run(["keys", "stale", "set", "a", "--expected-interval", "100ms"]);
  await look("#feed=stale", async (page) => {
    await untilRows(page, 1);
    await page.waitForFunction(() => /^stale/.test(document.querySelector("td.age").textContent));
  });
});

test("quotes show both sides, and their chart says which price is drawn", async () => {
  const expected = Object.entries(lastOf("market_us_stock_ticks_quotes.csv", "ticker"));
  await look("#feed=stocks.quotes&key=AAPL", async (page) => {
    const shown = await untilRows(page, expected.length);
    assert.deepEqual(expected.map(([key]) => [key, shown[key].shown]), expected.map(([key, { bid, ask }]) => [key, `${bid} × ${ask}`]));
    await page.locator(".chart canvas").waitFor();
    const choice = page.getByRole("combobox", { name: "What is drawn" });
    assert.deepEqual(await choice.locator("option").allTextContents(), ["mid of bid and ask", "bid", "ask"]);
    const closes = {};
    for (const label of ["mid of bid and ask", "bid", "ask"]) {
      await choice.selectOption({ label });
      await page.waitForFunction((what) => document.querySelector(".plot").getAttribute("aria-label").includes(`, ${what}, bars of`), label);
      closes[label] = Number(/C ([\d.]+)/.exec(await page.locator(".readout").textContent())[1]);
    }
    const { bid, ask } = Object.fromEntries(expected).AAPL;
    assert.deepEqual(closes, { "mid of bid and ask": (Number(bid) + Number(ask)) / 2, bid: Number(bid), ask: Number(ask) });
  });
});

test("integers that have names show them", async () => {
  await server.send("states", [{ key: "pump", value: 1 }, { key: "valve", value: 2 }]);
  await server.run(["keys", "states", "set", "pump", "--enum-label", "1=running"]);
  await server.run(["keys", "states", "set", "valve", "--enum-label", "1=open"]);
  await look("#feed=states", async (page) => {
    const shown = await untilRows(page, 2);
    assert.deepEqual([shown.pump.shown, shown.valve.shown], ["1 running", "2"]);
  });
});

test("vectors show how many channels they have, and each channel's chart", async () => {
  const names = [["Gyroscope", "deg/s"], ["Accelerometer", "g"], ["Magnetometer", "uT"]];
  const heads = names.flatMap(([name, unit]) => ["X", "Y", "Z"].map((axis) => `${name} ${axis} (${unit})`));
  const line = (i) => [(i / 100).toFixed(2), ...heads.map((_, column) => (column + i / 8).toString())].join(",");
  const directory = await mkdtemp(join(tmpdir(), "ringfeed-imu-"));
  const file = join(directory, "imu.csv");
  await writeFile(file, [["Time (s)", ...heads].join(","), ...Array.from({ length: 400 }, (_, i) => line(i)), ""].join("\n"));
  await server.run(["ingest", "--file", file, "--mapping", new URL("sensor_imu_100hz.mapping.toml", FIXTURES).pathname]);
  await rm(directory, { recursive: true });
  await look("#feed=sensors.imu&key=imu.accelerometer", async (page) => {
    const shown = await untilRows(page, 3);
    const [x, y, z] = [3, 4, 5].map((column) => column + 399 / 8);
    assert.equal(shown["imu.accelerometer"].shown, `[3] ${x}, ${y}, …`);
    assert.equal(shown["imu.accelerometer"].value, `x ${x}, y ${y}, z ${z}`);
    await page.locator(".chart canvas").waitFor();
    const choice = page.getByRole("combobox", { name: "What is drawn" });
    assert.deepEqual(await choice.locator("option").allTextContents(), ["x", "y", "z"]);
    await choice.selectOption("z");
    await page.waitForFunction(() => /, z, bars of/.test(document.querySelector(".plot").getAttribute("aria-label")));
    await page.waitForFunction((max) => document.querySelector(".readout").textContent.includes(`max ${max}`), z);
    assert.ok((await painted(page))[LINE] > 50, "a line is drawn");
  });
});

test("a chart of prices has candles of both colours, and older bars come as one zooms out", async () => {
  await look("#feed=stocks.daily&key=AAPL", async (page) => {
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
  await look("#feed=sensors.alamosa&key=alamosa.air_temp", async (page) => {
    await page.waitForFunction(() => /mean/.test(document.querySelector(".readout")?.textContent ?? ""));
    assert.ok((await painted(page))[LINE] > 200, "a line is drawn");
    await page.locator(".chart summary").click();
    await page.locator(".chart details tbody").getByText("2016-01-0").first().waitFor();
  });
});

test("the filter leaves the keys that match, by key or name", async () => {
  await look("#feed=sensors.alamosa", async (page) => {
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
  await look("#feed=pace", async (page) => {
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
  await look("#feed=held", async (page) => {
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
