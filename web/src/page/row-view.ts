// One row of the table of keys. Rows are reused as one scrolls.
import type { InfoView, RowView as View } from "../protocol.js";
import { el, say, set } from "./dom.js";
import type { Model, Row } from "./model.js";
import { spark, type SparkInk } from "./spark.js";
import { age, change, percent, safe, unit } from "./text.js";

const MOVED_MILLIS = 350;
const QUALITY = { good: "", uncertain: "uncertain", bad: "bad" };

export class RowView {
  readonly root = el("tr");
  readonly button = el("button", { type: "button", class: "key" });
  private readonly key = el("bdi", { class: "id" });
  private readonly name = el("bdi", { class: "label" });
  private readonly value = el("td", { class: "value num" });
  private readonly unit = el("td", { class: "unit" });
  private readonly difference = el("span");
  private readonly percent = el("span", { class: "percent" });
  private readonly change = el("td", { class: "change num" }, this.difference, this.percent);
  private readonly canvas = el("canvas", { class: "spark", "aria-hidden": true });
  private readonly quality = el("td", { class: "quality" });
  private readonly age = el("td", { class: "age num" });
  private row: Row | undefined;
  private drawn = -1;
  /** When its value last changed; 0: not of late. */
  private moved = 0;

  constructor(
    private readonly model: Model,
    private readonly ink: () => SparkInk,
  ) {
    this.button.append(el("span", { class: "mark", "aria-hidden": true }), this.key, this.name);
    this.button.addEventListener("click", () => {
      if (this.row && model.feed) model.toggleChart(model.feed, this.row.view.key);
    });
    const trend = el("td", { class: "trend" }, this.canvas);
    const head = el("th", { scope: "row" }, this.button);
    this.root.append(head, this.value, this.unit, this.change, trend, this.quality, this.age);
  }

  /** Which row it shows. */
  get id(): string | undefined {
    return this.row?.id;
  }

  show(row: Row, index: number): void {
    const other = row.id !== this.row?.id;
    const moved = !other && row.version !== this.row?.version;
    this.row = row;
    set(this.root, "aria-rowindex", index + 2);
    const { view } = row;
    const info = this.model.infos.get(view.key);
    if (other) this.showKey(view.key);
    const name = safe(info?.name ?? "", 80);
    say(this.name, name);
    set(this.button, "title", `${safe(view.key)}${name ? `, ${name}` : ""}: show or hide its chart`);
    const pressed = this.model.feed !== undefined && this.model.hasChart(this.model.feed, view.key);
    set(this.button, "aria-pressed", String(pressed));
    set(this.root, "data-kind", view.kind);
    const shown = named(view, info) ?? short(view, info?.decimals);
    if (say(this.value, safe(shown, 64)) && moved) this.flash(row.direction);
    set(this.value, "title", valueTitle(view, shown, info));
    set(this.change, "title", view.channels > 0 ? `Of ${channelName(0, info)}` : undefined);
    say(this.unit, unit(info?.unit) || safe(info?.currency ?? "", 8));
    this.showChange(row);
    this.showQuality(row);
    this.tick();
    if (other || row.version !== this.drawn) this.draw();
  }

  get sparkSize(): { width: number; height: number } {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  draw(): void {
    if (!this.row) return;
    this.drawn = this.row.version;
    spark(this.canvas, this.row.spark, this.ink());
  }

  /** What changes by time alone: age, and whether it is stale. */
  tick(): void {
    if (!this.row) return;
    const { view } = this.row;
    const millis = this.model.now() - view.ingest;
    const expected = this.model.infos.get(view.key)?.expected;
    const stale = expected !== undefined && millis > 3 * expected;
    set(this.root, "data-stale", stale);
    say(this.age, stale ? `stale ${age(millis)}` : age(millis));
    set(this.age, "title", `event time ${new Date(view.event).toISOString()}`);
  }

  private showKey(key: string): void {
    say(this.key, safe(key));
  }

  private showChange({ view, spark: values }: Row): void {
    const first = values[0];
    const known = view.number !== undefined && first !== undefined && values.length > 1;
    const difference = known ? (view.number as number) - first : 0;
    const relative = known && first !== 0 && view.kind !== "reading";
    say(this.difference, known ? change(difference, digitsFor(difference, view.scale)) : "");
    say(this.percent, relative ? ` ${percent((difference / Math.abs(first)) * 100)}` : "");
    set(this.change, "data-direction", known ? Math.sign(difference) : undefined);
  }

  private showQuality({ view }: Row): void {
    const code = view.qualityCode === undefined || view.quality === "good" ? "" : ` ${view.qualityCode}`;
    say(this.quality, QUALITY[view.quality] + code);
    set(this.root, "data-quality", view.quality);
  }

  /** For a moment, without an animation: many of them would keep the page painting all the time. */
  private flash(direction: -1 | 0 | 1): void {
    set(this.value, "data-moved", direction);
    this.moved = performance.now();
  }

  /** Ends the moment. */
  settle(now: number): void {
    if (this.moved === 0 || now - this.moved < MOVED_MILLIS) return;
    this.moved = 0;
    set(this.value, "data-moved", undefined);
  }
}

/** A change is read at a glance: four digits in front of the point leave no need for many behind it. */
function digitsFor(difference: number, scale: number): number {
  const size = Math.abs(difference);
  return Math.min(scale, size >= 100 ? 2 : size >= 10 ? 3 : 4);
}

/** Doubles that are longer than anybody reads lose their tail; the title has all of it. */
function short({ kind, text, number, scale, channels }: View, decimals: number | undefined): string {
  if (channels > 0) return vector(text, decimals);
  if (kind !== "reading" || number === undefined || text.length <= 11 || !Number.isFinite(Number(text))) return text;
  if (decimals !== undefined && decimals < scale) return number.toFixed(decimals);
  return String(Number(number.toPrecision(8)));
}

/** "2 running": an integer with the name that its key has for it. */
function named({ kind, text }: View, info: InfoView | undefined): string | undefined {
  const name = kind === "reading" && info && Object.hasOwn(info.names, text) ? info.names[text] : undefined;
  return name === undefined ? undefined : `${text} ${name}`;
}

/** "[3] 1.2, 3.4, …": how many channels, and the first two. */
function vector(text: string, decimals: number | undefined): string {
  const [head = "", ...rest] = text.split(", ");
  const [size = "", first = ""] = head.split(" ");
  const few = [first, ...rest.slice(0, 1)].map((value) => {
    if (decimals !== undefined) return Number(value).toFixed(decimals);
    return value.length > 8 ? String(Number(Number(value).toPrecision(5))) : value;
  });
  return `${size} ${few.join(", ")}${rest.length > 1 ? ", …" : ""}`;
}

/** All of a value that is shown in short; of a vector each channel with its name. */
function valueTitle({ kind, text, channels }: View, shown: string, info: InfoView | undefined): string | undefined {
  if (kind === "quote") return `bid ${safe(text.replace("×", "× ask"), 200)}`;
  if (channels > 0 && info && info.channels.length > 0) {
    const values = text.slice(text.indexOf(" ") + 1).split(", ");
    return safe(values.map((value, i) => `${channelName(i, info)} ${value}`).join(", "), 2_000);
  }
  return shown !== text || shown.length > 16 ? safe(text, channels > 0 ? 2_000 : 300) : undefined;
}

function channelName(channel: number, info: InfoView | undefined): string {
  return safe(info?.channels[channel] ?? `channel ${channel}`, 40);
}
