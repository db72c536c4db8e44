// The charts that are open.
import { ChartView } from "./chart-view.js";
import { el, say } from "./dom.js";
import type { Model, News } from "./model.js";

const DRAW_MILLIS = 250;

export class ChartsView {
  readonly root = el("section", { class: "charts", "aria-labelledby": "charts-title" });
  private readonly none = el("p", { class: "empty" }, "Choose keys to see their charts.");
  private readonly sum = el("span", { class: "sum" });
  private readonly list = el("div", { class: "chart-list" });
  private due: ReturnType<typeof setTimeout> | undefined;
  private readonly views = new Map<string, ChartView>();

  constructor(private readonly model: Model) {
    const title = el("h2", { id: "charts-title" }, "Charts");
    this.root.append(el("div", { class: "head" }, title, this.sum), this.none, this.list);
    model.listen((news) => this.hear(news));
    new ResizeObserver(() => this.views.forEach((view) => view.resized())).observe(this.list);
  }

  recolour(): void {
    for (const view of this.views.values()) view.recolour();
  }

  /** Bars in progress come often; a chart is drawn a few times a second. */
  private hear(news: ReadonlySet<News>): void {
    if (news.has("want")) this.show();
    else if (news.has("charts") && this.due === undefined) {
      this.due = setTimeout(() => this.show(), DRAW_MILLIS);
    }
  }

  private show(): void {
    clearTimeout(this.due);
    this.due = undefined;
    const { charts } = this.model;
    for (const [id, view] of this.views) {
      if (charts.get(id) === view.history) continue;
      view.destroy();
      this.views.delete(id);
    }
    [...charts].forEach(([id, history], at) => {
      let view = this.views.get(id);
      if (!view) this.views.set(id, (view = new ChartView(this.model, history)));
      if (this.list.children[at] !== view.root) this.list.insertBefore(view.root, this.list.children[at] ?? null);
      view.update();
    });
    this.none.hidden = charts.size > 0;
    say(this.sum, charts.size > 0 ? "times are UTC" : "");
  }
}
