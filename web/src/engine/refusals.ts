// Feeds that the server refuses to a subscription which follows others as well: it refuses all of it for
// the one. They are left out for a while, so that a tab with such a feed leaves the other tabs alone.
import type { StatusView } from "../protocol.js";

/** Trying again costs the other feeds a new stream. */
const AGAIN_MILLIS = 15_000;

export class Refusals {
  private readonly found = new Map<string, { why: string; retryAt: number }>();

  /** `over` is called when it is worth trying again. */
  add(feed: string, why: string, over: () => void): void {
    const entry = { why, retryAt: Date.now() + AGAIN_MILLIS };
    this.found.set(feed, entry);
    setTimeout(() => {
      if (this.found.get(feed) !== entry) return;
      this.found.delete(feed);
      over();
    }, AGAIN_MILLIS);
  }

  has(feed: string): boolean {
    return this.found.has(feed);
  }

  /** Somebody may be allowed more now. */
  clear(): void {
    this.found.clear();
  }

  /** As a page sees it that looks at this feed. */
  seen(status: StatusView, feed: string | undefined): StatusView {
    const refusal = feed === undefined ? undefined : this.found.get(feed);
    const others = status.phase === "live" || status.phase === "refused";
    return refusal && others ? { ...status, phase: "refused", ...refusal } : status;
  }
}
