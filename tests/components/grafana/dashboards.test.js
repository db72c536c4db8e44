// Dashboards as Grafana's own types have them: a typo fails.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const dashboards = join(here, "../../../grafana/dashboards");
const scratch = join(here, "generated");
const names = readdirSync(dashboards).filter((name) => name.endsWith(".json"));

before(() => mkdirSync(scratch, { recursive: true }));
after(() => rmSync(scratch, { recursive: true }));

// What the compiler says to a text that is to be a dashboard; empty: nothing.
function complaints(texts) {
  const files = Object.entries(texts).map(([name, text]) => {
    const file = join(scratch, `${name}.ts`);
    writeFileSync(file, `import type { Board } from "../shape";\nexport const board: Board = ${text};\n`);
    return file;
  });
  const config = join(scratch, "tsconfig.json");
  writeFileSync(config, JSON.stringify({ extends: "../tsconfig.json", files }));
  const tsc = join(here, "node_modules/typescript/bin/tsc");
  try {
    return execFileSync(process.execPath, [tsc, "--pretty", "false", "-p", config], { encoding: "utf8" });
  } catch (error) {
    return error.stdout;
  }
}

test("every dashboard is one that Grafana knows", () => {
  assert.ok(names.length >= 3);
  const texts = Object.fromEntries(
    names.map((name) => [name.replace(".json", ""), readFileSync(join(dashboards, name), "utf8")]),
  );
  assert.equal(complaints(texts), "");
});

test("a typo of any kind is found", () => {
  const text = readFileSync(join(dashboards, "overview.json"), "utf8");
  const values = readFileSync(join(dashboards, "values.json"), "utf8");
  const broken = {
    option: text.replace('"reduceOptions"', '"reduceOption"'),
    choice: text.replace('"drawStyle": "line"', '"drawStyle": "lines"'),
    custom: text.replace('"fillOpacity"', '"fillOpacitiy"'),
    query: text.replace('"expr"', '"exp"'),
    unit: text.replace('"unit": "Bps"', '"unit": "bps/s"'),
    kind: text.replace('"type": "stat"', '"type": "stats"'),
    number: text.replace('"graphTooltip": 1', '"graphTooltip": 7'),
    top: text.replace('"refresh"', '"refreshes"'),
    candle: values.replace('"candleStyle": "candles"', '"candleStyle": "candle"'),
    override: values.replace('"custom.fillBelowTo"', '"custom.fillBelow"'),
    column: values.replace('"type": "timestamp"', '"type": "time"'),
  };
  const said = complaints(broken);
  for (const [name, changed] of Object.entries(broken)) {
    assert.ok(changed !== text && changed !== values, `${name} changes nothing`);
    assert.match(said, new RegExp(`${name}\\.ts`), `${name} is not found`);
  }
});

test("the types are those of the Grafana that compose.yaml runs", () => {
  const compose = readFileSync(join(here, "../../../compose.yaml"), "utf8");
  const { dependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  assert.match(compose, new RegExp(`image: grafana/grafana:${dependencies["@grafana/schema"]}\\n`));
});
