// The real server as a process, on free ports and a temporary directory.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY = fileURLToPath(new URL("../../../target/release/ringfeed", import.meta.url));

export async function start() {
  const data = await mkdtemp(join(tmpdir(), "ringfeed-web-"));
  const ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
  const child = spawn(BINARY, ["serve", ...ports, "--data-dir", data], {
    stdio: ["ignore", "inherit", "pipe"],
    env: { ...process.env, RINGFEED_LOG__FORMAT: "json" },
  });
  const log = [];
  for await (const line of createInterface({ input: child.stderr })) {
    log.push(line);
    const fields = line.startsWith("{") ? JSON.parse(line).fields : {};
    if (fields.message === "serving") {
      child.stderr.resume();
      return { address: fields.address, kill: () => end(child, data) };
    }
  }
  throw new Error(`the server ended before it served: ${log.join("\n")}`);
}

async function end(child, data) {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  await rm(data, { recursive: true });
}
