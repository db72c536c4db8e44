// One feed of one selector: which offset comes next, and what became of all before it.
import { Account, type GapEntry, type Place, type Range, type Report } from "./account.js";
import { FaultError } from "./fault.js";
import {
  type BarBatch,
  type Cursor,
  type Fidelity,
  type Gap,
  GapReason,
  type OffsetRange,
  type RecordBatch,
  type Selector,
  type SnapshotBatch,
  type SubscribeResponse,
} from "./generated/ringfeed/v1/feed_pb.js";

export type WireEvent = SubscribeResponse["event"];

/** What of a response was not held before: all, what lies at or above an offset, or nothing. */
export type Fresh = "all" | "nothing" | { from: bigint };

/** How a new stream stands to the one before it: exactly behind it, or it tells some of it again. */
export type Reopened = "behind" | "at-or-before";

type Snapshot = "never" | { due: Place | undefined } | "maybe";

/** The account of one feed of one selector. */
export class Lane {
  /** The next offset that is expected; undefined before the server told where the selector stands. */
  next: Place | undefined;
  /** It still gets the last n of each key: a cursor does not say so, a resume token does. */
  picking: boolean;
  /** What it gets at present; undefined: every record. */
  fidelity: Fidelity | undefined;
  private readonly account = new Account();
  private snapshot: Snapshot = "never";
  /** Where a stream stands that tells again what we hold; undefined inside until it told. */
  private again: { at: bigint | undefined } | undefined;
  /** Where the account of this epoch begins, and what had been settled when it began. */
  private start: Place | undefined;
  private settledBefore = 0n;

  constructor(
    readonly feed: string,
    selector: Selector,
    /** It came up by a glob, and may go and come back with another epoch. */
    private readonly joined: boolean,
  ) {
    const from = selector.start?.from;
    this.picking = from?.case === "lastPerKey";
    this.fidelity = selector.fidelity;
    if (from?.case === "snapshot") this.snapshot = joined ? "maybe" : { due: undefined };
    if (!joined && from?.case === "offset") this.next = { epoch: 0n, offset: from.value };
    if (!joined && from?.case === "cursor") this.next = place(from.value);
    this.begin(this.next);
  }

  report(): Report {
    const { delivered, leftOut, gaps, unlistedGaps, losses } = this.account;
    const settled = this.account.settled - this.settledBefore;
    const balanced =
      !this.start || !this.next || this.next.offset - this.start.offset === settled;
    const whole = losses.length === 0;
    const { start, next } = this;
    return { whole, start, next, delivered, leftOut, gaps, unlistedGaps, losses, balanced };
  }

  reopened(how: Reopened): void {
    this.again = undefined;
    if (typeof this.snapshot === "object") this.snapshot = { due: undefined };
    if (!this.next) return;
    if (how === "behind") this.snapshot = "never";
    else this.again = { at: undefined };
  }

  /** Throws a FaultError; the lane stands as before then. */
  observe(event: WireEvent): Fresh {
    switch (event.case) {
      case "records":
        return this.records(event.value);
      case "bars":
        return this.bars(event.value);
      case "gap":
        return this.gap(event.value);
      case "snapshot":
        return this.snapshotBatch(event.value);
      case "snapshotComplete":
        return this.complete(place(need(event.value.asOf, "as_of")));
      case "caughtUp": {
        const fresh = this.standsAt(place(need(event.value.next, "next")));
        this.picking = false;
        return fresh;
      }
      case "heartbeat": {
        // Tells where a selector stands that has seen nothing yet; no more than that.
        const { cursor, acknowledged } = event.value;
        const unplaced = !this.next && this.snapshot === "never";
        return cursor && unplaced && !acknowledged ? this.standsAt(place(cursor)) : "all";
      }
      case "modeChanged":
        this.fidelity = event.value.fidelity;
        return "all";
      case "keyInfo":
      case "narrowed":
      case "reconnect":
        return "all";
      case undefined:
        throw new FaultError({ kind: "unknown", what: "the message" });
      default:
        return unknown(event);
    }
  }

