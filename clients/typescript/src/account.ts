// What a lane holds, and what it was told it will not get.
import type { GapReason } from "./generated/ringfeed/v1/feed_pb.js";

/** Gaps that are listed one by one; further ones are only summed up. */
const KEPT_GAPS = 1_000;

/** A place in a feed: the next offset to read. */
export interface Place {
  epoch: bigint;
  offset: bigint;
}

/** Offsets from..to, half-open. */
export interface Range {
  from: bigint;
  to: bigint;
}

/** A gap as it was told. */
export interface GapEntry extends Range {
  epoch: bigint;
  /** Records that were missed, where known. */
  count: bigint | undefined;
  reason: GapReason;
  /** The oldest place that can be read. */
  oldest: Place | undefined;
}

/** All gaps of one reason. */
export interface Loss {
  reason: GapReason;
  gaps: number;
  /** Offsets in them; of EPOCH_CHANGED only those of the new epoch are known. */
  offsets: bigint;
}

/** What a selector holds of a feed. */
export interface Report {
  /** Nothing is missing. */
  whole: boolean;
  /** Where the account begins, once it is known; in the present epoch. */
  start: Place | undefined;
  /** The next offset that is expected. */
  next: Place | undefined;
  /** Records that came, those of snapshots aside. */
  delivered: bigint;
  /** Offsets that were settled without a record: filtered, conflated, or gone into bars. */
  leftOut: bigint;
  /** The first 1,000. */
  gaps: readonly GapEntry[];
  unlistedGaps: number;
  losses: readonly Loss[];
  /** delivered + left out + in gaps = next - start, in each epoch. */
  balanced: boolean;
}

export class Account {
  delivered = 0n;
  leftOut = 0n;
  gaps: GapEntry[] = [];
  unlistedGaps = 0;
  losses: Loss[] = [];

  /** `settled` offsets, `delivered` of which were records that came. */
  settle(settled: bigint, delivered: bigint): void {
    this.delivered += delivered;
    if (settled > delivered) this.leftOut += settled - delivered;
  }

  /** A gap, of which `offsets` were not held before. */
  miss(gap: GapEntry, offsets: bigint): void {
    const loss = this.losses.find((l) => l.reason === gap.reason);
    if (loss) {
      loss.gaps += 1;
      loss.offsets += offsets;
    } else {
      this.losses.push({ reason: gap.reason, gaps: 1, offsets });
    }
    if (this.gaps.length < KEPT_GAPS) this.gaps.push(gap);
    else this.unlistedGaps += 1;
  }

  /** Offsets that are accounted for. */
  get settled(): bigint {
    return this.losses.reduce((sum, loss) => sum + loss.offsets, this.delivered + this.leftOut);
  }
}
