import assert from "node:assert/strict";
import { test } from "node:test";
import { BrokenError, GapReason, Ledger, type Report, type Selector } from "@ringfeed/client";
import { bars, caughtUp, complete, EPOCH, epochChanged, gap, heartbeat, records, response, selector, snapshot } from "./messages.js";

function ledger(of: Selector = selector()): Ledger {
  const made = new Ledger();
  made.select(new Map([["s", of]]));
  return made;
}

function report(of: Ledger): Report {
  return of.of("s")[0].report();
}

function fault(of: Ledger, message: ReturnType<typeof records>) {
  const before = JSON.stringify(report(of), (_, value) => (typeof value === "bigint" ? String(value) : value));
  let found: unknown;
  try {
    of.observe(message);
  } catch (error) {
    found = error;
  }
  assert.ok(found instanceof BrokenError, "it passed");
  const after = JSON.stringify(report(of), (_, value) => (typeof value === "bigint" ? String(value) : value));
  assert.equal(after, before, "after an error the account stands as before it");
  return found.fault.kind;
}

test("every offset is delivered, left out, or in a gap", () => {
  const account = ledger();
  account.observe(records(10, 20, [11, 15]));
  account.observe(gap(20, 25));
  account.observe(records(25, 26));
  account.observe(records(26, 30, []));
  const { delivered, leftOut, losses, start, next, balanced, whole } = report(account);
  assert.deepEqual([delivered, leftOut], [3n, 12n]);
  assert.deepEqual(losses, [{ reason: GapReason.EVICTED, gaps: 1, offsets: 5n }]);
  assert.deepEqual([start?.offset, next?.offset], [10n, 30n]);
  assert.ok(balanced && !whole);
});

test("a range that was skipped, or comes again, is an error", () => {
  const account = ledger();
  account.observe(records(0, 5));
  assert.equal(fault(account, records(6, 7)), "hole");
  assert.equal(fault(account, records(4, 7)), "again");
  assert.equal(fault(account, gap(6, 9)), "hole");
  assert.equal(fault(account, caughtUp(6)), "hole");
  assert.equal(fault(account, bars(7, 9)), "hole");
});

test("records outside of their range, out of order, or fewer than announced are errors", () => {
  const account = ledger();
  account.observe(records(0, 5));
  assert.equal(fault(account, records(5, 7, [7])), "order");
  assert.equal(fault(account, records(5, 9, [7, 6])), "order");
  assert.equal(fault(account, records(5, 9, [6, 6])), "order");
  const short = records(5, 7);
  if (short.event.case === "records") short.event.value.count = 3;
  assert.equal(fault(account, short), "count");
});

test("an event, a reason or a selector that this client does not know is an error", () => {
  const account = ledger();
  account.observe(records(0, 5));
  assert.equal(fault(account, response({ case: undefined })), "unknown");
  assert.equal(fault(account, gap(5, 6, 99 as GapReason)), "unknown");
  assert.equal(fault(account, gap(5, 6, GapReason.UNSPECIFIED)), "unknown");
  assert.throws(() => account.observe({ ...records(5, 6), selector: 1 }), /no selector 1/);
});

test("another epoch needs a gap that says so, and the account goes on in it", () => {
  const account = ledger();
  account.observe(records(0, 5));
  assert.equal(fault(account, records(5, 6, undefined, EPOCH + 1n)), "epoch");
  account.observe(epochChanged(5, { epoch: EPOCH + 1n, offset: 2 }));
  account.observe(records(2, 4, undefined, EPOCH + 1n));
  const { delivered, balanced, next, start } = report(account);
  assert.equal(delivered, 7n);
  assert.deepEqual([start?.offset, next], [2n, { epoch: EPOCH + 1n, offset: 4n }]);
  assert.ok(balanced);
});

test("a snapshot comes before the records, of one offset", () => {
  const account = ledger(selector({ start: { from: { case: "snapshot", value: {} } } }));
  assert.equal(fault(account, records(9, 10)), "early");
  account.observe(snapshot(9, 3, 8));
  assert.equal(fault(account, snapshot(10, 4)), "as-of");
  assert.equal(fault(account, complete(10)), "as-of");
  assert.equal(fault(account, snapshot(9, 9)), "order");
  account.observe(complete(9));
  assert.equal(fault(account, snapshot(9, 3)), "snapshot");
  account.observe(records(9, 10));
  assert.equal(report(account).delivered, 1n);
});

test("an offset or a cursor that was asked for is where it must begin", () => {
  const account = ledger(selector({ start: { from: { case: "offset", value: 4n } } }));
  assert.equal(fault(account, records(5, 6)), "hole");
  account.observe(records(4, 6));
  const { start, balanced } = report(account);
  assert.deepEqual([start, balanced], [{ epoch: EPOCH, offset: 4n }, true]);
});

test("of a stream that tells again what is held only the rest is new", () => {
  const account = ledger();
  account.observe(records(0, 10));
  account.reopened("at-or-before");
  assert.equal(account.observe(records(4, 8)), "nothing");
  assert.deepEqual(account.observe(records(8, 12)), { from: 10n });
  assert.equal(account.observe(records(12, 13)), "all");
  const { delivered, balanced } = report(account);
  assert.deepEqual([delivered, balanced], [13n, true]);
});

test("a stream that tells again may not begin beyond what is held", () => {
  const account = ledger();
  account.observe(records(0, 10));
  account.reopened("at-or-before");
  assert.equal(fault(account, records(11, 12)), "hole");
});

test("a heartbeat tells where a selector stands that has seen nothing, no more", () => {
  const account = ledger();
  account.observe(heartbeat(5));
  assert.equal(report(account).next?.offset, 5n);
  account.observe(heartbeat(99));
  assert.equal(fault(account, records(6, 7)), "hole");
});

test("feeds of a glob come up as the server speaks of them", () => {
  const account = ledger(selector({ feed: "", feedGlobs: ["*"] }));
  assert.deepEqual(account.of("s"), []);
  account.observe(records(3, 4));
  assert.deepEqual(account.of("s").map((lane) => [lane.feed, lane.next?.offset]), [["f", 4n]]);
  // Deleted and created again: a greater epoch needs no gap here.
  account.observe(records(0, 2, undefined, EPOCH + 5n));
  assert.ok(report(account).balanced);
});
