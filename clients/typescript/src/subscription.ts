// Follows feeds and resumes by itself, from behind what it handed out. Every response passes the
// ledger: a range that does not follow the last one is an error, never a silent skip.
//
// How a broken stream goes on. By our own cursors, where they say everything: each selector begins at
// the offset behind what was handed out, one whose snapshot was not complete begins it anew. By the last
// token seen, where cursors cannot say it: which feeds of a glob there were and where each one is; which
// bars are in progress; which records were the last of each key. A token lies at or before what was
// handed out, so some ranges come again: only what is new of them is handed out (of bars, everything:
// they replace themselves). Selectors with globs cannot go on without a token: an error.
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { GapEntry, Place, Range } from "./account.js";
import { BrokenError } from "./fault.js";
import {
  type BarBatch,
  CursorSchema,
  type Fidelity,
  type FeedService,
  GapReason,
  type Heartbeat,
  type KeyInfoUpdate,
  type Narrowed,
  type Selector,
  SelectorSchema,
  type SnapshotBatch,
  StartSchema,
  type SubscribeRequest,
  SubscribeRequestSchema,
  type SubscribeResponse,
} from "./generated/ringfeed/v1/feed_pb.js";
import type { Record as FeedRecord } from "./generated/ringfeed/v1/record_pb.js";
import { type Fresh, place, type Reopened } from "./lane.js";
import { Ledger } from "./ledger.js";
import { Backoff, reasonOf, retry } from "./retry.js";

const HEARTBEAT_MILLIS = 10_000;
/** How long a server may take to end a stream after it said so. */
const LEAVE_MILLIS = 5_000;

/** What a subscription hands out. `selector` is the name it was given. */
export type FeedEvent =
  /** Records in offset order. Empty when only `covers` moved on. */
  | { kind: "records"; selector: string; feed: string; epoch: bigint; covers: Range; records: FeedRecord[] }
  /** Each bar replaces what an earlier one said of it. After a reconnect some come again. */
  | { kind: "bars"; selector: string; batch: BarBatch }
  /** After a reconnect a snapshot that was not complete begins anew. */
  | { kind: "snapshot"; selector: string; batch: SnapshotBatch }
  | { kind: "snapshot-complete"; selector: string; feed: string; asOf: Place }
  /** Records that will not come. */
  | { kind: "gap"; selector: string; feed: string; gap: GapEntry }
  /** The selector has seen everything before `next`. */
  | { kind: "caught-up"; selector: string; feed: string; next: Place }
  | { kind: "heartbeat"; selector: string; heartbeat: Heartbeat }
  | { kind: "mode-changed"; selector: string; feed: string; fidelity: Fidelity | undefined }
  | { kind: "key-info"; selector: string; update: KeyInfoUpdate }
  /** The caller's scopes do not reach as far as the selector: what is left of it. */
  | { kind: "narrowed"; selector: string; narrowed: Narrowed }
  /** The first message of a stream came. */
  | { kind: "connected"; again: boolean }
  /** The stream broke; it goes on after the delay. */
  | { kind: "disconnected"; why: string; delayMillis: number };

/** The server ended the stream and wants somebody to look first; the token would go on. */
export class DismissedError extends Error {
  override readonly name = "DismissedError";
  constructor(
    override readonly cause: ConnectError,
    readonly resumeToken: string,
  ) {
    super(cause.rawMessage);
  }
}

/** Selectors by names that the caller chooses. */
export type Selectors = { readonly [name: string]: MessageInitShape<typeof SelectorSchema> };

export interface SubscribeOptions {
  selectors: Selectors;
  /** Sends a key's KeyInfo before its first record and on change. */
  includeInfo?: boolean;
  heartbeatMillis?: number;
  /** A name for ListSubscribers. */
  subscriber?: string;
  /** Gives up when nothing moved for this long; else never. */
  giveUpAfterMillis?: number;
  signal?: AbortSignal;
  /** For tests: jitter, uniform in 0..1. */
  random?: () => number;
}

/** How a stream ended: by itself, by an error, or because the selectors changed. */
type Outcome = { ended: true } | { changed: true } | { error: ConnectError; leaving?: string };

/** A followed set of selectors. Iterate over it once. */
export class Subscription implements AsyncIterable<FeedEvent> {
  /** The account of everything handed out. */
  readonly ledger = new Ledger();
  private selectors = new Map<string, Selector>();
  private inits: Selectors = {};
  private token: string | undefined;
  /** Ends the stream that is open, or the wait for the next one. */
  private turn = new AbortController();
  private changed = false;
  private started = false;
  private readonly backoff: Backoff;
  private readonly idleMillis: number;

  constructor(
    private readonly feeds: Pick<Client<typeof FeedService>, "subscribe">,
    private readonly options: SubscribeOptions,
  ) {
    this.backoff = new Backoff(options.random);
    this.idleMillis = 3 * (options.heartbeatMillis ?? HEARTBEAT_MILLIS) + 5_000;
    this.select(options.selectors);
  }

