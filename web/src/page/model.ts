// What the page knows and what it wants. Views are told what changed.
import {
  chartId,
  type ChartDelta,
  type ChartWant,
  type Delta,
  type FeedView,
  type InfoView,
  type LedgerView,
  type Pace,
  type RowView,
  SPARK_POINTS,
  type StatusView,
  type ValuesDelta,
} from "../protocol.js";
import { History } from "./history.js";
import { Link } from "./link.js";

export interface Row {
  id: string;
  view: RowView;
  spark: number[];
  /** Of the last change that was seen. */
  direction: -1 | 0 | 1;
  /** Rises with each record that was seen of it. */
  version: number;
}

export type News = "status" | "feeds" | "ledger" | "values" | "charts" | "want";

const PACES: Pace[] = ["full", 100, 250, 1_000, 10_000];
const MAX_CHARTS = 8;
/** How long charts of the address wait to know how long their bars should be. */
const PACE_KNOWN_MILLIS = 1_500;

export class Model {
  feeds: FeedView[] = [];
  status: StatusView = { phase: "connecting", why: "", retryAt: undefined, reconnects: 0, tabs: 1, caughtUp: false };
  ledger: LedgerView | undefined;
  feed: string | undefined;
  pace: Pace = 250;
  rows = new Map<string, Row>();
  infos = new Map<string, InfoView>();
  /** Only keys that match one of these globs may be seen; none: all. */
  narrowed: string[] = [];
  charts = new Map<string, History>();
  /** The server's clock is so far ahead of ours, in milliseconds. */
  ahead = 0;
  private readonly listeners = new Set<(news: ReadonlySet<News>) => void>();
  private epoch = 0n;
  private readonly link: Link;
  /** Keys of the address whose feed was not seen yet. */
  private remembered: string[] = [];
  private remembersSince: number | undefined;
  private reopens: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    this.recall();
    this.link = new Link((delta) => this.take(delta));
    if (this.feed) this.want();
    addEventListener("hashchange", () => this.revisit());
  }

  listen(listener: (news: ReadonlySet<News>) => void): void {
    this.listeners.add(listener);
  }

  select(feed: string): void {
    if (feed === this.feed) return;
    this.feed = feed;
    this.epoch = 0n;
    this.narrowed = [];
    this.rows = new Map();
    this.infos = new Map();
    this.want();
    this.tell(new Set(["want", "values", "feeds"]));
  }

  setPace(pace: Pace): void {
    if (pace === this.pace) return;
    this.pace = pace;
    this.want();
    this.tell(new Set(["want"]));
  }

  hasChart(feed: string, key: string): boolean {
    return [...this.charts.values()].some(({ want }) => want.feed === feed && want.key === key);
  }

  toggleChart(feed: string, key: string): void {
    const there = [...this.charts].filter(([, { want }]) => want.feed === feed && want.key === key);
    if (there.length > 0) for (const [id] of there) this.charts.delete(id);
    else this.openChart(feed, key);
    this.want();
    this.tell(new Set(["want", "charts", "values"]));
  }

  /** The same key with other bars. */
  setInterval(history: History, interval: number): void {
    const entries = [...this.charts].map(([id, old]): [string, History] =>
      old === history ? this.history(old.want.feed, old.want.key, interval, old.last ?? old.lastEvent) : [id, old],
    );
    this.charts = new Map(entries);
    this.want();
    this.tell(new Set(["want", "charts"]));
  }

  older(history: History, from: number): void {
    history.loading = true;
    this.link.send({ type: "older", chart: history.id, from });
  }

  get hasToken(): boolean {
    return this.link.hasToken;
  }

  token(token: string): void {
    this.link.token(token);
  }

  restart(): void {
    this.link.send({ type: "restart" });
  }

  /** The time at the server. */
  now(): number {
    return Date.now() + this.ahead;
  }

  private openChart(feed: string, key: string): void {
    const row = [...this.rows.values()].filter((one) => one.view.key === key).sort(byUse)[0];
    const info = this.infos.get(key);
    const interval = row ? intervalFor(row.view, info) : 60;
    const [id, history] = this.history(feed, key, interval, row?.view.event ?? this.now());
    history.info = info;
    this.charts.set(id, history);
    while (this.charts.size > MAX_CHARTS) this.charts.delete(this.charts.keys().next().value as string);
  }

  private history(feed: string, key: string, interval: number, last: number): [string, History] {
    const from = last - 320 * interval * 1_000;
    const want: ChartWant = { feed, key, interval, from };
    const history = new History(want, last);
    history.info = this.infos.get(key);
    return [history.id, history];
  }

  private want(): void {
    const charts = [...this.charts.values()].map((history) => history.want);
    this.link.send({ type: "want", want: { feed: this.feed, pace: this.pace, charts } });
    this.remember();
  }

  private take(delta: Delta): void {
    const news = new Set<News>();
    if (delta.status) {
      this.status = delta.status;
      news.add("status");
    }
    if (delta.feeds) {
      this.feeds = delta.feeds;
      news.add("feeds");
      const first = this.feeds.find((feed) => feed.kinds.length > 0) ?? this.feeds[0];
      if (first && !this.feed) this.select(first.name);
    }
    if (delta.ledger) {
      this.ledger = delta.ledger;
      news.add("ledger");
    }
    if (delta.values && delta.values.feed === this.feed) {
      this.takeValues(delta.values);
      news.add("values");
    }
    for (const chart of delta.charts ?? []) this.takeChart(chart, news);
    this.tell(news);
  }

  private takeValues({ epoch, anew, narrowed, rows, infos }: ValuesDelta): void {
    if (epoch !== 0n && this.epoch !== 0n && epoch !== this.epoch) this.rows = new Map();
    this.epoch = epoch || this.epoch;
    this.narrowed = narrowed;
    // The order of rows stays when only the pace changed.
    if (anew) for (const row of this.rows.values()) row.spark = [];
    for (const info of infos) this.infos.set(info.key, info);
    for (const view of rows) this.takeRow(view);
    for (const history of this.charts.values()) {
      if (history.want.feed === this.feed) history.info = this.infos.get(history.want.key) ?? history.info;
    }
    if (this.remembered.length > 0) this.reopen();
  }

  private takeRow(view: RowView): void {
    const id = `${view.kind} ${view.key}`;
    const before = this.rows.get(id);
    const spark = [...(before?.spark ?? []), ...view.points].slice(-SPARK_POINTS);
    const step = (view.number ?? NaN) - (before?.view.number ?? NaN);
    const direction = step > 0 ? 1 : step < 0 ? -1 : (before?.direction ?? 0);
    this.rows.set(id, { id, view, spark, direction, version: (before?.version ?? 0) + 1 });
    this.ahead = Math.max(this.ahead, view.ingest - Date.now());
  }

  private takeChart(chart: ChartDelta, news: Set<News>): void {
    this.charts.get(chart.id)?.take(chart);
    news.add("charts");
  }

  private tell(news: ReadonlySet<News>): void {
    if (news.size > 0) for (const listener of this.listeners) listener(news);
  }

  /** The address says what is looked at, so that it can be kept and sent. */
  private remember(): void {
    const parts = new URLSearchParams();
    if (this.feed) parts.set("feed", this.feed);
    for (const { want } of this.charts.values()) if (want.feed === this.feed) parts.append("key", want.key);
    for (const key of this.remembered) if (!parts.getAll("key").includes(key)) parts.append("key", key);
    if (this.pace !== 250) parts.set("pace", String(this.pace));
    history.replaceState(null, "", `#${parts}`);
  }

  private recall(): void {
    const parts = new URLSearchParams(location.hash.slice(1));
    this.feed = parts.get("feed") ?? undefined;
    this.remembered = parts.getAll("key").slice(0, MAX_CHARTS);
    this.pace = PACES.find((pace) => String(pace) === parts.get("pace")) ?? 250;
  }

  private revisit(): void {
    const before = this.feed;
    this.recall();
    const feed = this.feed ?? before;
    this.feed = before;
    if (feed) this.select(feed);
    this.want();
  }

  /** Each as soon as it is known how fast it comes, or that it will not be. */
  private reopen(): void {
    this.remembersSince ??= performance.now();
    const late = performance.now() - this.remembersSince > PACE_KNOWN_MILLIS;
    const rows = [...this.rows.values()].filter((row) => late || row.view.cadence !== undefined);
    const known = new Set(rows.map((row) => row.view.key));
    const found = this.remembered.filter((key) => known.has(key));
    this.remembered = this.remembered.filter((key) => !known.has(key));
    if (!late && this.remembered.length > 0) {
      clearTimeout(this.reopens);
      this.reopens = setTimeout(() => this.reopen(), PACE_KNOWN_MILLIS);
    }
    for (const key of found) {
      if (this.feed && !this.hasChart(this.feed, key)) this.toggleChart(this.feed, key);
    }
  }
}

/** Trades before bars before quotes. */
function byUse(a: Row, b: Row): number {
  const order = ["trade", "bar", "quote", "reading", "status"];
  return order.indexOf(a.view.kind) - order.indexOf(b.view.kind);
}

/** Lengths of bars that are offered. */
export const INTERVALS = [1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400, 604_800, 2_592_000];

/** Bars that hold a few records each: one of bars, some of everything else. */
function intervalFor({ kind, cadence }: RowView, info: InfoView | undefined): number {
  const usual = cadence ?? info?.expected ?? (kind === "bar" ? 86_400_000 : 15_000);
  const wanted = kind === "bar" ? usual : usual * 4;
  return INTERVALS.find((seconds) => seconds * 1_000 >= wanted) ?? 2_592_000;
}

export { chartId };
