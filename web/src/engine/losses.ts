// The account for people: sums of all selectors, those that are not followed any more included.
import { type GapEntry, GapReason, type Report, type Subscription } from "@ringfeed/client";
import type { LaneView, LedgerView, LossView } from "../protocol.js";

const LISTED = 100;

export class Losses {
  snapshot = 0n;
  private listed: LossView[] = [];
  private gaps = 0;
  private retired = { delivered: 0n, leftOut: 0n, missed: 0n, balanced: true };

  clear(): void {
    this.snapshot = 0n;
    this.listed = [];
    this.gaps = 0;
    this.retired = { delivered: 0n, leftOut: 0n, missed: 0n, balanced: true };
  }

  missed(feed: string, { reason, from, to, count }: GapEntry): void {
    this.gaps += 1;
    this.listed.unshift({ at: Date.now(), feed, reason: GapReason[reason], from, to, count });
    this.listed.length = Math.min(this.listed.length, LISTED);
  }

  /** A selector is not followed any more. */
  retire(report: Report): void {
    this.retired.delivered += report.delivered;
    this.retired.leftOut += report.leftOut;
    this.retired.missed += missedIn(report);
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
      total.missed += missed;
      total.balanced &&= balanced;
      const place = { start: start?.offset, next: next?.offset };
      lanes.push({ what: what(name), feed: lane.feed, ...place, delivered, leftOut, missed, balanced });
    }
    return { ...total, snapshot: this.snapshot, lanes, losses: this.listed, gaps: this.gaps };
  }
}

function missedIn(report: Report): bigint {
  return report.losses.reduce((sum, loss) => sum + loss.offsets, 0n);
}

/** "values", or the key of a chart. */
function what(name: string): string {
  const parts = JSON.parse(name) as [string, string | number, number?];
  return parts[2] === undefined ? "values" : `chart of ${parts[1]}`;
}