  private records(batch: RecordBatch): Fresh {
    const within = covers(batch.covers);
    const found = batch.records.length;
    if (found !== batch.count) throw new FaultError({ kind: "count", count: batch.count, found });
    const { fresh, held } = this.held(batch.epoch, within);
    let rising = within.from;
    let delivered = 0n;
    for (const { offset } of batch.records) {
      if (offset < rising || offset >= within.to) {
        throw new FaultError({ kind: "order", offset, ...within });
      }
      rising = offset + 1n;
      if (offset >= held) delivered += 1n;
    }
    this.pass(batch.epoch, within);
    this.account.settle(atLeast0(within.to - held), delivered);
    return fresh;
  }

  /**
   * Bars replace what an earlier message said of them, so they are never passed over. One with an
   * empty range is followed by the one that settles.
   */
  private bars(batch: BarBatch): Fresh {
    const span = covers(batch.covers);
    if (span.from !== 0n || span.to !== 0n) {
      const { held } = this.held(batch.epoch, span);
      this.pass(batch.epoch, span);
      this.account.settle(atLeast0(span.to - held), 0n);
    } else if (this.isEarly()) {
      throw new FaultError({ kind: "early" });
    }
    return "all";
  }

  private gap(gap: Gap): Fresh {
    const { epoch, from, to, count, reason } = gap;
    if (!GapReason[reason] || reason === GapReason.UNSPECIFIED) {
      throw new FaultError({ kind: "unknown", what: `the reason ${reason} of a gap` });
    }
    const oldest = gap.oldest && place(gap.oldest);
    const entry: GapEntry = { epoch, from, to, count, reason, oldest };
    if (reason === GapReason.EPOCH_CHANGED) return this.epochChanged(entry, need(oldest, "oldest"));
    const { fresh, held } = this.held(epoch, { from, to });
    this.pass(epoch, { from, to });
    if (fresh !== "nothing") this.account.miss(entry, atLeast0(to - held));
    return fresh;
  }

  /**
   * The old epoch's end may be unknown: only where it was left and where it goes on counts. Told
   * again, it goes on at what is oldest by now: what left since and was not held is missing.
   */
  private epochChanged(gap: GapEntry, oldest: Place): Fresh {
    if (this.isEarly()) throw new FaultError({ kind: "early" });
    const next = this.next;
    if (next && this.again && next.epoch === oldest.epoch) {
      if (next.epoch !== gap.epoch || next.offset < gap.from) {
        const left = { from: next.offset, to: oldest.offset };
        const missed = left.to > left.from;
        this.pass(oldest.epoch, { from: oldest.offset, to: oldest.offset });
        if (missed) this.account.miss({ ...gap, ...left, epoch: oldest.epoch }, left.to - left.from);
        return missed ? "all" : "nothing";
      }
    }
    if (next && !this.again) {
      sameEpoch(next.epoch, gap.epoch);
      follows(next.offset, gap.from);
    }
    this.account.miss(gap, 0n);
    this.again = undefined;
    this.snapshot = "never";
    this.picking = false;
    this.next = oldest;
    this.begin(oldest);
    return "all";
  }

  private snapshotBatch(batch: SnapshotBatch): Fresh {
    const asOf = place(need(batch.asOf, "as_of"));
    this.mayBeAsOf(asOf);
    for (const { offset } of batch.records) {
      if (offset >= asOf.offset) {
        throw new FaultError({ kind: "order", offset, from: 0n, to: asOf.offset });
      }
    }
    this.snapshot = { due: asOf };
    return "all";
  }

  /**
   * The lane goes on exactly at `asOf`. A second snapshot, of a stream that went on from a token
   * older than the first one, stands for the records since: they are left out. If the feed was
   * created anew since, what was not seen of its former life is missing.
   */
  private complete(asOf: Place): Fresh {
    this.mayBeAsOf(asOf);
    const next = this.next;
    if (!next) {
      this.begin(asOf);
    } else if (next.epoch < asOf.epoch) {
      const reason = GapReason.EPOCH_CHANGED;
      const { epoch, offset } = next;
      const gap = { epoch, from: offset, to: offset, count: undefined, reason, oldest: asOf };
      this.account.miss(gap, 0n);
      this.begin(asOf);
    } else {
      sameEpoch(next.epoch, asOf.epoch);
      if (asOf.offset < next.offset) follows(next.offset, asOf.offset);
      this.account.settle(asOf.offset - next.offset, 0n);
    }
    this.again = undefined;
    this.snapshot = "never";
    this.next = asOf;
    return "all";
  }

