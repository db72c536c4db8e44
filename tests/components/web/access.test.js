// The page of a server that wants tokens, made by `ringfeed token`.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, rows, until, untilRows, visit } from "./page.js";
import { Server } from "./server.js";

let directory;
let server;
let browser;
/** By the names of their principals; all made before the server starts, which looks for new ones only now and then. */
const made = {};
const SCOPES = {
  root: ["*:*"],
  dash: ["subscribe:*", "observe:*"],
  one: ["subscribe:stocks.daily"],
  keys: ["subscribe:stocks.daily:{A,G}*"],
  device: ["ingest:sensors.alamosa", "subscribe:stocks.daily"],
  brief: ["subscribe:*"],
  next: ["subscribe:*"],
};

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "ringfeed-tokens-"));
  const file = join(directory, "tokens.toml");
  server = new Server({ environment: { RINGFEED_AUTH__TOKEN_FILE: file } });
  for (const [principal, scopes] of Object.entries(SCOPES)) {
    const asked = scopes.flatMap((scope) => ["--scope", scope]);
    made[principal] = (await tokens("create", "--principal", principal, ...asked)).trim();
  }
  await server.start();
  browser = await launch();
  await server.file("market_us_stocks_daily.csv", { RINGFEED_TOKEN: made.root });
  await server.file("sensor_surfrad_alamosa_20160101.csv", { RINGFEED_TOKEN: made.root });
});

after(async () => {
  await browser?.close();
  await server?.end();
  if (directory) await rm(directory, { recursive: true });
});

const look = (hash, see) => visit(browser, `${server.url}${hash}`, see);
const tokens = (...args) => server.run(["token", ...args, "--file", join(directory, "tokens.toml")]);
const feedNames = (page) => page.locator(".feed .name").allTextContents();

/** Types it in and sends it off, by keyboard. */
async function give(page, token) {
  const field = page.getByLabel("Token");
  await field.fill(token);
  await field.press("Enter");
}

test("no token is asked for, a wrong one refused, a good one taken and kept over a reload", async () => {
  const token = made.dash;
  await look("#feed=stocks.daily", async (page) => {
    await until(page, "Token wanted");
    await page.getByText("The server wants a token").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "token");
    assert.deepEqual([await feedNames(page), await rows(page)], [[], {}]);
    await page.getByText("Feeds are listed once the server accepts a token.").waitFor();
    for (const wrong of [`${token.slice(0, -1)}~`, "rf_nobody_nothing"]) {
      await give(page, wrong);
      await page.getByText("The server does not accept this token").waitFor();
      await until(page, "Token wanted");
    }
    assert.deepEqual(await rows(page), {});
    await give(page, token);
    await until(page, "Live");
    assert.equal((await untilRows(page, 5)).AAPL.value, "430.47");
    assert.equal(await page.getByLabel("Token").count(), 0);
    assert.ok(!(await page.content()).includes(token) && !page.url().includes(token), "the token is nowhere to be seen");
    await page.reload();
    await until(page, "Live");
    await untilRows(page, 5);
    assert.deepEqual(await feedNames(page), ["sensors.alamosa", "stocks.daily"]);
  });
});

test("who may see one feed sees only that; another one is refused", async () => {
  const token = made.one;
  await look("", async (page) => {
    await give(page, token);
    await untilRows(page, 5);
    assert.deepEqual(await feedNames(page), ["stocks.daily"]);
    await page.evaluate(() => (location.hash = "#feed=sensors.alamosa"));
    await page.getByText(/The server refuses: the caller's scopes do not allow this on feed "sensors\.alamosa"/).waitFor();
    assert.deepEqual([await rows(page), await feedNames(page)], [{}, ["stocks.daily"]]);
    await page.locator(".feed").click();
    await until(page, "Live");
    await untilRows(page, 5);
  });
});

test("who may see some keys sees those, and is told so", async () => {
  const token = made.keys;
  await look("#feed=stocks.daily", async (page) => {
    await give(page, token);
    const shown = await untilRows(page, 2);
    assert.deepEqual(Object.keys(shown), ["AAPL", "GOOG"]);
    await page.getByText("Your token allows only keys that match").waitFor();
  });
});

test("who may only upload to a feed has it on the list, and the others all the same", async () => {
  const token = made.device;
  await look("", async (page) => {
    await give(page, token);
    await untilRows(page, 5);
    assert.deepEqual(await feedNames(page), ["sensors.alamosa", "stocks.daily"]);
    assert.equal(await page.locator(".feed[aria-current] .name").textContent(), "stocks.daily");
  });
});

test("a token that is taken back while the page is open ends it, and the page asks anew", async () => {
  const [first, second] = [made.brief, made.next];
  await look("#feed=stocks.daily", async (page) => {
    await give(page, first);
    await untilRows(page, 5);
    await tokens("revoke", first.split("_")[1]);
    await until(page, "Token wanted");
    await page.getByText("The server does not accept this token").waitFor();
    await server.run(["ingest", "stocks.daily"], `${JSON.stringify({ key: "NEW", value: 1 })}\n`, { RINGFEED_TOKEN: made.root });
    assert.equal((await rows(page)).NEW, undefined);
    await give(page, second);
    await until(page, "Live");
    assert.equal((await untilRows(page, 6)).NEW.value, "1");
    assert.equal(await page.locator(".ledger .sum").textContent(), "balanced");
    assert.deepEqual(await page.locator(".losses li").count(), 0);
  });
});
