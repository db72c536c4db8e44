// gRPC-Web over HTTP/1.1, on the port that serves gRPC: what a browser page can do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";

import { CatalogService } from "./generated/ringfeed/v1/catalog_pb.js";
import { FeedService } from "./generated/ringfeed/v1/feed_pb.js";
import { start } from "./server.js";

let server, feeds, catalog;

before(async () => {
  server = await start();
  const baseUrl = `http://${server.address}`;
  const transport = createGrpcWebTransport({ baseUrl, httpVersion: "1.1" });
  feeds = createClient(FeedService, transport);
  catalog = createClient(CatalogService, transport);
});

after(() => server?.kill());

const reading = (key, value) => ({
  key,
  payload: { case: "reading", value: { value: { case: "number", value } } },
});

async function upload(feed, numbers) {
  async function* messages() {
    yield { feed, records: numbers.map((number) => reading("pi17.temp", number)) };
  }
  return feeds.ingest(messages());
}

test("a unary call answers", async () => {
  await catalog.createFeed({ name: "plant" });
  const { feeds: listed } = await catalog.listFeeds({});
  assert.deepEqual(listed.map((feed) => feed.name), ["plant"]);
});

test("an error arrives with its code and its reason", async () => {
  await assert.rejects(catalog.getFeed({ name: "nope" }), (error) => {
    assert.equal(ConnectError.from(error).code, Code.NotFound);
    assert.match(error.rawMessage, /no feed "nope"/);
    return true;
  });
});

test("a feed is followed from its oldest record, then live", { timeout: 30_000 }, async () => {
  await upload("web", [1, 2, 3]);
  const start = { from: { case: "earliest", value: {} } };
  const stop = new AbortController();
  const numbers = [];
  let next = 0n;
  const responses = feeds.subscribe(
    { selectors: [{ feed: "web", start }] },
    { signal: stop.signal },
  );
  try {
    for await (const { event } of responses) {
      if (event.case === "caughtUp") {
        assert.deepEqual(numbers, [1, 2, 3]);
        await upload("web", [4, 5]);
      } else if (event.case === "records") {
        assert.equal(event.value.covers.from, next);
        next = event.value.covers.to;
        numbers.push(...event.value.records.map((record) => record.payload.value.value.value));
      }
      if (numbers.length === 5) stop.abort();
    }
  } catch (error) {
    assert.equal(ConnectError.from(error).code, Code.Canceled);
  }
  assert.deepEqual(numbers, [1, 2, 3, 4, 5]);
});

test("a bounded subscription ends by itself", async () => {
  await upload("bounded", [7]);
  const selector = {
    feed: "bounded",
    start: { from: { case: "earliest", value: {} } },
    end: { at: { case: "now", value: {} } },
  };
  const records = [];
  for await (const { event } of feeds.subscribe({ selectors: [selector] })) {
    if (event.case === "records") records.push(...event.value.records);
  }
  assert.equal(records.length, 1);
  assert.equal(records[0].offset, 0n);
  assert.equal(records[0].timeAssigned, true);
});

test("a decimal is read as the comment in record.proto says", async () => {
  const price = { units: -7922816251426433759n, scale: 4, high: -429496729n };
  async function* messages() {
    const value = { price };
    yield { feed: "ticks", records: [{ key: "XYZ", payload: { case: "trade", value } }] };
  }
  await feeds.ingest(messages());
  const { records } = await feeds.getLatest({ feed: "ticks" });
  const d = records[0].payload.value.price;
  const n = (BigInt(d.high) << 64n) + BigInt(d.units);
  assert.equal(n, (price.high << 64n) + price.units);
  assert.equal(d.scale, 4);
});
