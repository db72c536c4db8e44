// The bars of one chart, in order, and what of them is seen.
import { type BarView, type ChartDelta, chartId, type ChartWant, type GapMark, type InfoView } from "../protocol.js";
import { safe } from "./text.js";

/** What bars are made of, by the number it has on the wire; the first one that there is is drawn. */
const SOURCES = ["", "trades", "bars", "mid of bid and ask", "bid", "ask", "readings"];
const READING = 6;
const KEPT_BARS = 20_000;

/** Bars of one source, of vectors of one channel. */
interface Series {
  source: number;
  channel: number | undefined;
  bars: BarView[];
}

export class History {
  readonly id: string;
  info: InfoView | undefined;
  gaps: GapMark[] = [];
  exhausted = false;
  isFull = false;
  loading = false;
  caughtUp = false;
  /** Rises with each change. */
  version = 0;
  private epoch = 0n;
  private readonly series = new Map<string, Series>();
  private chosen: string | undefined;

  constructor(
    readonly want: ChartWant,
    /** Milliseconds; before there are bars. */
    readonly lastEvent: number,
  ) {
    this.id = chartId(want);
  }

  take(delta: ChartDelta): void {
    const recreated = this.epoch !== 0n && delta.epoch !== this.epoch;
    if (delta.anew || recreated) this.series.clear();
    this.epoch = delta.epoch;
    const { gaps, exhausted, isFull, loading, caughtUp } = delta;
    Object.assign(this, { gaps, exhausted, isFull, loading, caughtUp });
    for (const bar of delta.bars) this.put(bar);
    this.version += 1;
  }

  /** The bars that are drawn, by their starts. */
  get bars(): readonly BarView[] {
    return this.seen?.bars ?? [];
  }

  get isReading(): boolean {
    return this.seen?.source === READING;
  }

  /** What can be drawn, by an id and for people; a key of quotes has three, a vector one for each channel. */
  get choices(): [id: string, label: string][] {
    return this.ordered.map(([id, series]) => [id, this.label(series)]);
  }

  /** The id of what is drawn. */
  get choice(): string | undefined {
    return this.chosen !== undefined && this.series.has(this.chosen) ? this.chosen : this.ordered[0]?.[0];
  }

  choose(id: string): void {
    this.chosen = id;
    this.version += 1;
  }

  /** Milliseconds of the newest bar. */
  get last(): number | undefined {
    const bar = this.bars.at(-1);
    return bar && bar.t * 1_000;
  }

  private get seen(): Series | undefined {
    return this.series.get(this.choice ?? "");
  }

  private get ordered(): [string, Series][] {
    return [...this.series].sort(([, a], [, b]) => a.source - b.source || (a.channel ?? 0) - (b.channel ?? 0));
  }

  private label({ source, channel }: Series): string {
    if (channel === undefined) return SOURCES[source] ?? "";
    const name = this.info?.channels[channel];
    return name ? safe(name, 40) : `channel ${channel}`;
  }

  private put(bar: BarView): void {
    const { source, channel } = bar;
    const id = `${source} ${channel}`;
    let series = this.series.get(id);
    if (!series) this.series.set(id, (series = { source, channel, bars: [] }));
    const { bars } = series;
    let low = 0;
    let high = bars.length;
    // Most of them are new, at the end.
    const newest = bars.at(-1);
    if (newest && newest.t < bar.t) low = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((bars[middle] as BarView).t < bar.t) low = middle + 1;
      else high = middle;
    }
    if (bars[low]?.t === bar.t) bars[low] = bar;
    else bars.splice(low, 0, bar);
    if (bars.length > KEPT_BARS) bars.shift();
  }
}
