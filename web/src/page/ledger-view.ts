// The account: what was received, what was left out on purpose, what is missing and why.
import type { LaneView, LossView } from "../protocol.js";
import { el, say, set } from "./dom.js";
import type { Model, News } from "./model.js";
import { count, safe } from "./text.js";

/** What a reason means to who reads it. */
const REASONS: { [reason: string]: string } = {
  EVICTED: "overwritten before they were read",
  TRIMMED: "trimmed by an operator",
  JUMPED: "jumped over by the slow policy",
  LOST: "lost by an unclean stop before they were durable",
  CORRUPT: "their block is damaged",
  EPOCH_CHANGED: "the feed was created anew",
};

export class LedgerView {
  readonly root = el("section", { class: "ledger", id: "ledger", "aria-labelledby": "ledger-title" });
  private readonly verdict = el("span", { class: "sum" });
  private readonly figures = el("dl");
  private readonly lanes = el("tbody");
  private readonly losses = el("ul", { class: "losses" });
  private readonly values = new Map<string, HTMLElement>();

  constructor(private readonly model: Model) {
    const title = el("h2", { id: "ledger-title" }, "Ledger");
    const heads = ["Of", "From", "Next", "Received", "Left out", "Missed"].map((label, i) => el("th", { scope: "col", class: i > 0 ? "num" : "" }, label));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), this.lanes);
    const scroll = el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "The account of each selector" }, table);
    const details = el("details", {}, el("summary", {}, "By selector"), scroll);
    this.root.append(el("div", { class: "head" }, title, this.verdict), this.figures, this.losses, details);
    this.figure("delivered", "Received", "records that came live or from the ring");
    this.figure("snapshot", "In snapshots", "last values the page began with");
    this.figure("leftOut", "Left out", "offsets that the fidelity or the chosen keys leave out");
    this.figure("missed", "Missed", "offsets that did not come, with their reasons below");
    this.figure("reconnects", "Reconnections", "streams that were lost and gone on with");
    model.listen((news) => this.hear(news));
  }

  private figure(id: string, label: string, title: string): void {
    const value = el("dd", { class: "num", "data-figure": id }, "0");
    this.values.set(id, value);
    this.figures.append(el("div", { title }, el("dt", {}, label), value));
  }

  private hear(news: ReadonlySet<News>): void {
    const { ledger, status } = this.model;
    if (!news.has("ledger") || !ledger) return;
    for (const id of ["delivered", "snapshot", "leftOut", "missed"] as const) {
      say(this.values.get(id) as HTMLElement, count(ledger[id]));
    }
    say(this.values.get("reconnects") as HTMLElement, count(status.reconnects));
    say(this.verdict, ledger.balanced ? "balanced" : "NOT balanced");
    set(this.root, "data-balanced", String(ledger.balanced));
    set(this.root, "data-missed", ledger.gaps > 0);
    this.lanes.replaceChildren(...ledger.lanes.map(lane));
    const more = ledger.gaps - ledger.losses.length;
    const shown = ledger.losses.slice(0, 20).map(loss);
    if (more > 0) shown.push(el("li", {}, `and ${count(more)} earlier gaps`));
    this.losses.replaceChildren(...shown);
  }
}

function lane({ what, feed, start, next, delivered, leftOut, missed, balanced }: LaneView): HTMLElement {
  const cell = (n: bigint | undefined) => el("td", { class: "num" }, n === undefined ? "–" : count(n));
  const name = el("th", { scope: "row" }, el("bdi", {}, `${feed}, ${safe(what, 60)}`));
  const row = el("tr", { "data-balanced": String(balanced) }, name, cell(start), cell(next));
  row.append(cell(delivered), cell(leftOut), cell(missed));
  return row;
}

function loss({ at, feed, reason, from, to, count: known }: LossView): HTMLElement {
  const when = new Date(at).toISOString().slice(11, 19);
  const span = `${count(known ?? to - from)} records, offsets ${count(from)} … ${count(to)}`;
  const text = reason === "EPOCH_CHANGED" ? "" : `${span}: `;
  return el("li", {}, el("b", {}, `Gap ${reason}`), ` ${feed} at ${when}: ${text}${REASONS[reason] ?? ""}`);
}
