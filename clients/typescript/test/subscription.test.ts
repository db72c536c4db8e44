import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, DismissedError, type FeedEvent, type Selectors, type SubscribeRequest, type SubscribeResponse, Subscription } from "@ringfeed/client";
import { bars, caughtUp, complete, EPOCH, heartbeat, records, response, selector, snapshot } from "./messages.js";

type Step = SubscribeResponse | ConnectError | "hang";

/** A server that follows a script, one list for each call. */
class Script {
  readonly requests: SubscribeRequest[] = [];
  constructor(private readonly calls: Step[][]) {}
  readonly subscribe = (request: SubscribeRequest, options?: { signal?: AbortSignal }) => {
    this.requests.push(request);
    const steps = this.calls[this.requests.length - 1] ?? [new ConnectError("the script is over", Code.FailedPrecondition)];
    return (async function* () {
      for (const step of steps) {
        if (step instanceof ConnectError) throw step;
        if (step === "hang") await new Promise((_, reject) => options?.signal?.addEventListener("abort", () => reject(new ConnectError("aborted", Code.Canceled))));
        else yield step;
      }
    })();
  };
}

const LOST = new ConnectError("connection lost", Code.Unavailable);

function follow(calls: Step[][], selectors: Selectors = { s: selector() }) {
  const server = new Script(calls);
  const subscription = new Subscription(server as never, { selectors, random: () => 0 });
  return { server, subscription };
}

/** Until it hangs or ends. */
async function take(subscription: Subscription, enough: (events: FeedEvent[]) => boolean): Promise<FeedEvent[]> {
  const events: FeedEvent[] = [];
  for await (const event of subscription) {
    events.push(event);
    if (enough(events)) break;
  }
  return events;
}

const offsets = (events: FeedEvent[]) => events.flatMap((event) => (event.kind === "records" ? event.records.map((r) => Number(r.offset)) : []));

test("a lost stream goes on exactly behind what was handed out", async () => {
  const { server, subscription } = follow([[records(0, 3), LOST], [records(3, 5)]]);
  const events = await take(subscription, (all) => offsets(all).length === 5);
  assert.deepEqual(offsets(events), [0, 1, 2, 3, 4]);
  assert.deepEqual(events.map((event) => event.kind), ["connected", "records", "disconnected", "connected", "records"]);
  const start = server.requests[1].selectors[0].start?.from;
  assert.deepEqual(start?.case === "cursor" && [start.value.epoch, start.value.offset], [EPOCH, 3n]);
  assert.ok(subscription.ledger.of("s")[0].report().balanced);
});

test("a server that skips after a reconnect is caught", async () => {
  const { subscription } = follow([[records(0, 3), LOST], [records(4, 5)]]);
  await assert.rejects(take(subscription, () => false), /offsets 3\.\.4 were skipped without a gap/);
});

test("a snapshot that was not complete begins anew, one that was does not", async () => {
  const start = { from: { case: "snapshot" as const, value: {} } };
  const begun = follow([[snapshot(9, 1), LOST], [snapshot(12, 1), complete(12), LOST], [records(12, 13)]], { s: selector({ start }) });
  await take(begun.subscription, (all) => offsets(all).length === 1);
  assert.deepEqual(begun.server.requests.map((r) => r.selectors[0].start?.from.case), ["snapshot", "snapshot", "cursor"]);
});

test("bars go on by the token, and what comes again is not counted twice", async () => {
  const fidelity = { view: { case: "bars" as const, value: {} } };
  const calls: Step[][] = [[bars(0, 10), caughtUp(10, "T1"), bars(10, 12), LOST], [bars(8, 12), bars(12, 13)]];
  const { server, subscription } = follow(calls, { s: selector({ fidelity }) });
  await take(subscription, (all) => all.filter((event) => event.kind === "bars").length === 4);
  assert.deepEqual([server.requests[1].resumeToken, server.requests[1].selectors.length], ["T1", 0]);
  const { leftOut, balanced } = subscription.ledger.of("s")[0].report();
  assert.deepEqual([leftOut, balanced], [13n, true]);
});

