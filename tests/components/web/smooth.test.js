// The short form of `node smooth.js 600`, whose figures are in docs/web.md.
import assert from "node:assert/strict";
import { test } from "node:test";
import { measure } from "./smooth.js";

test("500 keys that change 20 times a second each leave the page responsive and its memory flat", async () => {
  const found = await measure(10, { every: 5 });
  const said = JSON.stringify(found);
  assert.deepEqual(found.complaints, [], said);
  assert.ok(found.balanced && found.keysShown === "500 keys", said);
  assert.ok(found.oldestAgeSeconds < 3, said);
  // Far above what was measured, so that a busy machine passes; a page that draws each record does not.
  assert.ok(found.inputToFrameMillis.p99 < 300 && found.longTasks.millis < 2_000, said);
  const [before, after] = found.heaps;
  assert.ok(after.page - before.page < 5 && after.worker - before.worker < 10, said);
});
