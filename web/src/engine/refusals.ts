// Feeds that the server refuses to a subscription which follows others as well: it refuses all of it for
// the one. They are left out for a while, so that a tab with such a feed leaves the other tabs alone.
import type { StatusView } from "../protocol.js";

/** Trying again costs the other feeds a new stream. */
const AGAIN_MILLIS = 15_000;

export class Refusals {
  private readonly found = new Map<string, { why: string; retryAt: number; listed: boolean }>();
  private listed: readonly string[] = [];

  /** `over` is called when it is worth trying again. */
  constructor(private readonly over: () => void) {}

  add(feed: string, why: string): void {
    const entry = { why, retryAt: Date.now() + AGAIN_MILLIS, listed: this.listed.includes(feed) };
    this.found.set(feed, entry);
    setTimeout(() => this.found.get(feed) === entry && this.retry(feed), AGAIN_MILLIS);
  }

  /** The feeds that there are: one that was not there is worth trying at once. */
  list(feeds: readonly string[]): void {
    this.listed = feeds;
    for (const [feed, { listed }] of this.found) if (!listed && feeds.includes(feed)) this.retry(feed);
  }

  has(feed: string): boolean {
    return this.found.has(feed);
  }

  private retry(feed: string): void {
    this.found.delete(feed);
    this.over();
  }

  /** Somebody may be allowed more now. */
  clear(): void {
    this.found.clear();
  }

  /** As a page sees it that looks at this feed. */
  seen(status: StatusView, feed: string | undefined): StatusView {
    const refusal = feed === undefined ? undefined : this.found.get(feed);
    const others = status.phase === "live" || status.phase === "refused";
    if (!refusal || !others) return status;
    const { why, retryAt } = refusal;
    return { ...status, phase: "refused", why, retryAt };
  }
}
