// A feed of many keys that change often, uploaded by the program itself.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { BINARY } from "./server.js";

/** `keys` readings `rate` times a second each; end() stops it and says how many were sent. */
export function load(server, feed, { keys, rate }) {
  const child = spawn(BINARY, ["ingest", feed], {
    stdio: ["pipe", "ignore", "inherit"],
    env: { PATH: process.env.PATH, RINGFEED_ENDPOINT: `http://${server.address}` },
  });
  const began = performance.now();
  let rounds = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) / 1_000) * rate);
    for (; rounds < due; rounds += 1) child.stdin.write(round(rounds, keys));
  }, 1_000 / rate);
  const end = async () => {
    clearInterval(timer);
    child.stdin.end();
    await once(child, "exit");
    return rounds * keys;
  };
  return { end };
}

function round(n, keys) {
  let lines = "";
  for (let k = 0; k < keys; k += 1) {
    const value = (20 + (k % 50) + 5 * Math.sin(n / 60 + k)).toFixed(2);
    lines += `{"key":"pi${k}.temp","value":${value}}\n`;
  }
  return lines;
}
