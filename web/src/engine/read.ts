// Records and bars of the wire, as the page shows them.
import {
  type BarBatch,
  type Decimal,
  decimalToNumber,
  decimalToString,
  type Feed,
  type Key,
  type KeyInfo,
  Quality as WireQuality,
  type Reading,
  type Record as FeedRecord,
  TradeAction,
  type ViewBar,
} from "@ringfeed/client";
import type { BarView, FeedView, InfoView, Quality } from "../protocol.js";

/** What a record says, without what the page adds. */
export interface Said {
  key: string;
  kind: string;
  text: string;
  number: number | undefined;
  scale: number;
  quality: Quality;
  qualityCode: number | undefined;
  channels: number;
  event: bigint;
  ingest: number;
  offset: bigint;
}

export function said(record: FeedRecord): Said {
  const { key, offset, payload } = record;
  const event = record.eventTimeUnixNanos ?? record.ingestTimeUnixNanos;
  const ingest = millis(record.ingestTimeUnixNanos);
  return { key, kind: payload.case ?? "unknown", ...value(record), event, ingest, offset };
}

type Value = Pick<Said, "text" | "number" | "scale" | "quality" | "qualityCode" | "channels">;

function value({ payload }: FeedRecord): Value {
  switch (payload.case) {
    case "quote":
      return quote(payload.value.bid, payload.value.ask);
    case "trade": {
      const taken = payload.value.action === TradeAction.CANCEL;
      const price = decimal(payload.value.price);
      return taken ? { ...price, text: `${price.text} cancelled`, number: undefined } : price;
    }
    case "bar":
      return decimal(payload.value.close);
    case "reading":
      return reading(payload.value);
    case "status":
      return plain(payload.value.reason ? `${payload.value.state}: ${payload.value.reason}` : payload.value.state);
    default:
      return plain("?");
  }
}

function plain(text: string, number?: number, scale = 0, channels = 0): Value {
  return { text, number, scale, quality: "good", qualityCode: undefined, channels };
}

function decimal(found: Decimal | undefined): Value {
  return found ? plain(decimalToString(found), decimalToNumber(found), found.scale) : plain("–");
}

function quote(bid: Decimal | undefined, ask: Decimal | undefined): Value {
  const text = `${decimal(bid).text} × ${decimal(ask).text}`;
  const scale = Math.max(bid?.scale ?? 0, ask?.scale ?? 0);
  const sides = [bid, ask].filter((side) => side !== undefined).map(decimalToNumber);
  return plain(text, sides.reduce((sum, side) => sum + side, 0) / sides.length, scale);
}

function reading(found: Reading): Value {
  const quality = qualityOf(found.quality);
  return { ...readingValue(found.value), quality, qualityCode: found.qualityCode };
}

function readingValue(found: Reading["value"]): Value {
  switch (found.case) {
    case "number":
      return plain(String(found.value), found.value, scaleOf(found.value));
    case "decimal":
      return decimal(found.value);
    case "integer":
      return plain(found.value.toString(), Number(found.value));
    case "flag":
      return plain(found.value ? "on" : "off", found.value ? 1 : 0);
    case "text":
      return plain(found.value);
    case "vector": {
      const { values } = found.value;
      const first = values[0] ?? NaN;
      return plain(`[${values.length}] ${values.join(", ")}`, first, scaleOf(first), values.length);
    }
    default:
      return plain("–");
  }
}

function scaleOf(number: number): number {
  return /\.(\d+)$/.exec(String(number))?.[1]?.length ?? 0;
}

function qualityOf(quality: WireQuality): Quality {
  if (quality === WireQuality.BAD) return "bad";
  return quality === WireQuality.UNCERTAIN ? "uncertain" : "good";
}

export function bars(batch: BarBatch, key: string): BarView[] {
  return batch.bars.filter((bar) => bar.key === key).map(bar);
}

function bar(view: ViewBar): BarView {
  const { source, complete, partial } = view;
  if (view.reading) {
    const { startUnixNanos, min, max, mean, last, count, badCount, channel } = view.reading;
    const values = { o: NaN, h: max ?? NaN, l: min ?? NaN, c: last ?? NaN, m: mean ?? NaN };
    const counts = { n: Number(count), bad: Number(badCount) };
    return { source, channel, t: seconds(startUnixNanos), ...values, ...counts, complete, partial };
  }
  const prices = view.bar;
  const n = (of: Decimal | undefined) => (of ? decimalToNumber(of) : NaN);
  return {
    source,
    channel: undefined,
    t: seconds(prices?.startUnixNanos ?? 0n),
    o: n(prices?.open),
    h: n(prices?.high),
    l: n(prices?.low),
    c: n(prices?.close),
    m: NaN,
    n: Number(prices?.count ?? 0n),
    bad: 0,
    complete,
    partial,
  };
}

export function info(key: string, of: KeyInfo | undefined): InfoView {
  const expected = of?.expectedInterval;
  return {
    key,
    name: of?.displayName,
    description: of?.description,
    unit: of?.unit,
    currency: of?.currency,
    decimals: of?.displayDecimals,
    min: of?.min,
    max: of?.max,
    channels: of?.channels ?? [],
    names: of?.enumLabels ?? {},
    expected: expected && Number(expected.seconds) * 1_000 + expected.nanos / 1e6,
  };
}

export function feed(of: Feed, keys: readonly Key[]): FeedView {
  const lasts = of.ringDuration;
  const append = of.lastAppendTime;
  return {
    name: of.name,
    kinds: [...new Set(keys.flatMap((key) => key.kinds))].sort(),
    rate: of.recordsPerSecond,
    bytesRate: of.bytesPerSecond,
    keys: Number(of.keys),
    oldest: of.oldest,
    next: of.next,
    bytes: Number(of.bytes),
    maxBytes: Number(of.retention?.maxBytes ?? 0n),
    lasts: lasts && Number(lasts.seconds) + lasts.nanos / 1e9,
    subscribers: Number(of.subscribers),
    producers: Number(of.producers),
    lastAppend: append && Number(append.seconds) * 1_000 + append.nanos / 1e6,
  };
}

export function millis(nanos: bigint): number {
  return Number(nanos / 1_000n) / 1_000;
}

function seconds(nanos: bigint): number {
  return Number(nanos / 1_000_000n) / 1_000;
}
