// One chart: candles of prices, or a line with its band of readings; live at the right edge, older
// bars as one pans or zooms to them.
import uPlot from "uplot";
import type { BarView } from "../protocol.js";
import { type Columns, columns } from "./chart-data.js";
import { bad, candles, gaps, type Ink, ink, measure } from "./chart-paint.js";
import { el, say, set } from "./dom.js";
import type { History } from "./history.js";
import { INTERVALS, type Model } from "./model.js";
import { count, interval, safe, ticks, time, unit } from "./text.js";

/** Bars that are seen at first. */
const SEEN = { prices: 110, readings: 180 };
const LEAST_SEEN = 30;
const HEIGHT = 250;
/** Pixels of the axis of values, and what a label of the axis of times needs at its left. */
const SCALE_WIDTH = 62;
const HALF_A_LABEL = 30;
/** Free bars at the right edge. */
const AHEAD = 3;

export class ChartView {
  readonly root = el("figure", { class: "chart" });
  private readonly caption = el("figcaption");
  private readonly choice = el("select", { class: "choice", "aria-label": "What is drawn" });
  private readonly readout = el("p", { class: "readout num" });
  private readonly note = el("p", { class: "note" });
  private readonly plotted = el("div", { class: "plot", tabindex: 0, role: "img" });
  private readonly live = el("button", { type: "button", class: "golive" }, "Live");
  private readonly table = el("tbody");
  private readonly details = el("details");
  private plot: uPlot | undefined;
  private made: "prices" | "readings" | undefined;
  private columns: Columns | undefined;
  private colours: Ink | undefined;
  private range: { min: number; max: number };
  private following = true;
  /** Somebody chose how much is seen. */
  private zoomed = false;
  private asked: number;
  private drawn = -1;
  private readonly grip = new Map<number, number>();

  constructor(
    private readonly model: Model,
    readonly history: History,
  ) {
    this.asked = history.want.from / 1_000;
    const last = history.lastEvent / 1_000;
    this.range = { min: last - SEEN.readings * this.step, max: last + AHEAD * this.step };
    this.build();
    this.update();
  }

  /** Draws what changed. */
  update(): void {
    const { history } = this;
    if (history.version === this.drawn && this.plot) return;
    this.drawn = history.version;
    this.title();
    this.offer();
    const made = history.isReading ? "readings" : "prices";
    this.columns = columns(history);
    if (history.bars.length > 0 && (!this.plot || this.made !== made)) {
      this.made = made;
      this.remake();
    }
    if (this.following) this.follow();
    this.draw();
    if (this.details.open) this.list();
  }

  recolour(): void {
    if (this.plot) this.remake();
  }

