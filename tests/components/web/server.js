// The real server as a process, on ports and a directory that a restart keeps.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const BINARY = process.env.TEST_BINARY ?? join(ROOT, "target/release/ringfeed");

/** Of the tests' own surroundings the server takes no settings. */
const CLEAN = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("RINGFEED_")));

export class Server {
  address = "127.0.0.1:0";
  log = [];

  /** Flags and settings as RINGFEED_ variables. */
  constructor({ flags = [], environment = {} } = {}) {
    this.flags = flags;
    this.environment = environment;
  }

  get url() {
    return `http://${this.address}/`;
  }

  async start() {
    this.data ??= await mkdtemp(join(tmpdir(), "ringfeed-page-"));
    const ports = ["--listen", this.address, "--metrics-listen", "127.0.0.1:0"];
    this.child = spawn(BINARY, ["serve", ...ports, "--data-dir", this.data, ...this.flags], {
      stdio: ["ignore", "inherit", "pipe"],
      env: { ...CLEAN, RINGFEED_LOG__FORMAT: "json", ...this.environment },
    });
    for await (const line of createInterface({ input: this.child.stderr })) {
      this.log.push(line);
      const fields = line.startsWith("{") ? JSON.parse(line).fields : {};
      if (fields.message !== "serving") continue;
      this.child.stderr.resume();
      this.address = fields.address;
      return this;
    }
    throw new Error(`the server ended before it served: ${this.log.join("\n")}`);
  }

  async kill(signal = "SIGKILL") {
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    await ended;
  }

  /** What becomes of it while nobody else can reach it: it is up at another port meanwhile. */
  async aside(work) {
    const { address } = this;
    await this.kill("SIGTERM");
    this.address = "127.0.0.1:0";
    await this.start();
    await work();
    await this.kill("SIGTERM");
    this.address = address;
    await this.start();
  }

  async end() {
    await this.kill();
    await rm(this.data, { recursive: true });
  }

  /** A command of the same program against it; input is what it reads. */
  async run(args, input = "", environment = {}) {
    const env = { ...CLEAN, RINGFEED_ENDPOINT: `http://${this.address}`, ...environment };
    const running = promisify(execFile)(BINARY, args, { env, maxBuffer: 1 << 26 });
    // A command that reads nothing may be over by then; how it ended says whether it failed.
    running.child.stdin.on("error", () => {});
    running.child.stdin.end(input);
    return (await running).stdout;
  }

  /** Records as JSON lines. */
  send(feed, records) {
    return this.run(["ingest", feed], records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  }

  file(name, environment) {
    return this.run(["ingest", "--file", join(ROOT, "fixtures", name)], "", environment);
  }
}
