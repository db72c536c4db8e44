// The list of feeds: what they carry, how fast, and how full their rings are.
import type { FeedView } from "../protocol.js";
import { el, say, set } from "./dom.js";
import type { Model, News } from "./model.js";
import { age, bytes, count, lasts, rate } from "./text.js";

const EXAMPLE = `echo '{"key":"a","value":1}' | ringfeed ingest sensors`;

interface Entry {
  root: HTMLLIElement;
  update(feed: FeedView): void;
}

export class FeedsView {
  readonly root = el("section", { class: "feeds", "aria-labelledby": "feeds-title" });
  private readonly list = el("ul", { class: "feed-list" });
  private readonly none = el("p", { class: "empty" }, "Waiting for the server…");
  private listed = false;
  private readonly sum = el("span", { class: "sum" });
  private revealed: string | undefined;
  private readonly entries = new Map<string, Entry>();

  constructor(private readonly model: Model) {
    const title = el("h2", { id: "feeds-title" }, "Feeds");
    this.root.append(el("div", { class: "head" }, title, this.sum), this.list, this.none);
    model.listen((news) => this.hear(news));
  }

  /** Where the list goes sideways, the chosen feed is brought in sight. */
  private reveal(): void {
    const chosen = this.model.feed && this.entries.get(this.model.feed)?.root;
    if (!chosen || this.list.scrollWidth <= this.list.clientWidth) return;
    const left = chosen.offsetLeft - this.list.offsetLeft;
    if (left < this.list.scrollLeft || left + chosen.offsetWidth > this.list.scrollLeft + this.list.clientWidth) this.list.scrollLeft = left;
  }

  private hear(news: ReadonlySet<News>): void {
    if (news.has("status") || news.has("feeds")) this.explain(news.has("feeds"));
    if (!news.has("feeds") && !news.has("want")) return;
    const { feeds } = this.model;
    const total = feeds.reduce((sum, feed) => sum + feed.rate, 0);
    say(this.sum, feeds.length > 0 ? `${count(feeds.length)} · ${rate(total)}` : "");
    const names = new Set(feeds.map((feed) => feed.name));
    for (const [name, entry] of this.entries) {
      if (names.has(name)) continue;
      entry.root.remove();
      this.entries.delete(name);
    }
    feeds.forEach((feed, at) => {
      let entry = this.entries.get(feed.name);
      if (!entry) this.entries.set(feed.name, (entry = this.entry(feed.name)));
      if (this.list.children[at] !== entry.root) this.list.insertBefore(entry.root, this.list.children[at] ?? null);
      entry.update(feed);
    });
    if (news.has("want") || this.revealed !== this.model.feed) this.reveal();
    this.revealed = this.model.feed;
  }

  /** Why there is no feed. */
  private explain(listed: boolean): void {
    const { feeds, status, hasToken } = this.model;
    this.listed ||= listed;
    this.none.hidden = feeds.length > 0;
    if (feeds.length > 0) return;
    if (status.phase === "unauthenticated") say(this.none, "Feeds are listed once the server accepts a token.");
    else if (!this.listed) say(this.none, "Waiting for the server…");
    else if (hasToken) say(this.none, "There is no feed that your token may see.");
    else this.none.replaceChildren("No feed yet. Send a record: ", el("code", {}, EXAMPLE));
  }

  private entry(name: string): Entry {
    const kind = el("span", { class: "kind" });
    const speed = el("span", { class: "speed" });
    const facts = el("span", { class: "facts" });
    const fill = el("span", { class: "fill" });
    const ring = el("span", { class: "ring", "aria-hidden": true }, fill);
    const span = el("span", { class: "span" });
    const lasting = el("span", { class: "lasting" });
    const button = el(
      "button",
      { type: "button", class: "feed", click: () => this.model.select(name) },
      el("span", { class: "line" }, el("span", { class: "name" }, name), kind, speed),
      el("span", { class: "line small" }, facts),
      ring,
      el("span", { class: "line small" }, span, lasting),
    );
    const update = (feed: FeedView) => {
      set(button, "aria-current", this.model.feed === name ? "true" : undefined);
      say(kind, feed.kinds.join(", ") || (feed.keys > 0 ? "" : "empty"));
      say(speed, rate(feed.rate));
      say(facts, [plural(feed.keys, "key"), plural(feed.subscribers, "subscriber"), plural(feed.producers, "producer")].join(" · "));
      const part = Math.min(1, feed.bytes / Math.max(1, feed.maxBytes));
      fill.style.width = `${Math.max(part > 0 ? 1.5 : 0, part * 100).toFixed(2)}%`;
      say(span, `${count(feed.oldest)} … ${count(feed.next)}`);
      say(lasting, feed.lasts === undefined ? `${percent(part)} of ${bytes(feed.maxBytes)}` : `lasts ${lasts(feed.lasts)}`);
      const last = feed.lastAppend === undefined ? "nothing yet" : `last record ${age(this.model.now() - feed.lastAppend)} ago`;
      const filled = `${bytes(feed.bytes)} of ${bytes(feed.maxBytes)}, ${percent(part)}`;
      set(button, "title", `oldest offset ${count(feed.oldest)}, next ${count(feed.next)}; ring ${filled}; ${last}`);
    };
    return { root: el("li", {}, button), update };
  }
}

function plural(n: number, one: string): string {
  return `${count(n)} ${one}${n === 1 ? "" : "s"}`;
}

function percent(part: number): string {
  const n = part * 100;
  return n > 0 && n < 1 ? "< 1 %" : `${Math.round(n)} %`;
}