  /**
   * Follows these selectors from here on. One whose name and object stay the same goes on where it is,
   * by its cursor; so of BARS only what a further record changes is sent again. With none it waits
   * for the next change.
   */
  change(selectors: Selectors): void {
    this.select(selectors);
    this.changed = true;
    this.token = undefined;
    this.turn.abort();
  }

  /** Whether any selector can no longer be gone on with: globs, of which no token is held. */
  private get lostItsPlace(): boolean {
    if (this.token) return false;
    return [...this.selectors].some(
      ([name, s]) => s.feedGlobs.length > 0 && this.ledger.of(name).some((lane) => lane.next),
    );
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FeedEvent, void, void> {
    const signal = this.options.signal;
    const stop = () => this.turn.abort();
    signal?.addEventListener("abort", stop);
    let failingSince: number | undefined;
    try {
      while (!signal?.aborted) {
        this.turn = new AbortController();
        this.changed = false;
        if (this.selectors.size === 0) {
          await sleep(undefined, this.turn.signal);
          continue;
        }
        const outcome = yield* this.stream(() => {
          failingSince = undefined;
        });
        if (signal?.aborted || "ended" in outcome) return;
        if ("changed" in outcome) continue;
        failingSince ??= Date.now();
        const delayMillis = this.delay(outcome, failingSince);
        yield { kind: "disconnected", why: outcome.leaving ?? outcome.error.rawMessage, delayMillis };
        if (!this.changed) await sleep(delayMillis, this.turn.signal);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      this.turn.abort();
    }
  }

  /** One stream, from where we stand to its end. Throws what cannot be gone on from. */
  private async *stream(progress: () => void): AsyncGenerator<FeedEvent, Outcome, void> {
    const call = new AbortController();
    const end = () => call.abort();
    this.turn.signal.addEventListener("abort", end, { once: true });
    let leaving: string | undefined;
    try {
      const { request, reopened } = this.resumed();
      const messages = this.feeds.subscribe(request, { signal: call.signal })[Symbol.asyncIterator]();
      for (let first = true; ; first = false) {
        const millis = leaving === undefined ? this.idleMillis : LEAVE_MILLIS;
        const { value, done } = await within(millis, messages.next(), call);
        if (this.turn.signal.aborted) return { changed: true };
        if (done) return this.ended(leaving);
        if (first) {
          this.ledger.reopened(reopened);
          if (!this.needsToken()) this.token = undefined;
          yield { kind: "connected", again: this.started };
          this.started = true;
        }
        const fresh = this.ledger.observe(value);
        this.keepToken(value.event);
        if (value.event.case === "reconnect") leaving = value.event.value.reason;
        if (isProgress(value.event)) {
          progress();
          this.backoff.reset();
        }
        const event = toEvent(this.ledger.name(value.selector), value.event, fresh);
        if (event) yield event;
        // The consumer may have changed the selectors meanwhile.
        if (this.turn.signal.aborted) return { changed: true };
      }
    } catch (error) {
      if (error instanceof BrokenError) throw error;
      if (this.turn.signal.aborted) return { changed: true };
      return { error: ConnectError.from(error), ...(leaving === undefined ? {} : { leaving }) };
    } finally {
      this.turn.signal.removeEventListener("abort", end);
      call.abort();
    }
  }

  /** The server closed the stream without an error. */
  private ended(leaving: string | undefined): Outcome {
    const bounded = [...this.selectors.values()].every((selector) => selector.end?.at.case);
    if (leaving === undefined && bounded) return { ended: true };
    const error = new ConnectError("the server ended the stream before its end", Code.Unavailable);
    return { error, ...(leaving === undefined ? {} : { leaving }) };
  }

  /** When to go on after a failure; throws when that makes no sense. */
  private delay({ error, leaving }: { error: ConnectError; leaving?: string }, since: number): number {
    const dismissed = reasonOf(error) === "SLOW_SUBSCRIBER";
    if (dismissed || (leaving !== undefined && error.code === Code.Aborted)) {
      throw new DismissedError(error, this.token ?? "");
    }
    // Who has to identify himself first keeps his token.
    const refused = retry(error) === "never" && error.code !== Code.Unauthenticated;
    if (this.token && refused) {
      // A refused token is no refusal of what we ask for: our own cursors remain.
      this.token = undefined;
      if (!this.lostItsPlace) return 0;
    }
    const limit = this.options.giveUpAfterMillis;
    const tired = limit !== undefined && Date.now() - since >= limit;
    const delay = this.backoff.delayMillis(leaving === undefined ? retry(error) : "backoff");
    if (tired || this.lostItsPlace || delay === undefined) throw error;
    return delay;
  }

  private select(inits: Selectors): void {
    const selectors = new Map<string, Selector>();
    for (const [name, init] of Object.entries(inits)) {
      const kept = this.inits[name] === init ? this.selectors.get(name) : undefined;
      selectors.set(name, kept ?? create(SelectorSchema, init));
    }
    this.inits = inits;
    this.selectors = selectors;
    this.ledger.select(selectors);
  }

  /** The request from where we stand. */
  private resumed(): { request: SubscribeRequest; reopened: Reopened } {
    const { includeInfo = false, subscriber = "", heartbeatMillis } = this.options;
    const request = create(SubscribeRequestSchema, { includeInfo, subscriber });
    if (heartbeatMillis !== undefined) {
      const seconds = BigInt(Math.floor(heartbeatMillis / 1_000));
      const nanos = Math.round((heartbeatMillis % 1_000) * 1e6);
      request.heartbeatInterval = { $typeName: "google.protobuf.Duration", seconds, nanos };
    }
    if (this.token) {
      request.resumeToken = this.token;
      return { request, reopened: this.needsToken() ? "at-or-before" : "behind" };
    }
    for (const [name, selector] of this.selectors) {
      const next = selector.feedGlobs.length > 0 ? undefined : this.ledger.of(name)[0]?.next;
      request.selectors.push(next ? from(selector, next) : selector);
    }
    return { request, reopened: "behind" };
  }

  /** Whether cursors do not say where we stand. */
  private needsToken(): boolean {
    return [...this.selectors].some(
      ([name, selector]) =>
        selector.feedGlobs.length > 0 ||
        selector.fidelity?.view.case === "bars" ||
        this.ledger.of(name).some((lane) => lane.picking),
    );
  }

  private keepToken(event: SubscribeResponse["event"]): void {
    const needed = this.needsToken();
    const told = tokenOf(event);
    if (told && (needed || event.case === "reconnect")) {
      this.token = told;
      return;
    }
    // From before a snapshot was complete it would begin another one, from before a change of epoch
    // it would have that told again.
    const outdated =
      event.case === "snapshotComplete" ||
      (event.case === "gap" && event.value.reason === GapReason.EPOCH_CHANGED);
    const globs = [...this.selectors.values()].some((s) => s.feedGlobs.length > 0);
    if (!needed || (outdated && !globs)) this.token = undefined;
  }
}

/** A selector that begins at this place. */
function from(selector: Selector, next: Place): Selector {
  const value = create(CursorSchema, { feed: selector.feed, ...next });
  const moved = clone(SelectorSchema, selector);
  moved.start = create(StartSchema, { from: { case: "cursor", value } });
  return moved;
}

function tokenOf(event: SubscribeResponse["event"]): string {
  switch (event.case) {
    case "caughtUp":
    case "heartbeat":
    case "reconnect":
      return event.value.resumeToken;
    default:
      return "";
  }
}

function isProgress(event: SubscribeResponse["event"]): boolean {
  switch (event.case) {
    case "heartbeat":
    case "modeChanged":
    case "keyInfo":
    case "narrowed":
    case "reconnect":
      return false;
    default:
      return true;
  }
}

function toEvent(selector: string, event: SubscribeResponse["event"], fresh: Fresh): FeedEvent | undefined {
  switch (event.case) {
    case "records": {
      const { feed, epoch, covers, records } = event.value;
      const rest = covers && restOf(covers, fresh);
      if (!rest) return undefined;
      const kept = rest.from === covers.from ? records : records.filter((r) => r.offset >= rest.from);
      return { kind: "records", selector, feed, epoch, covers: rest, records: kept };
    }
    case "gap": {
      const { feed, epoch, from, to, reason, oldest } = event.value;
      const rest = restOf({ from, to }, fresh);
      if (!rest) return undefined;
      // Of a part the count is known when there is a record at each offset.
      const dense = event.value.count === to - from;
      const count = rest.from === from ? event.value.count : dense ? rest.to - rest.from : undefined;
      const gap = { epoch, ...rest, count, reason, oldest: oldest && place(oldest) };
      return { kind: "gap", selector, feed, gap };
    }
    case "bars":
      return { kind: "bars", selector, batch: event.value };
    case "snapshot":
      return { kind: "snapshot", selector, batch: event.value };
    case "snapshotComplete": {
      const asOf = event.value.asOf;
      return asOf && { kind: "snapshot-complete", selector, feed: asOf.feed, asOf: place(asOf) };
    }
    case "caughtUp": {
      const next = event.value.next;
      return next && { kind: "caught-up", selector, feed: next.feed, next: place(next) };
    }
    case "heartbeat":
      return { kind: "heartbeat", selector, heartbeat: event.value };
    case "modeChanged": {
      const { at, fidelity } = event.value;
      return { kind: "mode-changed", selector, feed: at?.feed ?? "", fidelity };
    }
    case "keyInfo":
      return { kind: "key-info", selector, update: event.value };
    case "narrowed":
      return { kind: "narrowed", selector, narrowed: event.value };
    default:
      return undefined;
  }
}

function restOf({ from, to }: Range, fresh: Fresh): Range | undefined {
  if (fresh === "nothing") return undefined;
  return fresh === "all" ? { from, to } : { from: fresh.from, to };
}

/** Waits for the promise; a silence longer than that ends the call. */
async function within<T>(millis: number, promise: Promise<T>, call: AbortController): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const why = `nothing came for ${millis / 1_000} s, not even a heartbeat`;
      reject(new ConnectError(why, Code.Unavailable));
      call.abort();
    }, millis);
  });
  promise.catch(() => {});
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** Until then, or until the signal; without a time, until the signal. */
function sleep(millis: number | undefined, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = millis === undefined ? undefined : setTimeout(done, millis);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
