// The account for people: sums of all selectors, those that are not followed any more included.
import { type GapEntry, GapReason, type Range, type Report, type Subscription } from "@ringfeed/client";
import type { LaneView, LedgerView, LossView } from "../protocol.js";

const LISTED = 100;

export class Losses {
  snapshot = 0n;
  private listed: LossView[] = [];
  private gaps = 0;
  private missed = 0n;
  /** What is missing, by epoch and feed. */
  private readonly ranges = new Map<string, Range[]>();
  private retired = { delivered: 0n, leftOut: 0n, balanced: true };

  clear(): void {
    this.snapshot = 0n;
    this.listed = [];
    this.gaps = 0;
    this.missed = 0n;
    this.ranges.clear();
    this.retired = { delivered: 0n, leftOut: 0n, balanced: true };
  }

  /** The keys and the charts of a feed are each told of a gap: it is one. */
  enter(feed: string, { reason: code, epoch, from, to, count }: GapEntry): void {
    const reason = GapReason[code];
    const of = `${epoch} ${feed}`;
    const known = this.ranges.get(of) ?? [];
    const { ranges, added } = cover(known, { from, to });
    this.ranges.set(of, ranges);
    const isNew = to > from ? added > 0n : !this.listed.some((other) => other.feed === feed && other.reason === reason && other.from === from);
    if (!isNew) return;
    this.gaps += 1;
    this.missed += added;
    this.listed.unshift({ at: Date.now(), feed, reason, from, to, count });
    this.listed.length = Math.min(this.listed.length, LISTED);
  }

  /** A selector is not followed any more. */
  retire(report: Report): void {
    this.retired.delivered += report.delivered;
    this.retired.leftOut += report.leftOut;
    this.retired.balanced &&= report.balanced;
  }

  view(subscription: Subscription | undefined): LedgerView {
    const total = { ...this.retired };
    const lanes: LaneView[] = [];
    for (const [name, lane] of subscription?.ledger.lanes() ?? []) {
      const report = lane.report();
      const { delivered, leftOut, balanced, start, next } = report;
      const missed = missedIn(report);
      total.delivered += delivered;
      total.leftOut += leftOut;
      total.balanced &&= balanced;
      const place = { start: start?.offset, next: next?.offset };
      lanes.push({ what: what(name), feed: lane.feed, ...place, delivered, leftOut, missed, balanced });
    }
    const { snapshot, missed, gaps } = this;
    return { ...total, snapshot, missed, lanes, losses: this.listed, gaps };
  }
}

/** Ranges that do not touch each other, with one more; and how many offsets that adds. */
function cover(ranges: Range[], { from, to }: Range): { ranges: Range[]; added: bigint } {
  const apart = ranges.filter((range) => range.to < from || range.from > to);
  const touching = ranges.filter((range) => range.to >= from && range.from <= to);
  const all = touching.reduce((a, b) => ({ from: a.from < b.from ? a.from : b.from, to: a.to > b.to ? a.to : b.to }), { from, to });
  const held = touching.reduce((sum, range) => sum + range.to - range.from, 0n);
  return { ranges: [...apart, all], added: all.to - all.from - held };
}

function missedIn(report: Report): bigint {
  return report.losses.reduce((sum, loss) => sum + loss.offsets, 0n);
}

/** "values", or the key of a chart. */
function what(name: string): string {
  const parts = JSON.parse(name) as [string, string | number, number?];
  return parts[2] === undefined ? "values" : `chart of ${parts[1]}`;
}
