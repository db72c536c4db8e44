// compose.yaml against the Compose specification's JSON schema, as the linter brings it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../../..");
const text = readFileSync(join(root, "compose.yaml"), "utf8");
const compose = parse(text);

// The order of keys and services is the reader's, not the alphabet's.
function lint(file) {
  const dclint = join(here, "node_modules/dclint/bin/dclint.cjs");
  return spawnSync(process.execPath, [dclint, "--quiet", file], { encoding: "utf8" });
}

test("compose.yaml keeps to the Compose specification", () => {
  const { status, stdout, stderr } = lint(join(root, "compose.yaml"));
  assert.equal(status, 0, stdout + stderr);
  const dir = mkdtempSync(join(tmpdir(), "compose-"));
  const broken = join(dir, "compose.yaml");
  for (const [from, to] of [["stop_grace_period", "stop_grace"], ["volumes:\n  r", "volume:\n  r"]]) {
    writeFileSync(broken, text.replace(from, to));
    assert.notEqual(lint(broken).status, 0, `${to} is not found`);
  }
  rmSync(dir, { recursive: true });
});

test("what compose.yaml mounts and builds is there", () => {
  const mounts = Object.values(compose.services).flatMap(({ volumes }) => volumes);
  const files = mounts.map((mount) => mount.split(":")[0]).filter((from) => from.startsWith("./"));
  assert.ok(files.length >= 5);
  for (const file of [...files, "Dockerfile"]) {
    assert.ok(existsSync(join(root, file)), `${file} is missing`);
  }
  for (const mount of mounts.filter((mount) => !mount.startsWith("./"))) {
    assert.ok(mount.split(":")[0] in compose.volumes, `${mount} is no volume`);
  }
});

test("nothing is published beyond this machine", () => {
  const ports = Object.values(compose.services).flatMap(({ ports }) => ports);
  assert.ok(ports.length >= 4);
  for (const port of ports) assert.match(port, /^127\.0\.0\.1:/);
});

test("what is provisioned is where compose.yaml puts it", () => {
  const grafana = compose.services.grafana;
  const read = (name) => readFileSync(join(root, "grafana/provisioning", name), "utf8");
  const { providers } = parse(read("dashboards/ringfeed.yml"));
  const mounted = grafana.volumes.map((mount) => mount.split(":")[1]);
  assert.ok(mounted.includes(providers[0].options.path));
  const sources = read("datasources/ringfeed.yml").replace(/^\s*#.*$/gm, "");
  for (const [, name] of sources.matchAll(/\$([A-Z_]+)/g)) {
    assert.ok(name in grafana.environment, `${name} is not set`);
  }
  const { datasources } = parse(sources);
  const types = datasources.map(({ type }) => type);
  assert.deepEqual(types, ["prometheus", "yesoreyeram-infinity-datasource"]);
  assert.equal(grafana.environment.GF_PLUGINS_PREINSTALL, types[1]);
});

test("Prometheus scrapes the service, with the rules of prometheus.yml", () => {
  const own = parse(readFileSync(join(root, "grafana/prometheus.yml"), "utf8"));
  const composed = parse(readFileSync(join(root, "grafana/prometheus.compose.yml"), "utf8"));
  const [target] = composed.scrape_configs[0].static_configs[0].targets;
  const [host, port] = target.split(":");
  const { command } = compose.services[host];
  assert.ok(command.some((flag) => flag.startsWith("--metrics-listen") && flag.endsWith(`:${port}`)));
  composed.scrape_configs[0].static_configs = own.scrape_configs[0].static_configs;
  assert.deepEqual(composed, own);
});
