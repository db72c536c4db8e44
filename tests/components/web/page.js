// Debian's Chromium, and what every test looks at.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FOUND = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));

export function launch() {
  const executablePath = process.env.CHROMIUM ?? FOUND;
  assert.ok(executablePath, "no Chromium; tests/components/install installs Debian's");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page, and what its console said that it should not have. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints = [];
  page.on("console", (message) => {
    const expected = options.refused && /40[13]|Failed to load resource|ERR_CONNECTION/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !expected) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.stack ?? String(error)));
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
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
