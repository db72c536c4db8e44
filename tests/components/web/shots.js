// Takes the pictures of the page anew that README.md shows: `node shots.js`.
import { fileURLToPath } from "node:url";
import { launch, open, until, untilFigure } from "./page.js";
import { Server } from "./server.js";

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));
const FIXTURES = [
  "market_us_stock_ticks_quotes.csv",
  "market_us_stock_ticks_trades.csv",
  "market_us_stocks_daily.csv",
  "sensor_midc_bms_20181018.csv",
  "sensor_surfrad_alamosa_20160101.csv",
];
const SHOTS = [
  ["page-light.png", "light", "#feed=sensors.bms&key=bms.air_temp&key=bms.wind_speed"],
  ["page-dark.png", "dark", "#feed=stocks.daily&key=MSFT&key=IBM"],
];

const server = await new Server().start();
const browser = await launch();
try {
  for (const name of FIXTURES) await server.file(name);
  for (const [name, colorScheme, view] of SHOTS) {
    const { page, close } = await open(browser, server.url + view, { colorScheme, viewport: { width: 1360, height: 826 } });
    await until(page, "Live");
    // Both charts have what they show at first.
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length === 2);
    await page.waitForFunction(() => [...document.querySelectorAll(".chart .note")].every((note) => note.textContent === ""));
    await untilFigure(page, "snapshot", 1);
    await page.screenshot({ path: IMAGES + name });
    await close();
  }
} finally {
  await browser.close();
  await server.end();
}
