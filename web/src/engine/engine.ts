// One connection for all pages: what they want together is one Subscribe. Each page pulls what
// changed since its last pull, so one that is hidden, busy or frozen costs no memory.
import {
  BrokenError,
  Code,
  ConnectError,
  type FeedEvent,
  type Record as FeedRecord,
  reasonOf,
  RingfeedClient,
  feedOfError,
  type Selectors,
  type Subscription,
} from "@ringfeed/client";
import { chartId, type ChartWant, type Delta, type Pace, type StatusView, type ToEngine, type Want } from "../protocol.js";
import { barsOf, Chart } from "./chart.js";
import { Feeds } from "./feeds.js";
import { Losses } from "./losses.js";
import { Refusals } from "./refusals.js";
import { Values } from "./values.js";

const HEARTBEAT_MILLIS = 5_000;
/** After a refusal that may not last: a feed that does not exist yet, a limit. */
const REFUSED_MILLIS = 3_000;
/** Keys of a feed whose sparklines begin with what is in the ring. */
const SEEDED_KEYS = 2_000;
const NOTHING: Want = { feed: undefined, pace: 250, charts: [] };

/** What a page has seen already. */
interface Page {
  port: MessagePort;
  want: Want;
  waiting: boolean;
  seen: { values: number; feeds: number; status: number; ledger: number; charts: Map<string, number>; of: Values | undefined };
}

export class Engine {
  private readonly pages = new Set<Page>();
  private readonly values = new Map<string, Values>();
  private readonly charts = new Map<string, Chart>();
  private selectors: Selectors = {};
  private client: RingfeedClient | undefined;
  private subscription: Subscription | undefined;
  private stop = new AbortController();
  private token: string | undefined;
  private status: StatusView = { phase: "idle", why: "", retryAt: undefined, reconnects: 0, tabs: 0, caughtUp: false };
  private statusVersion = 1;
  private readonly losses = new Losses();
  private readonly refusals = new Refusals(() => this.select());
  private readonly feeds = new Feeds((error) => this.mayNeedToken(error));
  private wake = () => {};

  attach(port: MessagePort): void {
    const seen = { values: 0, feeds: 0, status: 0, ledger: 0, charts: new Map(), of: undefined };
    const page: Page = { port, want: NOTHING, waiting: false, seen };
    this.pages.add(page);
    port.onmessage = (event: MessageEvent<ToEngine>) => this.hear(page, event.data);
    this.say({ tabs: this.pages.size });
  }

  private hear(page: Page, message: ToEngine): void {
    switch (message.type) {
      case "hello":
        return this.hello(message.base, message.token);
      case "lock":
        // A page that is gone without a word lets go of it.
        return void navigator.locks.request(message.name, () => this.leave(page));
      case "want":
        page.want = message.want;
        page.seen.status = 0;
        this.select();
        return page.waiting ? this.push(page) : undefined;
      case "pull":
        page.waiting = true;
        return this.push(page);
      case "older":
        if (this.client) void this.older(message.chart, message.from, this.client);
        return;
      case "token":
        this.token = message.token;
        this.say({ phase: "connecting", why: "" });
        this.refusals.clear();
        this.feeds.forget();
        void this.feeds.refresh();
        this.select();
        return this.wake();
      case "restart":
        return this.begin();
      case "bye":
        return this.leave(page);
    }
  }

  private hello(base: string, token: string | undefined): void {
    this.token ??= token;
    if (this.client) return;
    this.client = new RingfeedClient({ baseUrl: base, token: () => this.token });
    this.feeds.start(this.client, () => this.listed());
    this.begin();
    setInterval(() => this.pushAll(), 1_000);
  }

  private leave(page: Page): void {
    if (!this.pages.delete(page)) return;
    page.port.close();
    this.say({ tabs: this.pages.size });
    this.select();
  }

  /** A new subscription; the account begins anew as well. */
  private begin(): void {
    this.stop.abort();
    this.stop = new AbortController();
    this.losses.clear();
    this.values.clear();
    this.charts.clear();
    this.selectors = {};
    const signal = this.stop.signal;
    if (!this.client) return;
    const options = { selectors: {}, includeInfo: true, heartbeatMillis: HEARTBEAT_MILLIS, subscriber: "page", signal };
    const subscription = this.client.subscribe(options);
    this.subscription = subscription;
    this.select();
    void this.follow(subscription, signal);
  }

