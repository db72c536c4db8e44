// Bars of one key: the live ones of the shared subscription, and older ones that are asked for.
import type { BarBatch, GapEntry, RingfeedClient } from "@ringfeed/client";
import { GapReason } from "@ringfeed/client";
import type { BarView, ChartDelta, ChartWant, GapMark } from "../protocol.js";
import { bars } from "./read.js";

/** Bars that are kept; the oldest ones go first, some at a time. */
const KEPT_BARS = 20_000;
const DROPPED_AT_ONCE = 1_000;
/** Of a vector. */
const KEPT_CHANNELS = 16;

export class Chart {
  private readonly bars = new Map<string, { bar: BarView; version: number }>();
  private readonly gaps: GapMark[] = [];
  private version = 1;
  private newest: number | undefined;
  /** Where what is held begins, as an offset; the end of the next piece of history. */
  private begins: bigint | undefined;
  private exhausted = false;
  private loading = false;
  private caughtUp = false;
  /** Of the feed: 0 while it is not known. */
  private epoch = 0n;

  constructor(
    readonly id: string,
    readonly want: ChartWant,
  ) {}

  take(batch: BarBatch): void {
    if (this.epoch !== 0n && batch.epoch !== this.epoch) this.forget();
    this.epoch = batch.epoch;
    const covers = batch.covers;
    if (covers && covers.to > 0n) this.begins ??= covers.from;
    for (const bar of bars(batch, this.want.key)) this.put(bar, "replace");
    this.version += 1;
  }

  missed(gap: GapEntry): void {
    this.begins ??= gap.to;
    const count = (gap.count ?? gap.to - gap.from).toString();
    this.gaps.push({ after: this.newest, before: undefined, reason: GapReason[gap.reason], count });
    this.version += 1;
  }

  isCaughtUp(next: bigint): void {
    this.begins ??= next;
    this.caughtUp = true;
    this.version += 1;
  }

  since(seen: number): { delta: ChartDelta; version: number } {
    const fresh = [...this.bars.values()].filter((entry) => entry.version > seen);
    const { id, epoch, gaps, exhausted, isFull, loading, caughtUp } = this;
    const bars = fresh.map((entry) => entry.bar);
    return { delta: { id, epoch, anew: seen === 0, bars, gaps, exhausted, isFull, loading, caughtUp }, version: this.version };
  }

  isNewer(seen: number): boolean {
    return this.version > seen;
  }

  private get isFull(): boolean {
    return this.bars.size >= KEPT_BARS;
  }

  /** Reads bars from that time (milliseconds) up to where what is held begins. */
  async older(client: RingfeedClient, from: number): Promise<void> {
    const end = this.begins;
    // The page is answered in any case: it waits for that.
    this.version += 1;
    if (this.loading || this.exhausted || this.isFull || end === undefined) return;
    this.loading = true;
    try {
      await this.read(client, from, end);
    } finally {
      this.loading = false;
      this.version += 1;
    }
  }

  private async read(client: RingfeedClient, from: number, end: bigint): Promise<void> {
    const { feed, key } = this.want;
    const selector = {
      feed,
      keys: [key],
      start: { from: { case: "time" as const, value: { unixNanos: BigInt(Math.floor(from)) * 1_000_000n } } },
      end: { at: { case: "offset" as const, value: end } },
      fidelity: barsOf(this.want),
    };
    const subscription = client.subscribe({ selectors: { older: selector }, giveUpAfterMillis: 10_000 });
    for await (const event of subscription) {
      // The live ones know all records of a bar; these end before `end`.
      if (event.kind === "bars") for (const bar of bars(event.batch, key)) this.put(bar, "keep");
      this.version += 1;
    }
    const begun = subscription.ledger.of("older")[0]?.report().start?.offset;
    this.begins = begun !== undefined && begun < end ? begun : end;
    const { feed: found } = await client.catalog.getFeed({ name: feed });
    this.exhausted = this.begins <= (found?.oldest ?? 0n);
  }

  /** The feed was created anew. */
  private forget(): void {
    this.bars.clear();
    Object.assign(this, { newest: undefined, begins: undefined, exhausted: false });
  }

  private put(bar: BarView, how: "replace" | "keep"): void {
    if ((bar.channel ?? 0) >= KEPT_CHANNELS) return;
    const id = `${bar.source} ${bar.channel} ${bar.t}`;
    if (how === "keep" && this.bars.has(id)) return;
    const version = this.version + 1;
    this.bars.set(id, { bar, version });
    if (this.newest === undefined || bar.t > this.newest) {
      for (const gap of this.gaps) gap.before ??= bar.t;
      this.newest = bar.t;
    }
    if (this.bars.size >= KEPT_BARS + DROPPED_AT_ONCE) this.dropOldest();
  }

  /** Those of history came last and are the oldest, so the order in which they came does not say it. */
  private dropOldest(): void {
    const oldest = [...this.bars].sort(([, a], [, b]) => a.bar.t - b.bar.t).slice(0, this.bars.size - KEPT_BARS);
    for (const [id] of oldest) this.bars.delete(id);
  }
}

export function barsOf({ interval }: ChartWant) {
  const value = { interval: { seconds: BigInt(interval) }, includeOpen: true };
  return { view: { case: "bars" as const, value } };
}
