// The bars of one chart, in order, and what of them is seen.
import { type BarView, type ChartDelta, chartId, type ChartWant, type GapMark, type InfoView } from "../protocol.js";

/** Of the sources a key has, the one that is drawn: trades, bars, quotes, readings. */
const ORDER = [1, 2, 3, 4, 5, 6];
const READING = 6;

export class History {
  readonly id: string;
  info: InfoView | undefined;
  gaps: GapMark[] = [];
  exhausted = false;
  loading = false;
  caughtUp = false;
  /** Rises with each change. */
  version = 0;
  private readonly series = new Map<string, BarView[]>();

  constructor(
    readonly want: ChartWant,
    /** Milliseconds; before there are bars. */
    readonly lastEvent: number,
  ) {
    this.id = chartId(want);
  }

  take(delta: ChartDelta): void {
    if (delta.anew) this.series.clear();
    const { gaps, exhausted, loading, caughtUp } = delta;
    Object.assign(this, { gaps, exhausted, loading, caughtUp });
    for (const bar of delta.bars) this.put(bar);
    this.version += 1;
  }

  /** The bars that are drawn, by their starts. */
  get bars(): readonly BarView[] {
    return this.series.get(`${this.source} 0`) ?? [];
  }

  get source(): number {
    return ORDER.find((source) => this.series.has(`${source} 0`)) ?? 0;
  }

  get isReading(): boolean {
    return this.source === READING;
  }

  /** Milliseconds of the newest bar. */
  get last(): number | undefined {
    const bar = this.bars.at(-1);
    return bar && bar.t * 1_000;
  }

  private put(bar: BarView): void {
    const id = `${bar.source} ${bar.channel}`;
    const bars = this.series.get(id) ?? [];
    this.series.set(id, bars);
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
    if (bars.length > 20_000) bars.shift();
  }
}