  private mayBeAsOf(found: Place): void {
    if (this.snapshot === "never" && !this.again) throw new FaultError({ kind: "snapshot" });
    if (typeof this.snapshot !== "object" || !this.snapshot.due) return;
    const told = this.snapshot.due;
    if (told.offset !== found.offset || told.epoch !== found.epoch) {
      throw new FaultError({ kind: "as-of", expected: told.offset, found: found.offset });
    }
  }

  /** The server says that everything before `at` is settled. */
  private standsAt(at: Place): Fresh {
    const here = { from: at.offset, to: at.offset };
    const { held } = this.held(at.epoch, here);
    if (at.offset < held) follows(held, at.offset);
    this.pass(at.epoch, here);
    return "all";
  }

  private isEarly(): boolean {
    return typeof this.snapshot === "object";
  }

  /**
   * What of `span`, which must begin where the last one ended, is new, and below which offset
   * everything is held already.
   */
  private held(epoch: bigint, span: Range): { fresh: Fresh; held: bigint } {
    if (span.to < span.from) throw new FaultError({ kind: "range", ...span });
    if (this.isEarly()) throw new FaultError({ kind: "early" });
    const next = this.next;
    if (!next || (this.joined && epoch > next.epoch)) return { fresh: "all", held: span.from };
    sameEpoch(next.epoch, epoch);
    if (!this.again) follows(next.offset, span.from);
    else if (this.again.at !== undefined) follows(this.again.at, span.from);
    else if (span.from > next.offset) follows(next.offset, span.from);
    if (span.from >= next.offset) return { fresh: "all", held: span.from };
    const fresh: Fresh = span.to > next.offset ? { from: next.offset } : "nothing";
    return { fresh, held: next.offset };
  }

  /** Moves on over `span`, which `held` found in its place; before it is accounted for. */
  private pass(epoch: bigint, span: Range): void {
    this.snapshot = "never";
    const next = this.next;
    if (next && this.again && epoch === next.epoch && span.to < next.offset) {
      this.again = { at: span.to };
      return;
    }
    // Of a known offset of "the present epoch" the server says here which one that is.
    const placed = next && next.epoch === 0n ? { epoch, offset: next.offset } : undefined;
    if (!next || (next.epoch !== epoch && !placed)) this.begin({ epoch, offset: span.from });
    else if (placed) this.start = { epoch, offset: this.start?.offset ?? placed.offset };
    this.again = undefined;
    this.next = { epoch, offset: span.to };
  }

  private begin(at: Place | undefined): void {
    this.start = at;
    this.settledBefore = this.account.settled;
  }
}

export function place(cursor: Cursor): Place {
  return { epoch: cursor.epoch, offset: cursor.offset };
}

/** For a case that the types of this version exclude. */
function unknown(event: never): never {
  throw new FaultError({ kind: "unknown", what: `the message ${(event as { case: string }).case}` });
}

function need<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new FaultError({ kind: "lacks", what });
  return value;
}

function covers(range: OffsetRange | undefined): Range {
  const { from, to } = need(range, "covers");
  return { from, to };
}

/** Epoch 0 is the present one, whichever that is. */
function sameEpoch(expected: bigint, found: bigint): void {
  if (expected !== 0n && expected !== found) {
    throw new FaultError({ kind: "epoch", expected, found });
  }
}

function follows(expected: bigint, from: bigint): void {
  if (from > expected) throw new FaultError({ kind: "hole", expected, from });
  if (from < expected) throw new FaultError({ kind: "again", expected, from });
}

function atLeast0(n: bigint): bigint {
  return n > 0n ? n : 0n;
}
