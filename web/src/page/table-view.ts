// The keys of a feed. Only rows that can be seen are in the page, so 100,000 keys cost no more than 30.
// It holds still while somebody reads it: with the pointer on it, the focus in it, or the button.
import { el, say, set } from "./dom.js";
import type { Model, News, Row } from "./model.js";
import { RowView } from "./row-view.js";
import type { SparkInk } from "./spark.js";
import { count, safe } from "./text.js";

type Column = "key" | "value" | "change" | "quality" | "age";

/** Between two drawings of the values. */
const DRAW_MILLIS = 200;
const EXTRA_ROWS = 4;

export class TableView {
  readonly root = el("section", { class: "keys", id: "keys", "aria-labelledby": "keys-title", tabindex: -1 });
  private readonly title = el("h2", { id: "keys-title" });
  private readonly shown = el("span", { class: "sum" });
  private readonly filter = el("input", { type: "search", placeholder: "Filter keys", "aria-label": "Filter keys", autocomplete: "off", spellcheck: "false" });
  private readonly pause = el("button", { type: "button", class: "pause", "aria-pressed": "false" }, "Pause");
  private readonly narrowed = el("p", { class: "narrowed" });
  private readonly held = el("p", { class: "held", role: "status" });
  private readonly scroller = el("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": "Keys, scrollable" });
  private readonly table = el("table", { "aria-labelledby": "keys-title" });
  private readonly body = el("tbody");
  private readonly above = el("tr", { class: "spacer", "aria-hidden": true }, el("td"));
  private readonly below = el("tr", { class: "spacer", "aria-hidden": true }, el("td"));
  private readonly none = el("p", { class: "empty" });
  private readonly heads = new Map<Column, HTMLTableCellElement>();
  private pool: RowView[] = [];
  private rows: Row[] = [];
  private sort: { by: Column; direction: 1 | -1 } = { by: "key", direction: 1 };
  /** Where each row is by its key. */
  private places = new Map<string, number>();
  private placed: Map<string, Row> | undefined;
  private hovered = false;
  private focused = false;
  private pinned = false;
  private waiting = 0;
  private dirty = false;
  private height = 0;
  private free = 0;
  private ink: SparkInk = { line: "#888", dot: "#888", width: 0, height: 0 };

  constructor(private readonly model: Model) {
    this.build();
    model.listen((news) => this.hear(news));
    new ResizeObserver(() => this.resized()).observe(this.scroller);
    setInterval(() => this.tick(), DRAW_MILLIS);
    setInterval(() => this.pool.forEach((row) => row.id !== undefined && !this.isHeld && row.tick()), 1_000);
  }

  /** The colours changed. */
  recolour(): void {
    const style = getComputedStyle(this.root);
    this.ink = { ...this.ink, line: style.getPropertyValue("--spark"), dot: style.getPropertyValue("--accent") };
    for (const row of this.pool) row.draw();
  }

  get isHeld(): boolean {
    return this.pinned || this.hovered || this.focused;
  }

  togglePause(): void {
    this.pinned = !this.pinned;
    set(this.pause, "aria-pressed", String(this.pinned));
    this.release();
  }

  focusFilter(): void {
    this.filter.focus();
  }

  private build(): void {
    const head = el("tr", { "aria-rowindex": 1 });
    const column = (label: string, name: string, sorts?: Column, title?: string) => {
      const cell = el("th", { scope: "col", class: name, title });
      if (sorts) {
        cell.append(el("button", { type: "button", click: () => this.sortBy(sorts) }, label));
        this.heads.set(sorts, cell);
      } else cell.append(label);
      head.append(cell);
    };
    column("Key", "key", "key");
    column("Last", "value num", "value");
    column("Unit", "unit");
    column("Change", "change num", "change", "Since the left end of the trend");
    column("Trend", "trend", undefined, "The last 48 values");
    column("Quality", "quality", "quality");
    column("Age", "age num", "age");
    this.body.append(this.above, this.below);
    this.table.append(el("thead", {}, head), this.body);
    this.scroller.append(this.table, this.none);
    const tools = el("div", { class: "tools" }, this.filter, this.pause);
    this.root.append(el("div", { class: "head" }, this.title, this.shown, tools), this.narrowed, this.held, this.scroller);
    this.filter.addEventListener("input", () => this.refresh());
    this.pause.addEventListener("click", () => this.togglePause());
    this.scroller.addEventListener("scroll", () => this.place(), { passive: true });
    this.body.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.hover(true));
    this.body.addEventListener("pointerleave", () => this.hover(false));
    this.body.addEventListener("focusin", (event) => {
      this.focused = event.target instanceof Element && event.target.matches(":focus-visible");
    });
    this.body.addEventListener("focusout", () => {
      this.focused = false;
      this.release();
    });
    this.body.addEventListener("keydown", (event) => this.walk(event));
    this.showSort();
  }

  private hear(news: ReadonlySet<News>): void {
    if (news.has("want") || (news.has("status") && this.rows.length === 0)) {
      this.refresh();
      this.waiting = 0;
    } else if (news.has("values")) {
      this.dirty = true;
      if (this.isHeld) this.waiting += 1;
    }
  }

  private hover(hovered: boolean): void {
    this.hovered = hovered;
    if (!hovered) this.release();
  }

  private release(): void {
    if (!this.isHeld) this.waiting = 0;
    this.tick();
  }

  private tick(): void {
    const why = this.pinned ? "Paused" : this.isHeld ? "Held while you read" : "";
    const waiting = this.waiting > 0 ? `, ${count(this.waiting)} update${this.waiting === 1 ? "" : "s"} waiting` : "";
    say(this.held, why + (why ? waiting : ""));
    set(this.root, "data-held", this.isHeld);
    if (this.dirty && !this.isHeld) this.refresh();
    const now = performance.now();
    for (const row of this.pool) row.settle(now);
  }

  /** Takes what there is: which rows, in which order, and draws them. */
  private refresh(): void {
    this.dirty = false;
    const { feed, rows, narrowed } = this.model;
    say(this.title, feed ?? "Keys");
    this.narrowed.hidden = narrowed.length === 0;
    say(this.narrowed, `Your token allows only keys that match ${safe(narrowed.join(", "), 200)}.`);
    const wanted = this.filter.value.trim().toLowerCase();
    if (this.places.size !== rows.size || this.placed !== rows) this.order(rows);
    this.rows = [...rows.values()].filter((row) => this.matches(row, wanted));
    this.rows.sort((a, b) => this.compare(a, b));
    const of = this.rows.length === rows.size ? "" : ` of ${count(rows.size)}`;
    const keys = rows.size === 1 ? "key" : "keys";
    say(this.shown, feed ? `${count(this.rows.length)}${of} ${keys}` : "");
    this.none.hidden = this.rows.length > 0;
    say(this.none, rows.size > 0 ? "No key matches the filter." : this.emptiness());
    set(this.table, "aria-rowcount", this.rows.length + 1);
    set(this.root, "data-quality", this.rows.some((row) => row.view.quality !== "good"));
    set(this.root, "data-wide", this.rows.some(({ view }) => ["quote", "status"].includes(view.kind) || view.channels > 0));
    set(this.root, "data-stale", this.rows.some((row) => this.isStale(row)));
    set(this.root, "data-relative", this.rows.some((row) => row.view.kind !== "reading" && row.view.kind !== "status"));
    this.place();
  }

  /** Why there is no key. */
  private emptiness(): string {
    const { feed, status, feeds } = this.model;
    if (status.phase === "unauthenticated") return "Keys are shown once the server accepts a token.";
    if (!feed) return "";
    if (status.phase === "refused") return "The server does not give out this feed.";
    if (!status.caughtUp) return "Waiting for the server…";
    const known = feeds.find(({ name }) => name === feed);
    return known && known.next > 0n ? "No key of this feed has a value." : "No record came yet.";
  }

  private isStale({ view }: Row): boolean {
    const expected = this.model.infos.get(view.key)?.expected;
    return expected !== undefined && this.model.now() - view.ingest > 3 * expected;
  }

  /** Keys as people count: pi2 before pi10. Keys only come and go, so this is rare. */
  private order(rows: Map<string, Row>): void {
    const collator = new Intl.Collator("en", { numeric: true });
    const sorted = [...rows.values()].sort((a, b) => collator.compare(a.view.key, b.view.key) || collator.compare(a.view.kind, b.view.kind));
    this.places = new Map(sorted.map((row, i) => [row.id, i]));
    this.placed = rows;
  }

  private matches({ view }: Row, wanted: string): boolean {
    if (!wanted) return true;
    const name = this.model.infos.get(view.key)?.name ?? "";
    const text = `${view.key} ${name}`.toLowerCase();
    return wanted.split(/\s+/).every((word) => text.includes(word));
  }

  private compare(a: Row, b: Row): number {
    const { by, direction } = this.sort;
    const order = (this.places.get(a.id) ?? 0) - (this.places.get(b.id) ?? 0);
    if (by === "key") return direction * order;
    const difference = measure(a, by) - measure(b, by);
    return difference ? direction * difference : order;
  }

  private sortBy(by: Column): void {
    const first = by === "key" ? 1 : -1;
    this.sort = { by, direction: this.sort.by === by ? (-this.sort.direction as 1 | -1) : first };
    this.showSort();
    this.refresh();
  }

  private showSort(): void {
    for (const [column, cell] of this.heads) {
      const order = this.sort.direction > 0 ? "ascending" : "descending";
      set(cell, "aria-sort", column === this.sort.by ? order : undefined);
    }
  }

  private resized(): void {
    this.height = 0;
    this.free = this.scroller.clientHeight;
    this.place();
    for (const row of this.pool) row.draw();
  }

  /** Draws the rows that can be seen. */
  private place(): void {
    if (this.height === 0) this.measureRow();
    const { height } = this;
    const free = this.free || innerHeight;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / height) - EXTRA_ROWS);
    const last = Math.min(this.rows.length, first + Math.ceil(free / height) + 2 * EXTRA_ROWS);
    while (this.pool.length < last - first) this.grow();
    this.pool.forEach((row, i) => {
      const index = first + i;
      const shown = this.rows[index];
      row.root.hidden = index >= last || !shown;
      if (index < last && shown) row.show(shown, index);
    });
    (this.above.firstChild as HTMLElement).style.height = `${first * height}px`;
    (this.below.firstChild as HTMLElement).style.height = `${Math.max(0, this.rows.length - last) * height}px`;
  }

  private grow(): void {
    const row = new RowView(this.model, () => this.ink);
    this.pool.push(row);
    this.below.before(row.root);
  }

  private measureRow(): void {
    if (this.pool.length === 0) this.grow();
    const row = this.pool[0] as RowView;
    const { hidden } = row.root;
    row.root.hidden = false;
    this.height = row.root.getBoundingClientRect().height || 30;
    this.ink = { ...this.ink, ...row.sparkSize };
    row.root.hidden = hidden;
  }

  /** Arrows go from key to key. */
  private walk(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = (event.target as Element).closest("tr");
    if (!step || !row) return;
    event.preventDefault();
    const at = Number(row.getAttribute("aria-rowindex")) - 2 + step;
    const top = at * this.height;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    const bottom = top + 3 * this.height - this.scroller.clientHeight;
    if (bottom > this.scroller.scrollTop) this.scroller.scrollTop = bottom;
    this.place();
    const next = this.body.querySelector<HTMLElement>(`tr[aria-rowindex="${at + 2}"]:not([hidden]) button`);
    next?.focus();
  }
}

function measure({ view, spark }: Row, by: Column): number {
  switch (by) {
    case "change":
      return (view.number ?? 0) - (spark[0] ?? view.number ?? 0);
    case "quality":
      return { good: 0, uncertain: 1, bad: 2 }[view.quality];
    case "age":
      return -view.ingest;
    default:
      return view.number ?? -Infinity;
  }
}
