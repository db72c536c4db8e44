// Bars as the columns that uPlot draws, with holes where nothing was measured.
import type { AlignedData } from "uplot";
import type { BarView } from "../protocol.js";
import type { History } from "./history.js";

/** How much wider than a bar a silence is before it is a gap. */
const SILENCE = 2.5;

export interface Columns {
  data: AlignedData;
  /** The bar of each place; undefined in a hole. */
  bars: (BarView | undefined)[];
  /** Silences between readings, in seconds. */
  silences: { from: number; to: number }[];
}

/** Prices: x, open, high, low, close. Readings: x, least, greatest, mean. x is the middle of a bar. */
export function columns(history: History): Columns {
  const step = history.want.interval;
  const silence = Math.max(SILENCE * step, (3 * (history.info?.expected ?? 0)) / 1_000);
  const bars: (BarView | undefined)[] = [];
  const x: number[] = [];
  const silences: { from: number; to: number }[] = [];
  for (const bar of history.bars) {
    const before = bars.at(-1);
    const isSilence = before !== undefined && bar.t - before.t > silence;
    if (history.isReading && before && (isSilence || isBroken(history, before, bar))) {
      if (isSilence) silences.push({ from: before.t + step, to: bar.t });
      x.push((before.t + step + bar.t) / 2);
      bars.push(undefined);
    }
    x.push(bar.t + step / 2);
    bars.push(bar);
  }
  const column = (of: "o" | "h" | "l" | "c" | "m") =>
    bars.map((bar) => (bar === undefined || Number.isNaN(bar[of]) ? null : bar[of]));
  const data = history.isReading
    ? [x, column("l"), column("h"), column("m")]
    : [x, column("o"), column("h"), column("l"), column("c")];
  return { data: data as AlignedData, bars, silences };
}

/** Records are missing between two bars that are next to each other: no line may join them. */
function isBroken({ gaps }: History, before: BarView, bar: BarView): boolean {
  return gaps.some(({ after = Infinity, before: until = -Infinity }) => after <= before.t && until >= bar.t);
}
