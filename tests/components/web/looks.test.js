// The page as it looks and is used: hostile names, axe-core, a phone, the keyboard.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, untilRows, visit } from "./page.js";
import { Server } from "./server.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let server;
/** Wants a token. */
let guarded;
let tokens;
let browser;

before(async () => {
  tokens = await mkdtemp(join(tmpdir(), "ringfeed-tokens-"));
  guarded = new Server({ environment: { RINGFEED_AUTH__TOKEN_FILE: join(tokens, "tokens.toml") } });
  await guarded.run(["token", "create", "--principal", "p", "--scope", "*:*", "--file", join(tokens, "tokens.toml")]);
  await guarded.start();
  server = await new Server().start();
  browser = await launch();
  for (const name of ["market_us_stocks_daily.csv", "sensor_surfrad_alamosa_20160101.csv"]) await server.file(name);
});

after(async () => {
  await browser?.close();
  await server?.end();
  await guarded?.end();
  if (tokens) await rm(tokens, { recursive: true });
});

const look = (hash, see, options) => visit(browser, `${server.url}${hash}`, see, options);

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
  await look("#feed=hostile", async (page) => {
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

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

/** What axe-core finds serious or critical, all of its rules on. */
async function serious(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  const found = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(" ")}`);
}

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { ...PHONE, colorScheme: "light" }],
  ["dark phone", { ...PHONE, colorScheme: "dark" }],
]) {
  test(`axe-core finds nothing serious: ${name}`, async () => {
    await look(
      "#feed=sensors.alamosa&key=alamosa.air_temp",
      async (page) => {
        await page.locator("td.value").first().waitFor();
        await page.locator(".chart canvas").waitFor();
        await page.getByText("By selector").click();
        await page.getByText("As a table").click();
        assert.deepEqual(await serious(page), []);
        await page.evaluate(() => (location.hash = "#feed=not-there"));
        await page.getByText(/The server refuses/).waitFor();
        assert.deepEqual(await serious(page), []);
      },
      options,
    );
    await visit(
      browser,
      guarded.url,
      async (page) => {
        await page.getByLabel("Token").fill("wrong");
        await page.getByRole("button", { name: "Connect" }).click();
        await page.getByText("The server does not accept this token").waitFor();
        assert.deepEqual(await serious(page), []);
      },
      options,
    );
  });
}

test("on a phone nothing goes beyond the width, and every control is in reach and large enough", async () => {
  const narrow = { ...PHONE, viewport: { width: 360, height: 740 } };
  const within = (page) => page.evaluate(() => [document.documentElement.scrollWidth, document.body.scrollWidth]);
  await look(
    "#feed=stocks.daily&key=AAPL",
    async (page) => {
      await page.locator(".chart canvas").waitFor();
      assert.ok((await untilRows(page, 5)).AAPL);
      assert.deepEqual(await within(page), [360, 360]);
      const controls = await page.locator("button, select, input, summary, a[href]:not(.skip)").all();
      assert.ok(controls.length > 20, String(controls.length));
      for (const control of controls) {
        if (!(await control.isVisible())) continue;
        await control.evaluate((element) => element.scrollIntoView({ block: "center", inline: "center" }));
        const { x, y, width, height } = await control.boundingBox();
        const name = await control.evaluate((element) => element.outerHTML.slice(0, 120));
        // WCAG 2.2, 2.5.8: 24 by 24 pixels.
        assert.ok(width >= 24 && height >= 24, `${width} × ${height}: ${name}`);
        assert.ok(x >= 0 && x + Math.min(width, 200) <= 360 && y + height > 0 && y < 740, `at ${x}, ${y}: ${name}`);
      }
      assert.deepEqual(await within(page), [360, 360]);
      await page.getByRole("button", { name: "Close the chart" }).tap();
      await page.getByText("Choose keys to see their charts.").waitFor();
      await page.locator("section.keys button.key").first().tap();
      await page.locator(".chart canvas").waitFor();
    },
    narrow,
  );
  await visit(
    browser,
    guarded.url,
    async (page) => {
      await page.getByLabel("Token").waitFor();
      assert.deepEqual(await within(page), [360, 360]);
      await page.getByLabel("Token").fill("x");
      await page.getByRole("button", { name: "Connect" }).tap();
      await page.getByText("The server does not accept this token").waitFor();
    },
    narrow,
  );
});

test("everything is reached and used by keyboard alone", async () => {
  await look("#feed=stocks.daily", async (page) => {
    await untilRows(page, 5);
    const press = async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent);
    await press("Tab");
    assert.equal(await focused(), "Skip to the keys");
    // What Tab comes by, until it is through the page.
    const stops = [];
    for (; stops.length < 60 && stops.at(-1) !== "MSFT"; await press("Tab")) stops.push(await focused());
    for (const wanted of [/^Colours: /, /^Filter keys$/, /^Pause$/, /^Key$/, /^Keys, scrollable$/, /AAPL/, /stocks\.daily/]) {
      assert.ok(stops.some((stop) => wanted.test(stop)), `${wanted} in ${stops.join(" | ")}`);
    }
    await page.evaluate(() => document.activeElement.blur());
    await press("p");
    assert.equal(await page.getByRole("button", { name: "Pause" }).getAttribute("aria-pressed"), "true");
    await press("p", "/");
    assert.equal(await focused(), "Filter keys");
    await page.getByRole("radio", { name: "4/s" }).focus();
    await press("ArrowRight");
    await page.waitForFunction(() => location.hash.includes("pace=1000"));
    await page.locator("section.keys button.key").first().focus();
    await press("ArrowDown");
    assert.match(await focused(), /^FB/);
    await press("ArrowUp");
    assert.match(await focused(), /^AAPL/);
    await press("Enter");
    await page.locator(".chart canvas").waitFor();
    assert.match(await page.locator(".chart figcaption").textContent(), /^AAPL/);
    const plot = page.locator(".plot");
    await plot.focus();
    await press("ArrowLeft");
    const live = page.locator(".golive");
    assert.equal(await live.getAttribute("aria-pressed"), "false");
    await press("End");
    assert.equal(await live.getAttribute("aria-pressed"), "true");
    const bars = () => plot.getAttribute("aria-label").then((label) => Number(/ ([\d,]+) bars/.exec(label)[1].replace(",", "")));
    const before = await bars();
    await press("-", "-", "-", "-", "-", "-", "-", "-");
    await page.waitForFunction((n) => Number(/ ([\d,]+) bars/.exec(document.querySelector(".plot").getAttribute("aria-label"))[1].replace(",", "")) > n, before);
    await page.getByRole("button", { name: "Close the chart" }).focus();
    await press("Enter");
    assert.equal(await page.locator(".chart").count(), 0);
    await page.locator(".theme").focus();
    await press("Enter");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  });
});
