// The line above everything: the connection, the fidelity, the colours; and what has to be said aloud.
import type { Pace, StatusView as Status } from "../protocol.js";
import { el, say, set } from "./dom.js";
import type { Model, News } from "./model.js";
import { count, safe } from "./text.js";

const PACES: [Pace, string, string][] = [
  ["full", "All", "Every record"],
  [100, "10/s", "At most ten values a second of each key, the latest"],
  [250, "4/s", "At most four values a second of each key, the latest"],
  [1_000, "1/s", "At most one value a second of each key, the latest"],
  [10_000, "0.1/s", "At most one value in ten seconds of each key, the latest"],
];
/** What browsers say of a server that is not there. */
const UNREACHABLE = /^(Failed to fetch|NetworkError|Load failed|network error)/i;
const THEMES = ["system", "light", "dark"] as const;

export class StatusView {
  readonly root = el("header", { class: "top" });
  readonly notice = el("div", { class: "notice", role: "alert" });
  private readonly state = el("p", { class: "state", role: "status" });
  private readonly account = el("a", { class: "account", href: "#ledger" });
  private readonly paces = new Map<Pace, HTMLInputElement>();
  private readonly token = el("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-why" });
  private readonly whyToken = el("p", { class: "why", id: "token-why" });
  /** What the notice says. */
  private told = "";
  private theme: (typeof THEMES)[number] = "system";

  constructor(
    private readonly model: Model,
    private readonly recolour: () => void,
  ) {
    const name = el("h1", {}, el("span", { class: "logo", "aria-hidden": true }), "ringfeed");
    this.root.append(name, this.state, this.account, this.fidelity(), this.themes());
    this.notice.hidden = true;
    model.listen((news) => this.hear(news));
    setInterval(() => this.show(), 500);
    this.show();
  }

  private fidelity(): HTMLElement {
    const group = el("fieldset", { class: "segments" }, el("legend", {}, "Fidelity"));
    for (const [pace, label, title] of PACES) {
      const input = el("input", { type: "radio", name: "pace", value: String(pace), change: () => this.model.setPace(pace) });
      input.checked = pace === this.model.pace;
      this.paces.set(pace, input);
      group.append(el("label", { title }, input, el("span", {}, label)));
    }
    return group;
  }

  private themes(): HTMLElement {
    this.theme = THEMES.find((theme) => theme === localStorage.getItem("ringfeed.theme")) ?? "system";
    const button = el("button", { type: "button", class: "theme" });
    const apply = () => {
      set(document.documentElement, "data-theme", this.theme === "system" ? undefined : this.theme);
      set(button, "aria-label", `Colours: ${this.theme}`);
      set(button, "title", `Colours: ${this.theme}`);
      set(button, "data-theme-now", this.theme);
      this.recolour();
    };
    button.addEventListener("click", () => {
      this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length] ?? "system";
      localStorage.setItem("ringfeed.theme", this.theme);
      apply();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    queueMicrotask(apply);
    return button;
  }

  private hear(news: ReadonlySet<News>): void {
    if (news.has("status")) {
      this.show();
      this.showNotice();
    }
    if (news.has("ledger")) this.showAccount();
    if (news.has("want")) for (const [pace, input] of this.paces) input.checked = pace === this.model.pace;
  }

  private show(): void {
    const { status } = this.model;
    set(this.state, "data-phase", status.phase);
    set(document.documentElement, "data-phase", status.phase);
    say(this.state, sentence(status));
    const more = [status.reconnects > 0 ? `${count(status.reconnects)} reconnections` : "", status.tabs > 1 ? `${status.tabs} tabs share the connection` : "", safe(status.why)];
    set(this.state, "title", more.filter(Boolean).join("; ") || undefined);
  }

  private showAccount(): void {
    const { ledger } = this.model;
    if (!ledger) return;
    const received = ledger.delivered + ledger.snapshot;
    const missed = ledger.missed > 0n || ledger.gaps > 0 ? `${count(ledger.missed)} missed` : "none missed";
    say(this.account, `${count(received)} received · ${missed}`);
    set(this.account, "data-missed", ledger.gaps > 0);
  }

  private showNotice(): void {
    const { phase, why } = this.model.status;
    // While a token is tried the field stays.
    if (phase === "connecting" && this.notice.dataset.phase === "unauthenticated") return;
    if (phase === "unauthenticated" && this.asks()) return this.sayWhyToken();
    if (phase === this.notice.dataset.phase && why === this.told) return;
    this.told = why;
    this.notice.dataset.phase = phase;
    this.notice.hidden = !["unauthenticated", "refused", "broken"].includes(phase);
    if (phase === "unauthenticated") this.notice.replaceChildren(this.tokenForm());
    else if (phase === "refused") this.notice.replaceChildren(el("p", {}, `The server refuses: ${safe(why, 400)}`));
    else if (phase === "broken") this.notice.replaceChildren(this.broken(why));
    else this.notice.replaceChildren();
  }

  private asks(): boolean {
    return this.notice.dataset.phase === "unauthenticated";
  }

  private sayWhyToken(): void {
    const said = this.model.hasToken ? "The server does not accept this token" : "The server wants a token";
    say(this.whyToken, `${said}: ${safe(this.model.status.why, 300)}`);
  }

  private tokenForm(): HTMLElement {
    const form = el(
      "form",
      { class: "token" },
      el("label", { for: "token" }, "Token"),
      this.token,
      el("button", { type: "submit", class: "primary" }, "Connect"),
      this.whyToken,
    );
    this.token.value = "";
    this.sayWhyToken();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      say(this.whyToken, "Trying this token…");
      this.model.token(this.token.value.trim());
    });
    const typing = document.activeElement instanceof HTMLInputElement;
    if (!typing) queueMicrotask(() => this.token.focus());
    return form;
  }

  private broken(why: string): HTMLElement {
    const text = `What the server sent does not add up, so the page stopped rather than hide a loss: ${safe(why, 400)}`;
    const again = el("button", { type: "button", class: "primary", click: () => this.model.restart() }, "Begin anew");
    return el("p", {}, text, " ", again);
  }
}

function sentence({ phase, why, retryAt, caughtUp }: Status): string {
  const seconds = retryAt === undefined ? 0 : Math.max(0, (retryAt - Date.now()) / 1_000);
  const when = seconds >= 1 ? ` in ${Math.ceil(seconds)} s` : "";
  switch (phase) {
    case "idle":
    case "connecting":
      return "Connecting";
    case "live":
      return caughtUp ? "Live" : "Catching up";
    case "waiting":
      return `Reconnecting${when}: ${UNREACHABLE.test(why) ? "the server cannot be reached" : safe(why, 80)}`;
    case "unauthenticated":
      return "Token wanted";
    case "refused":
      return `Refused, again${when}`;
    case "broken":
      return "Stopped";
  }
}