  resized(): void {
    const width = this.plotted.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  destroy(): void {
    this.plot?.destroy();
    this.root.remove();
  }

  private get step(): number {
    return this.history.want.interval;
  }

  private build(): void {
    const { key, feed } = this.history.want;
    const select = el("select", { "aria-label": "Length of a bar" });
    for (const seconds of INTERVALS) {
      const option = el("option", { value: seconds }, interval(seconds));
      option.selected = seconds === this.step;
      select.append(option);
    }
    select.addEventListener("change", () => this.model.setInterval(this.history, Number(select.value)));
    const tool = (label: string, title: string, click: () => void) =>
      el("button", { type: "button", class: "tool", "aria-label": title, title, click }, label);
    this.live.addEventListener("click", () => this.goLive());
    const tools = el(
      "div",
      { class: "tools" },
      this.live,
      select,
      tool("−", "Zoom out", () => this.zoom(1.6)),
      tool("+", "Zoom in", () => this.zoom(1 / 1.6)),
      tool("×", "Close the chart", () => this.model.toggleChart(feed, key)),
    );
    const head = el("tr", {}, ...["Start, UTC", "Low", "High", "Last", "Records"].map((text) => el("th", { scope: "col" }, text)));
    this.choice.addEventListener("change", () => this.choose(this.choice.value));
    this.details.append(el("summary", {}, "As a table"), el("table", {}, el("thead", {}, head), this.table));
    this.details.addEventListener("toggle", () => this.details.open && this.list());
    this.root.append(el("div", { class: "head" }, this.caption, tools), el("div", { class: "drawn" }, this.choice, this.readout), this.plotted, this.note, this.details);
    this.steer();
  }

  /** Pointer, wheel and keys. */
  private steer(): void {
    const plot = this.plotted;
    plot.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    plot.addEventListener("pointerdown", (event) => {
      this.grip.set(event.pointerId, event.clientX);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"] as const) plot.addEventListener(end, (event) => this.grip.delete(event.pointerId));
    plot.addEventListener("dblclick", () => this.goLive());
    plot.addEventListener("keydown", (event) => {
      const width = this.range.max - this.range.min;
      const keys: { [key: string]: () => void } = {
        ArrowLeft: () => this.pan(-width / 8),
        ArrowRight: () => this.pan(width / 8),
        "+": () => this.zoom(1 / 1.4),
        "-": () => this.zoom(1.4),
        Home: () => this.pan((this.history.bars[0]?.t ?? this.range.min) - this.range.min - width / 2),
        End: () => this.goLive(),
      };
      const act = keys[event.key];
      if (!act || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      act();
    });
  }

  private wheel(event: WheelEvent): void {
    // A page that scrolls goes on scrolling; sideways and with ctrl it is meant for the chart.
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.pan((event.deltaX / this.plotted.clientWidth) * (this.range.max - this.range.min));
    } else if (event.ctrlKey || event.shiftKey || document.activeElement === this.plotted) {
      event.preventDefault();
      this.zoom(Math.exp((event.deltaY || event.deltaX) / 300), this.at(event.clientX));
    }
  }

  private drag(event: PointerEvent): void {
    const before = this.grip.get(event.pointerId);
    if (before === undefined) return;
    const others = [...this.grip].filter(([id]) => id !== event.pointerId);
    this.grip.set(event.pointerId, event.clientX);
    const other = others[0]?.[1];
    if (other !== undefined) {
      const [was, is] = [Math.abs(before - other), Math.abs(event.clientX - other)];
      if (was > 5 && is > 5) this.zoom(was / is, this.at((event.clientX + other) / 2));
      return;
    }
    const width = this.plot?.bbox.width ? this.plot.bbox.width / devicePixelRatio : this.plotted.clientWidth;
    this.pan(((before - event.clientX) / width) * (this.range.max - this.range.min));
  }

  private at(clientX: number): number | undefined {
    if (!this.plot) return undefined;
    return this.plot.posToVal(clientX - this.plot.over.getBoundingClientRect().left, "x");
  }

  private pan(seconds: number): void {
    if (seconds === 0) return;
    this.zoomed = true;
    const newest = (this.history.bars.at(-1)?.t ?? this.range.max) + AHEAD * this.step;
    const width = this.range.max - this.range.min;
    const max = Math.min(this.range.max + seconds, newest + width / 2);
    this.following = max >= newest && seconds > 0;
    this.range = { min: max - width, max };
    this.draw();
  }

  /** Around a time, or around the right edge while it is live. */
  private zoom(factor: number, around?: number): void {
    this.zoomed = true;
    const width = this.range.max - this.range.min;
    const wanted = Math.min(Math.max(width * factor, 8 * this.step), 20_000 * this.step);
    const centre = this.following ? this.range.max : (around ?? (this.range.min + this.range.max) / 2);
    const share = (centre - this.range.min) / width;
    const min = centre - share * wanted;
    this.range = { min, max: min + wanted };
    this.draw();
  }

  private goLive(): void {
    this.following = true;
    this.follow();
    this.draw();
  }

  private follow(): void {
    const last = this.history.bars.at(-1);
    if (!last) return;
    const max = last.t + (1 + AHEAD) * this.step;
    this.range = { min: max - this.width(max), max };
  }

  /** Of what is seen; a history that is shorter than usual fills it. */
  private width(max: number): number {
    if (this.zoomed || !this.made) return this.range.max - this.range.min;
    const usual = SEEN[this.made] * this.step;
    const { bars, exhausted } = this.history;
    const first = bars[0];
    if (!exhausted || !first) return usual;
    return Math.min(Math.max(max - first.t + AHEAD * this.step, LEAST_SEEN * this.step), usual);
  }

  private draw(): void {
    const { plot, columns: held } = this;
    set(this.live, "aria-pressed", String(this.following));
    this.askOlder();
    this.describe();
    if (!plot || !held) return;
    plot.batch(() => {
      plot.setData(held.data, false);
      plot.setScale("x", this.range);
    });
    this.read();
  }

  /** What is seen begins before what is held. */
  private askOlder(): void {
    const { history } = this;
    const begins = Math.min(history.bars[0]?.t ?? Infinity, Infinity);
    if (history.loading || history.exhausted || history.isFull || !history.caughtUp || this.range.min >= begins) return;
    const width = this.range.max - this.range.min;
    this.asked = Math.min(this.asked, this.range.min) - 2 * width;
    this.model.older(history, this.asked * 1_000);
  }

  private title(): void {
    const { key, feed } = this.history.want;
    const { info } = this.history;
    this.caption.replaceChildren(el("bdi", { class: "id" }, safe(key)), el("span", { class: "label" }, safe(info?.name ?? "", 80)), el("span", { class: "feed" }, feed));
  }

  private get measure(): string {
    const { info } = this.history;
    return unit(info?.unit) || safe(info?.currency ?? "", 8);
  }

  private digits(): number {
    const { decimals } = this.history.info ?? {};
    if (decimals !== undefined) return Math.min(decimals, 10);
    const sample = this.history.bars.slice(-60);
    const values = sample.flatMap((bar) => (this.history.isReading ? [bar.l, bar.h] : [bar.o, bar.c]));
    const sorted = values.map(digitsOf).sort((a, b) => a - b);
    return Math.min(sorted[sorted.length >> 1] ?? 0, 8);
  }

  /** As many digits as usual, and none cut off but of a mean. */
  private number(value: number, how: "exact" | "mean" = "exact"): string {
    if (Number.isNaN(value)) return "–";
    const usual = this.digits();
    if (how === "mean") return value.toFixed(usual + 1);
    // What binary fractions leave behind is no digit of the value.
    const digits = digitsOf(value);
    return digits > 10 ? String(Number(value.toPrecision(10))) : value.toFixed(Math.max(usual, digits));
  }

  private choose(id: string): void {
    this.history.choose(id);
    this.update();
  }

  /** Of what the bars are made: a choice where there is one. */
  private offer(): void {
    const { choices, choice } = this.history;
    const shown = [...this.choice.options].map((option) => `${option.value} ${option.text}`);
    if (choices.map(([id, label]) => `${id} ${label}`).join() !== shown.join()) {
      this.choice.replaceChildren(...choices.map(([id, label]) => el("option", { value: id }, label)));
    }
    this.choice.value = choice ?? "";
    this.choice.hidden = choices.length < 2;
  }

  private get drawnWhat(): string {
    const { choices, choice } = this.history;
    return choices.find(([id]) => id === choice)?.[1] ?? "";
  }

  /** The bar under the pointer, or the newest one. */
  private read(): void {
    const held = this.columns;
    const index = this.plot?.cursor.idx ?? undefined;
    const bar = (index === undefined ? undefined : held?.bars[index]) ?? this.history.bars.at(-1);
    const facts = bar ? this.barFacts(bar) : [];
    if (facts.join(" ") !== this.readout.textContent) {
      this.readout.replaceChildren(...facts.flatMap((fact, i) => [i > 0 ? " " : "", el("span", {}, fact)]));
    }
  }

  private barFacts(bar: BarView): string[] {
    const number = (value: number) => this.number(value);
    const facts = this.history.isReading
      ? [`mean ${this.number(bar.m, "mean")}`, `min ${number(bar.l)}`, `max ${number(bar.h)}`]
      : [`O ${number(bar.o)}`, `H ${number(bar.h)}`, `L ${number(bar.l)}`, `C ${number(bar.c)}`];
    if (bar.n > 1) facts.push(`${count(bar.n)} ${this.history.isReading ? "readings" : "records"}`);
    if (bar.bad > 0) facts.push(`${count(bar.bad)} bad`);
    if (bar.partial) facts.push("in part");
    if (this.isOpen(bar)) facts.push("so far");
    return [time(bar.t, this.step), ...facts];
  }

  /** The bar in progress. One that was never told complete is over when the next one begins or by the clock. */
  private isOpen(bar: BarView): boolean {
    const ends = (bar.t + this.step) * 1_000;
    return !bar.complete && bar === this.history.bars.at(-1) && this.model.now() < ends;
  }

  private describe(): void {
    const { history } = this;
    const { key } = history.want;
    const bars = history.bars;
    const first = bars[0];
    const newest = bars.at(-1);
    const span = first && newest ? `, ${count(bars.length)} bars from ${time(first.t, this.step)} to ${time(newest.t, this.step)} UTC; newest: ${this.barFacts(newest).join(", ")}` : "";
    const name = `Chart of ${safe(history.info?.name ?? key, 80)}, ${this.drawnWhat}, bars of ${interval(this.step)}${span}. Arrow keys pan, plus and minus zoom.`;
    set(this.plotted, "aria-label", name);
    const busy = history.loading ? "Loading older bars…" : !history.caughtUp ? "Loading…" : bars.length === 0 ? "No bars: the values are no numbers." : "";
    const blank = bars.length > 0 && bars.every((bar) => Number.isNaN(bar.c) && Number.isNaN(bar.m)) ? "All readings here are bad: there is no value to draw." : "";
    const missing = history.gaps.length > 0 ? `${history.gaps.length} gap${history.gaps.length === 1 ? "" : "s"} in what the ring still had` : "";
    say(this.note, busy || blank || missing);
  }

  private list(): void {
    const number = (value: number) => this.number(value);
    const rows = this.history.bars.slice(-20).reverse().map((bar) =>
      el("tr", {}, ...[time(bar.t, this.step), number(bar.l), number(bar.h), number(bar.c), count(bar.n)].map((text) => el("td", { class: "num" }, text))),
    );
    this.table.replaceChildren(...rows);
  }

  private remake(): void {
    this.plot?.destroy();
    this.colours = ink(this.root);
    const width = this.plotted.clientWidth || 480;
    this.plot = new uPlot(this.options(width, this.colours), this.columns?.data, this.plotted);
    this.plot.setScale("x", this.range);
  }

  private options(width: number, colours: Ink): uPlot.Options {
    const axis = { stroke: colours.muted, font: colours.font, labelFont: colours.font, ticks: { show: false }, grid: { stroke: colours.grid, width: 1 } };
    const invisible: uPlot.Series = { paths: () => null, points: { show: false } };
    const line: uPlot.Series = { stroke: colours.line, width: 1.5, points: { show: false }, spanGaps: false };
    const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: false };
    const series = this.made === "readings" ? [{}, edge, edge, line] : [{}, invisible, invisible, invisible, invisible];
    const { isReading } = this.history;
    return {
      width,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "UTC"),
      padding: [26, 0, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: isReading }, y: false },
      scales: { x: { time: true, auto: false }, y: { range: (_plot, min, max) => padded(min, max) } },
      axes: [
        { ...axis, size: 38, space: 74, values: (plot, splits, _axis, _space, step) => this.labels(plot, splits, step) },
        { ...axis, side: 1, size: SCALE_WIDTH, space: 34 },
      ],
      series,
      ...(isReading ? { bands: [{ series: [2, 1] as [number, number], fill: colours.band }] } : {}),
      hooks: {
        drawAxes: [(plot) => this.under(plot, colours)],
        draw: [(plot) => this.paint(plot, colours)],
        setCursor: [() => this.read()],
      },
    };
  }

  /** Of the axis of times; one that the edge would cut off is left out. */
  private labels(plot: uPlot, splits: readonly number[], step: number): string[] {
    const { min, max } = this.range;
    const pixel = (at: number) => ((at - min) / (max - min)) * (plot.width - SCALE_WIDTH);
    const whole = splits.filter((at) => pixel(at) >= HALF_A_LABEL);
    return [...splits.slice(whole.length).map(() => ""), ...ticks(whole, step)];
  }

  private under(plot: uPlot, colours: Ink): void {
    measure(plot, this.measure, colours);
    if (this.columns) gaps(plot, this.history, this.columns, colours);
  }

  private paint(plot: uPlot, colours: Ink): void {
    if (!this.columns) return;
    if (this.made === "prices") candles(plot, this.columns, this.step, colours);
    bad(plot, this.columns, this.step, colours);
  }
}

function digitsOf(value: number): number {
  return /\.(\d+)$/.exec(String(value))?.[1]?.length ?? 0;
}

/** A little room above and below; a flat line lies in the middle. */
function padded(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const room = max > min ? (max - min) * 0.06 : Math.abs(max) * 0.02 || 1;
  return [min - room, max + room];
}
