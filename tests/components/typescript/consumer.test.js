// `npm pack` of clients/typescript, installed into a project of its own that compiles and runs.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Server } from "../web/server.js";

const HERE = fileURLToPath(new URL(".", import.meta.url));
// The lock has no checksum of the packed client, which is made anew each time; all others are locked.
const FILES = ["consumer.ts", "node.d.ts", "tsconfig.json", "package.json", "package-lock.json"];
const CLIENT = fileURLToPath(new URL("../../../clients/typescript", import.meta.url));

test("the packed client compiles in another project and reads a feed whole", async () => {
  const project = await mkdtemp(join(tmpdir(), "ringfeed-consumer-"));
  const run = (command, ...args) => promisify(execFile)(command, args, { cwd: project });
  const server = await new Server().start();
  try {
    const { stdout } = await promisify(execFile)("npm", ["pack", "--silent", "--pack-destination", project], { cwd: CLIENT });
    await rename(join(project, stdout.trim()), join(project, "client.tgz"));
    for (const name of FILES) await cp(join(HERE, name), join(project, name));
    await run("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--silent");
    await run("npx", "tsc", "-p", ".");
    await server.file("market_us_stocks_daily.csv");
    const said = JSON.parse((await run("node", "out/consumer.js", server.url, "stocks.daily")).stdout);
    assert.deepEqual(said, {
      last: { AAPL: "430.47", FB: "27.78", GOOG: "806.19", IBM: "202.91", MSFT: "27.95" },
      delivered: 12_154,
      whole: true,
      balanced: true,
    });
  } finally {
    await server.end();
    await rm(project, { recursive: true });
  }
});