test("records that come again by a token are handed out once", async () => {
  const glob = { s: selector({ feed: "", feedGlobs: ["*"] }) };
  const { subscription } = follow([[records(0, 4), heartbeat(4, "T"), records(4, 6), LOST], [records(4, 8)]], glob);
  const events = await take(subscription, (all) => offsets(all).length === 8);
  assert.deepEqual(offsets(events), [0, 1, 2, 3, 4, 5, 6, 7]);
});

test("globs without a token cannot go on, and say so", async () => {
  const { subscription } = follow([[records(0, 4), LOST]], { s: selector({ feed: "", feedGlobs: ["*"] }) });
  await assert.rejects(take(subscription, () => false), /connection lost/);
});

test("a token that is refused is dropped for cursors", async () => {
  const fidelity = { view: { case: "bars" as const, value: {} } };
  const refused = new ConnectError("bad token", Code.InvalidArgument);
  const { server, subscription } = follow([[bars(0, 10), caughtUp(10, "T1"), LOST], [refused], [bars(10, 11)]], { s: selector({ fidelity }) });
  await take(subscription, (all) => all.filter((event) => event.kind === "bars").length === 2);
  assert.deepEqual(server.requests.map((r) => r.resumeToken), ["", "T1", ""]);
});

test("refusals are not tried again, and who iterates again goes on", async () => {
  const unknown = new ConnectError("who are you?", Code.Unauthenticated);
  const { server, subscription } = follow([[records(0, 2), unknown], [records(2, 3)]]);
  await assert.rejects(take(subscription, () => false), (error: ConnectError) => error.code === Code.Unauthenticated);
  const events = await take(subscription, (all) => offsets(all).length === 1);
  assert.deepEqual(offsets(events), [2]);
  assert.equal(server.requests.length, 2);
});

test("reconnect's token is taken at once", async () => {
  const leave = response({ case: "reconnect", value: { resumeToken: "R", reason: "stopping" } });
  const { server, subscription } = follow([[records(0, 2), leave], [records(2, 3)]]);
  const events = await take(subscription, (all) => offsets(all).length === 3);
  assert.equal(server.requests[1].resumeToken, "R");
  assert.ok(events.some((event) => event.kind === "disconnected" && event.why === "stopping"));
});

test("a subscriber that is too slow is told, with the token to go on", async () => {
  const leave = response({ case: "reconnect", value: { resumeToken: "R", reason: "slow" } });
  const { subscription } = follow([[records(0, 2), leave, new ConnectError("too slow", Code.Aborted)]]);
  await assert.rejects(take(subscription, () => false), (error: unknown) => error instanceof DismissedError && error.resumeToken === "R");
});

test("selectors that stay go on where they are when others change", async () => {
  const kept = selector();
  const other = selector({ keys: ["x"] });
  const { server, subscription } = follow([[records(0, 4), "hang"], [records(4, 6)]], { kept });
  const seen: FeedEvent[] = [];
  for await (const event of subscription) {
    seen.push(event);
    if (offsets(seen).length === 4 && server.requests.length === 1) subscription.change({ kept, other });
    if (offsets(seen).length === 6) break;
  }
  assert.deepEqual(server.requests[1].selectors.map((s) => s.start?.from.case), ["cursor", undefined]);
  assert.ok(subscription.ledger.of("kept")[0].report().balanced);
});

test("silence ends a stream; the heartbeat says how much of it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new Script([["hang"], [records(0, 1)]]);
  const subscription = new Subscription(server as never, { selectors: { s: selector() }, heartbeatMillis: 1_000, random: () => 0 });
  const iterator = subscription[Symbol.asyncIterator]();
  const first = iterator.next();
  while (server.requests.length === 0) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(8_000);
  const { value } = await first;
  assert.equal(value?.kind === "disconnected" && value.why, "nothing came for 8 s, not even a heartbeat");
  await iterator.return();
});
