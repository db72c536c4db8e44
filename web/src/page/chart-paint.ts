// What uPlot does not draw: candles, gaps, and marks of bad readings.
import type uPlot from "uplot";
import type { Columns } from "./chart-data.js";
import type { History } from "./history.js";

export interface Ink {
  line: string;
  band: string;
  up: string;
  down: string;
  warn: string;
  muted: string;
  grid: string;
  hatch: string;
  ink: string;
  font: string;
}

export function ink(element: Element): Ink {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    line: of("--accent"), band: of("--band"), up: of("--up"), down: of("--down"), warn: of("--warn"),
    muted: of("--muted"), grid: of("--grid"), hatch: of("--hatch"), ink: of("--ink"), font: `11px ${style.fontFamily}`,
  };
}

export function candles(plot: uPlot, { bars }: Columns, step: number, colours: Ink): void {
  const pen = plot.ctx;
  const width = Math.max(1, Math.abs(plot.valToPos(step, "x", true) - plot.valToPos(0, "x", true)) * 0.68);
  const line = Math.max(1, Math.min(devicePixelRatio, width / 3));
  const [first, last] = plot.series[0]?.idxs ?? [0, bars.length - 1];
  clipped(plot, () => {
    for (let i = first; i <= last; i += 1) {
      const bar = bars[i];
      if (!bar || Number.isNaN(bar.c)) continue;
      const x = plot.valToPos(bar.t + step / 2, "x", true);
      const y = (value: number) => plot.valToPos(value, "y", true);
      pen.globalAlpha = bar.partial ? 0.4 : 1;
      pen.fillStyle = bar.c >= bar.o ? colours.up : colours.down;
      pen.fillRect(x - line / 2, y(bar.h), line, Math.max(1, y(bar.l) - y(bar.h)));
      const top = y(Math.max(bar.o, bar.c));
      pen.fillRect(x - width / 2, top, width, Math.max(1, y(Math.min(bar.o, bar.c)) - top));
    }
    pen.globalAlpha = 1;
  });
}

/** Below the curve: where nothing is known. */
export function gaps(plot: uPlot, history: History, { silences }: Columns, colours: Ink): void {
  const step = history.want.interval;
  const { min = 0, max = 0 } = plot.scales.x as { min?: number; max?: number };
  clipped(plot, () => {
    for (const { from, to } of silences) if (to > min && from < max) hatch(plot, from, to, colours.hatch);
    for (const gap of history.gaps) {
      const from = gap.after === undefined ? min : gap.after + step;
      const to = gap.before ?? (gap.after === undefined ? (history.bars[0]?.t ?? max) : from);
      hatch(plot, from, Math.max(from, to), colours.warn);
      label(plot, from, `gap: ${gap.count} ${gap.reason.toLowerCase().replace("_", " ")}`, colours);
    }
    const first = history.bars[0];
    if (history.exhausted && first && first.t > min) label(plot, min, "the ring begins here", colours, first.t);
  });
}

/** Above the axis at the right: what is measured. */
export function measure(plot: uPlot, text: string, colours: Ink): void {
  const pen = plot.ctx;
  pen.save();
  pen.font = scaled(colours.font);
  pen.fillStyle = colours.muted;
  pen.textAlign = "left";
  pen.fillText(text, plot.bbox.left + plot.bbox.width + 5 * devicePixelRatio, plot.bbox.top - 12 * devicePixelRatio);
  pen.restore();
}

/** At the foot: bars with bad readings. */
export function bad(plot: uPlot, { bars }: Columns, step: number, colours: Ink): void {
  const pen = plot.ctx;
  const [first, last] = plot.series[0]?.idxs ?? [0, bars.length - 1];
  const { left, top, width, height } = plot.bbox;
  const size = 3 * devicePixelRatio;
  pen.fillStyle = colours.down;
  for (let i = first; i <= last; i += 1) {
    const bar = bars[i];
    if (!bar?.bad) continue;
    const from = Math.max(left, plot.valToPos(bar.t, "x", true));
    const to = Math.min(left + width, plot.valToPos(bar.t + step, "x", true));
    pen.fillRect(from, top + height - size, Math.max(2, to - from), size);
  }
}

function hatch(plot: uPlot, from: number, to: number, colour: string): void {
  const pen = plot.ctx;
  const { top, height } = plot.bbox;
  const left = plot.valToPos(from, "x", true);
  const width = Math.max(3 * devicePixelRatio, plot.valToPos(to, "x", true) - left);
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = devicePixelRatio;
  pen.beginPath();
  const stride = 7 * devicePixelRatio;
  const start = Math.floor((left - height) / stride) * stride;
  for (let x = Math.max(start, plot.bbox.left - height); x < Math.min(left + width, plot.bbox.left + plot.bbox.width); x += stride) {
    pen.moveTo(x, top + height);
    pen.lineTo(x + height, top);
  }
  pen.stroke();
  pen.restore();
}

/** At the right of `at`, or ending at `until`. */
function label(plot: uPlot, at: number, text: string, colours: Ink, until?: number): void {
  const pen = plot.ctx;
  const { left, top, width } = plot.bbox;
  pen.save();
  pen.font = scaled(colours.font);
  pen.fillStyle = colours.muted;
  pen.textAlign = until === undefined ? "left" : "right";
  const x = plot.valToPos(until ?? at, "x", true) + (until === undefined ? 4 : -4) * devicePixelRatio;
  const most = until === undefined ? left + width - pen.measureText(text).width - 4 : Infinity;
  pen.fillText(text, Math.max(left + 4, Math.min(x, most)), top + 13 * devicePixelRatio);
  pen.restore();
}

function scaled(font: string): string {
  return font.replace(/^\d+/, (size) => String(Number(size) * devicePixelRatio));
}

function clipped(plot: uPlot, draw: () => void): void {
  const { left, top, width, height } = plot.bbox;
  plot.ctx.save();
  plot.ctx.beginPath();
  plot.ctx.rect(left, top, width, height);
  plot.ctx.clip();
  draw();
  plot.ctx.restore();
}
