// What the page and the engine say to each other: plain values, copied from one to the other.
// The engine holds the connection, in a worker that all tabs of the page share where there is one.

/** Every record, or at most one per key in so many milliseconds. */
export type Pace = "full" | number;

/** One chart: bars of one key. */
export interface ChartWant {
  feed: string;
  key: string;
  /** Length of a bar in seconds. */
  interval: number;
  /** Bars from here on come at once, milliseconds since the Unix epoch; older ones are asked for. */
  from: number;
}

/** What a page wants to see. */
export interface Want {
  feed: string | undefined;
  pace: Pace;
  charts: ChartWant[];
}

export type ToEngine =
  | { type: "hello"; base: string; token: string | undefined }
  /** The page holds this lock for as long as it lives. */
  | { type: "lock"; name: string }
  | { type: "want"; want: Want }
  /** The page is ready for the next delta. */
  | { type: "pull" }
  | { type: "older"; chart: string; from: number }
  | { type: "token"; token: string | undefined }
  /** After the server broke its promise: begin anew. */
  | { type: "restart" }
  | { type: "bye" };

export interface FeedView {
  name: string;
  kinds: string[];
  rate: number;
  bytesRate: number;
  keys: number;
  oldest: bigint;
  next: bigint;
  bytes: number;
  maxBytes: number;
  /** How long a full ring lasts at this rate, in seconds. */
  lasts: number | undefined;
  subscribers: number;
  producers: number;
  lastAppend: number | undefined;
}

export interface InfoView {
  key: string;
  name: string | undefined;
  description: string | undefined;
  unit: string | undefined;
  currency: string | undefined;
  decimals: number | undefined;
  min: number | undefined;
  max: number | undefined;
  channels: string[];
  /** Of integer values. */
  names: { [value: string]: string };
  /** Usual time between readings in milliseconds. */
  expected: number | undefined;
}

export type Quality = "good" | "uncertain" | "bad";

/** The last record of a key and payload kind. */
export interface RowView {
  key: string;
  kind: string;
  /** Exactly as it was sent. */
  text: string;
  /** For sparklines and change; undefined of texts and missing readings. */
  number: number | undefined;
  /** Digits behind the point of `text`. */
  scale: number;
  quality: Quality;
  qualityCode: number | undefined;
  /** Of a vector, else 0; `number` is that of the first one. */
  channels: number;
  /** Milliseconds since the Unix epoch. */
  event: number;
  ingest: number;
  offset: bigint;
  /** Values since the page's last pull, the newest last; at most SPARK_POINTS. */
  points: number[];
  /** Time between its last records by event time, in milliseconds. */
  cadence: number | undefined;
}

export interface ValuesDelta {
  feed: string;
  /** 0 while it is not known; with another one the feed was created anew, and has none of its old keys. */
  epoch: bigint;
  /** The page has nothing of it yet: what it holds is replaced. */
  anew: boolean;
  /** The caller may only see keys that match one of these globs; none: all. */
  narrowed: string[];
  rows: RowView[];
  infos: InfoView[];
}

/** A bar of prices (o h l c) or readings (l h, m: mean, c: last). NaN: no value. */
export interface BarView {
  source: number;
  /** Of a vector. */
  channel: number | undefined;
  /** Start in seconds since the Unix epoch. */
  t: number;
  o: number;
  h: number;
  l: number;
  c: number;
  m: number;
  /** Records, and bad readings among them. */
  n: number;
  bad: number;
  /** False while it may still change; a bar whose stream was resumed may never be told complete. */
  complete: boolean;
  /** Records of it had left the ring. */
  partial: boolean;
}

/** Records missing between two times of a chart. */
export interface GapMark {
  /** Seconds since the Unix epoch; undefined: the chart begins with it, or nothing came since. */
  after: number | undefined;
  before: number | undefined;
  reason: string;
  count: string;
}

export interface ChartDelta {
  id: string;
  /** As in ValuesDelta. */
  epoch: bigint;
  anew: boolean;
  bars: BarView[];
  gaps: GapMark[];
  /** Nothing older is in the ring. */
  exhausted: boolean;
  /** No more bars are kept than there are. */
  isFull: boolean;
  loading: boolean;
  /** History and live have met. */
  caughtUp: boolean;
}

export type Phase = "idle" | "connecting" | "live" | "waiting" | "unauthenticated" | "refused" | "broken";

export interface StatusView {
  phase: Phase;
  /** Why, for people; of anything but idle, connecting and live. */
  why: string;
  /** When it tries again, milliseconds since the Unix epoch. */
  retryAt: number | undefined;
  reconnects: number;
  /** Tabs that share the connection. */
  tabs: number;
  caughtUp: boolean;
}

export interface LaneView {
  /** What it is for. */
  what: string;
  feed: string;
  start: bigint | undefined;
  next: bigint | undefined;
  delivered: bigint;
  leftOut: bigint;
  missed: bigint;
  balanced: boolean;
}

export interface LossView {
  at: number;
  feed: string;
  reason: string;
  from: bigint;
  to: bigint;
  count: bigint | undefined;
}

export interface LedgerView {
  /** Of all that was followed since the page began. */
  delivered: bigint;
  leftOut: bigint;
  /** Offsets of the gaps, each gap once, whichever selectors were told of it. */
  missed: bigint;
  snapshot: bigint;
  balanced: boolean;
  lanes: LaneView[];
  /** The newest 100. */
  losses: LossView[];
  gaps: number;
}

export interface Delta {
  feeds?: FeedView[];
  status?: StatusView;
  ledger?: LedgerView;
  values?: ValuesDelta;
  charts?: ChartDelta[];
}

/** Values that a sparkline shows. */
export const SPARK_POINTS = 48;

export function chartId({ feed, key, interval }: { feed: string; key: string; interval: number }): string {
  return JSON.stringify([feed, key, interval]);
}
