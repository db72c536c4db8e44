// The last record of each key of a feed, with the values of a sparkline. What changed is found by
// versions, so a page that does not pull costs nothing.
import type { KeyInfo, Record as FeedRecord } from "@ringfeed/client";
import { type InfoView, type RowView, SPARK_POINTS, type ValuesDelta } from "../protocol.js";
import { info, millis, type Said, said } from "./read.js";

interface Row {
  said: Said;
  version: number;
  /** The least it was seen to be: what a fidelity leaves out makes it seem longer. */
  cadence: number | undefined;
  points: { number: number; event: bigint; offset: bigint; version: number }[];
}

export class Values {
  private readonly rows = new Map<string, Row>();
  private readonly infos = new Map<string, { info: InfoView; version: number }>();
  private version = 1;
  /** Of the feed: 0 while it is not known. */
  private epoch = 0n;
  private narrowed: string[] = [];

  constructor(readonly feed: string) {}

  /** Records in the order in which they came. */
  take(epoch: bigint, records: readonly FeedRecord[]): void {
    this.version += 1;
    // Created anew, the feed has none of the keys that it had.
    if (this.epoch !== 0n && epoch !== this.epoch) this.rows.clear();
    this.epoch = epoch;
    for (const record of records) this.enter(said(record));
  }

  /** What was there before: it goes in front of what came since. */
  seed(records: readonly FeedRecord[]): void {
    this.version += 1;
    const before = new Map<string, Said[]>();
    for (const record of records) {
      const one = said(record);
      const id = rowId(one);
      before.set(id, [...(before.get(id) ?? []), one]);
    }
    for (const [id, list] of before) this.putBefore(id, list);
  }

  describe(key: string, of: KeyInfo | undefined): void {
    this.version += 1;
    this.infos.set(key, { info: info(key, of), version: this.version });
  }

  /** Only keys that match these globs come; of none: all. */
  narrow(keyGlobs: string[]): void {
    if (keyGlobs.length === 0 && this.narrowed.length === 0) return;
    this.version += 1;
    this.narrowed = keyGlobs;
  }

  /** What is newer than that version, and the present one. */
  since(seen: number): { delta: ValuesDelta; version: number } {
    const rows: RowView[] = [];
    for (const row of this.rows.values()) {
      if (row.version > seen) rows.push(view(row, seen));
    }
    const fresh = [...this.infos.values()].filter((entry) => entry.version > seen);
    const infos = fresh.map((entry) => entry.info);
    const { feed, epoch, narrowed } = this;
    return { delta: { feed, epoch, anew: seen === 0, narrowed, rows, infos }, version: this.version };
  }

  isNewer(seen: number): boolean {
    return this.version > seen;
  }

  /** The event time of a key's newest record in milliseconds. */
  lastEvent(key: string): number | undefined {
    const times = [...this.rows.values()].filter((row) => row.said.key === key).map((row) => row.said.event);
    return times.length > 0 ? millis(times.reduce((a, b) => (a > b ? a : b))) : undefined;
  }

  private enter(one: Said): void {
    const id = rowId(one);
    const row = this.rows.get(id);
    // A spool of old readings does not become current.
    if (row && isBefore(one, row.said)) return;
    const points = row?.points ?? [];
    if (one.number !== undefined && points.at(-1)?.offset !== one.offset) {
      points.push({ number: one.number, event: one.event, offset: one.offset, version: this.version });
      if (points.length > SPARK_POINTS) points.shift();
    }
    this.rows.set(id, { said: one, version: this.version, cadence: row?.cadence, points });
  }

  private putBefore(id: string, list: Said[]): void {
    const row = this.rows.get(id);
    if (!row) return;
    const first = row.points[0]?.offset;
    const version = this.version;
    const older = list.filter((one) => one.number !== undefined && (first === undefined || one.offset < first));
    const points = older.map(({ number, event, offset }) => ({ number: number as number, event, offset, version }));
    // The page is sent all of them, as if it had none.
    for (const point of row.points) point.version = version;
    row.points = [...points, ...row.points].slice(-SPARK_POINTS);
    row.cadence = cadence(row.points.map((point) => point.event));
    row.version = version;
  }
}

function rowId({ key, kind }: Said): string {
  return `${kind} ${key}`;
}

/** By event time, ties by offset. The same record is not before itself. */
function isBefore(one: Said, other: Said): boolean {
  return one.event === other.event ? one.offset < other.offset : one.event < other.event;
}

function view(row: Row, seen: number): RowView {
  const { said: one, points } = row;
  const { event, ...rest } = one;
  const now = cadence(points.map((point) => point.event));
  row.cadence = Math.min(row.cadence ?? Infinity, now ?? Infinity);
  const pace = Number.isFinite(row.cadence) ? row.cadence : undefined;
  const fresh = points.filter((point) => point.version > seen).map((point) => point.number);
  return { ...rest, event: millis(event), points: fresh, cadence: pace };
}

/** The median time between events, in milliseconds. */
function cadence(events: bigint[]): number | undefined {
  const steps: number[] = [];
  for (let i = 1; i < events.length; i += 1) {
    const step = Number((events[i] as bigint) - (events[i - 1] as bigint)) / 1e6;
    if (step > 0) steps.push(step);
  }
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1];
}