  /** Until the page or a broken promise ends it. */
  private async follow(subscription: Subscription, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const event of subscription) {
          if (signal.aborted) return;
          this.take(event);
          this.pushAll();
        }
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof BrokenError) return this.say({ phase: "broken", why: error.message, retryAt: undefined });
        await this.pause(ConnectError.from(error));
      }
    }
  }

  /** The server refuses: until somebody changes something, or for a while. */
  private async pause(error: ConnectError): Promise<void> {
    const changed = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    if (error.code === Code.Unauthenticated) {
      this.say({ phase: "unauthenticated", why: error.rawMessage, retryAt: undefined });
      return changed;
    }
    const reason = reasonOf(error);
    const why = reason ? `${error.rawMessage} (${reason})` : error.rawMessage;
    if (this.leaveOut(feedOfError(error), why)) return;
    this.say({ phase: "refused", why, retryAt: Date.now() + REFUSED_MILLIS });
    const later = new Promise<void>((resolve) => setTimeout(resolve, REFUSED_MILLIS));
    return Promise.race([changed, later]);
  }

  /** The feed is refused: goes on with the others, if there are any. */
  private leaveOut(feed: string | undefined, why: string): boolean {
    const followed = Object.values(this.selectors).map((selector) => selector.feed);
    if (!feed || !followed.includes(feed) || followed.every((other) => other === feed)) return false;
    this.refusals.add(feed, why);
    this.select();
    this.say({});
    return true;
  }

  /** What a call beside the stream says. While there is a stream, that one knows better. */
  private mayNeedToken(error: ConnectError): void {
    if (!this.followsNothing && this.status.phase === "live") return;
    if (error.code === Code.Unauthenticated) this.say({ phase: "unauthenticated", why: error.rawMessage });
    else if (this.followsNothing) this.say({ phase: "waiting", why: error.rawMessage });
  }

  private get followsNothing(): boolean {
    return Object.keys(this.selectors).length === 0;
  }

  /** The list of feeds came: where nothing is followed, that is all there is to be connected to. */
  private listed(): void {
    this.refusals.list(this.feeds.all.map(({ name }) => name));
    const nothing = this.followsNothing;
    if (nothing && this.status.phase !== "live") this.say({ phase: "live", why: "", retryAt: undefined, caughtUp: true });
    this.pushAll();
  }

  private take(event: FeedEvent): void {
    switch (event.kind) {
      case "records":
        return this.valuesOf(event.selector)?.take(event.epoch, event.records);
      case "snapshot":
        this.losses.snapshot += BigInt(event.batch.records.length);
        return this.valuesOf(event.selector)?.take(event.batch.asOf?.epoch ?? 0n, event.batch.records);
      case "key-info":
        return this.valuesOf(event.selector)?.describe(event.update.key, event.update.info);
      case "bars":
        return this.charts.get(event.selector)?.take(event.batch);
      case "gap":
        this.losses.enter(event.feed, event.gap);
        return this.charts.get(event.selector)?.missed(event.gap);
      case "caught-up":
        this.charts.get(event.selector)?.isCaughtUp(event.next.offset);
        return this.say({ phase: "live", why: "", retryAt: undefined, caughtUp: true });
      case "narrowed":
        return this.valuesOf(event.selector)?.narrow(event.narrowed.keyGlobs);
      case "connected":
        // What is narrowed is told again on each stream.
        for (const values of this.values.values()) values.narrow([]);
        return this.say({ phase: "live", why: "", retryAt: undefined, reconnects: this.status.reconnects + this.again() });
      case "disconnected": {
        this.dropped = true;
        const retryAt = Date.now() + event.delayMillis;
        return this.say({ phase: "waiting", why: event.why, retryAt, caughtUp: false });
      }
      case "heartbeat":
      case "mode-changed":
      case "snapshot-complete":
        return;
    }
  }

  /** A stream was lost since the last one came about. */
  private dropped = false;
  private again(): number {
    const again = this.dropped ? 1 : 0;
    this.dropped = false;
    return again;
  }

  private valuesOf(selector: string): Values | undefined {
    return this.values.get(selector);
  }

  private say(news: Partial<StatusView>): void {
    this.status = { ...this.status, ...news };
    this.statusVersion += 1;
    this.pushAll();
  }

  /** What all pages want together, as selectors. */
  private select(): void {
    const wanted: { [name: string]: Selectors[string] } = {};
    for (const { want } of this.pages) {
      if (want.feed && !this.refusals.has(want.feed)) {
        const name = valuesId(want.feed, want.pace);
        if (!this.values.has(name)) this.beginValues(name, want.feed);
        wanted[name] = this.selectors[name] ?? valuesSelector(want.feed, want.pace);
      }
      for (const chart of want.charts) {
        if (this.refusals.has(chart.feed)) continue;
        const name = chartId(chart);
        if (!this.charts.has(name)) this.charts.set(name, new Chart(name, chart));
        wanted[name] = this.selectors[name] ?? chartSelector(chart);
      }
    }
    const same = Object.keys(wanted).length === Object.keys(this.selectors).length;
    if (same && Object.keys(wanted).every((name) => this.selectors[name])) return;
    this.drop(wanted);
    this.selectors = wanted;
    this.subscription?.change(wanted);
    this.wake();
  }

  private drop(wanted: Selectors): void {
    for (const [name, lane] of this.subscription?.ledger.lanes() ?? []) {
      if (!wanted[name]) this.losses.retire(lane.report());
    }
    for (const name of this.values.keys()) if (!wanted[name]) this.values.delete(name);
    for (const name of this.charts.keys()) if (!wanted[name]) this.charts.delete(name);
  }

  private beginValues(name: string, feed: string): void {
    const values = new Values(feed);
    this.values.set(name, values);
    if (this.client) void this.seed(this.client, values);
  }

  /** Sparklines begin with what is in the ring. Without it they are drawn as values come. */
  private async seed(client: RingfeedClient, values: Values): Promise<void> {
    try {
      const { feed } = await client.catalog.getFeed({ name: values.feed });
      if (!feed || feed.keys > SEEDED_KEYS || feed.keys === 0n) return;
      const start = { from: { case: "lastPerKey" as const, value: 48 } };
      const selector = { feed: values.feed, start, end: { at: { case: "now" as const, value: {} } } };
      const found: FeedRecord[] = [];
      for await (const event of client.subscribe({ selectors: { seed: selector }, giveUpAfterMillis: 5_000 })) {
        if (event.kind === "records") found.push(...event.records);
      }
      values.seed(found);
      this.pushAll();
    } catch (error) {
      // The live stream says what is wrong with the feed or the token.
      this.mayNeedToken(ConnectError.from(error));
    }
  }

  private async older(chart: string, from: number, client: RingfeedClient): Promise<void> {
    try {
      await this.charts.get(chart)?.older(client, from);
    } catch (error) {
      this.mayNeedToken(ConnectError.from(error));
    }
    this.pushAll();
  }

  private pushAll(): void {
    for (const page of this.pages) if (page.waiting) this.push(page);
  }

  /** Sends what a page has not seen, if there is anything. */
  private push(page: Page): void {
    const delta = this.delta(page);
    if (Object.keys(delta).length === 0) return;
    page.waiting = false;
    page.port.postMessage(delta);
  }

  private delta({ want, seen }: Page): Delta {
    const delta: Delta = {};
    if (this.statusVersion > seen.status) {
      delta.status = this.refusals.seen(this.status, want.feed);
      seen.status = this.statusVersion;
    }
    if (this.feeds.version > seen.feeds) {
      delta.feeds = this.feeds.all;
      seen.feeds = this.feeds.version;
    }
    const now = Date.now();
    if (now - seen.ledger >= 1_000) {
      delta.ledger = this.losses.view(this.subscription);
      seen.ledger = now;
    }
    const values = want.feed === undefined ? undefined : this.values.get(valuesId(want.feed, want.pace));
    if (values !== seen.of) Object.assign(seen, { of: values, values: 0 });
    if (values?.isNewer(seen.values)) {
      const { delta: news, version } = values.since(seen.values);
      delta.values = news;
      seen.values = version;
    }
    const charts = want.charts.map(chartId);
    for (const id of seen.charts.keys()) if (!charts.includes(id)) seen.charts.delete(id);
    for (const id of charts) {
      const chart = this.charts.get(id);
      if (!chart?.isNewer(seen.charts.get(id) ?? 0)) continue;
      const { delta: news, version } = chart.since(seen.charts.get(id) ?? 0);
      delta.charts = [...(delta.charts ?? []), news];
      seen.charts.set(id, version);
    }
    return delta;
  }
}

function valuesId(feed: string, pace: Pace): string {
  return JSON.stringify([feed, pace]);
}

function valuesSelector(feed: string, pace: Pace): Selectors[string] {
  const start = { from: { case: "snapshot" as const, value: {} } };
  if (pace === "full") return { feed, start };
  const interval = { seconds: BigInt(Math.floor(pace / 1_000)), nanos: (pace % 1_000) * 1_000_000 };
  return { feed, start, fidelity: { view: { case: "conflate" as const, value: { interval } } } };
}

function chartSelector(chart: ChartWant): Selectors[string] {
  const unixNanos = BigInt(Math.floor(chart.from)) * 1_000_000n;
  const start = { from: { case: "time" as const, value: { unixNanos } } };
  return { feed: chart.feed, keys: [chart.key], start, fidelity: barsOf(chart) };
}
