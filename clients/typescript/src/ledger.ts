// Accounts for every offset of a subscription: do I hold everything, and if not, what is missing and
// why? Takes responses as they come and refuses the first one that does not add up.
//
// What it cannot see: a message that settles nothing (bars with an empty range, part of a snapshot, a
// heartbeat) has no number, so one that is lost is missed by nobody; bars that come twice replace
// themselves. Of a selector whose start does not say where it is, the first range says so; and a feed
// of a glob that was deleted and created again begins anew, in a greater epoch.
import { BrokenError, type Fault, FaultError } from "./fault.js";
import type { Selector, SubscribeResponse } from "./generated/ringfeed/v1/feed_pb.js";
import { type Fresh, Lane, type Reopened, type WireEvent } from "./lane.js";

/** The lanes of one selector: that of the feed it names, or those that its globs brought up. */
class Lanes {
  readonly all = new Map<string, Lane>();
  private readonly globs: boolean;

  constructor(readonly selector: Selector) {
    this.globs = selector.feedGlobs.length > 0;
    if (!this.globs) this.all.set(selector.feed, new Lane(selector.feed, selector, false));
  }

  observe(event: WireEvent): Fresh {
    const feed = feedOf(event);
    if (!this.globs) {
      if (feed && feed !== this.selector.feed) throw new FaultError({ kind: "feed", feed });
      return (this.all.get(this.selector.feed) as Lane).observe(event);
    }
    const known = this.all.get(feed);
    if (known) return known.observe(event);
    if (event.case === undefined) throw new FaultError({ kind: "unknown", what: "the message" });
    if (!places(event)) return "all";
    if (!feed) throw new FaultError({ kind: "lacks", what: "its feed" });
    const lane = new Lane(feed, this.selector, true);
    const fresh = lane.observe(event);
    this.all.set(feed, lane);
    return fresh;
  }
}

/** The accounts of a subscription, by the names of its selectors. */
export class Ledger {
  private names: string[] = [];
  private lanesOf = new Map<string, Lanes>();

  /** Takes these selectors from here on; one that is the same object as before keeps its account. */
  select(selectors: ReadonlyMap<string, Selector>): void {
    const before = this.lanesOf;
    this.lanesOf = new Map();
    for (const [name, selector] of selectors) {
      const kept = before.get(name);
      this.lanesOf.set(name, kept?.selector === selector ? kept : new Lanes(selector));
    }
    this.names = [...selectors.keys()];
  }

  /** The name of the selector that a response answers. */
  name(selector: number): string {
    return this.names[selector] ?? String(selector);
  }

  *lanes(): IterableIterator<[selector: string, lane: Lane]> {
    for (const [name, lanes] of this.lanesOf) {
      for (const lane of lanes.all.values()) yield [name, lane];
    }
  }

  of(selector: string): Lane[] {
    return [...(this.lanesOf.get(selector)?.all.values() ?? [])];
  }

  /** A new stream took the place of the one before. Snapshots that were not complete begin anew. */
  reopened(how: Reopened): void {
    for (const [, lane] of this.lanes()) lane.reopened(how);
  }

  /** Enters a response, and says what of it was not held before. Throws a BrokenError. */
  observe(response: SubscribeResponse): Fresh {
    const { event, selector } = response;
    // `reconnect` speaks for the whole stream.
    if (event.case === "reconnect") return "all";
    const name = this.name(selector);
    const lanes = this.lanesOf.get(name);
    if (!lanes) throw new BrokenError(name, "", { kind: "selector", selector });
    try {
      return lanes.observe(event);
    } catch (error) {
      throw broken(error, name, lanes.selector.feed || feedOf(event));
    }
  }
}

function broken(error: unknown, name: string, feed: string): unknown {
  if (!(error instanceof FaultError)) return error;
  const fault: Fault = error.fault;
  return new BrokenError(name, feed, fault);
}

/** The feed a response speaks of; empty when it does not say. */
export function feedOf(event: WireEvent): string {
  switch (event.case) {
    case "records":
    case "bars":
    case "snapshot":
    case "gap":
    case "keyInfo":
    case "narrowed":
      return event.value.feed;
    case "caughtUp":
      return event.value.next?.feed ?? "";
    case "heartbeat":
      return event.value.cursor?.feed ?? "";
    case "modeChanged":
      return event.value.at?.feed ?? "";
    case "snapshotComplete":
      return event.value.asOf?.feed ?? "";
    default:
      return "";
  }
}

/** Whether a message says where a feed stands. A heartbeat may come of a selector that has none yet. */
function places(event: WireEvent): boolean {
  switch (event.case) {
    case "modeChanged":
    case "keyInfo":
    case "narrowed":
    case "reconnect":
      return false;
    case "heartbeat":
      return Boolean(event.value.cursor?.feed);
    default:
      return true;
  }
}
