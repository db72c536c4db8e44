// The page's way to the engine: in a worker that all tabs share, else in one of its own, else right here.
import type { Delta, ToEngine } from "../protocol.js";

/** Between two pulls: a screen needs no more. */
const PULL_MILLIS = 100;
const TOKEN = "ringfeed.token";

export class Link {
  private port: MessagePort;
  private heard = false;
  /** What is wanted, for another engine if this one cannot be loaded. */
  private wanted: ToEngine | undefined;

  constructor(private readonly take: (delta: Delta) => void) {
    this.port = this.open();
    addEventListener("pagehide", () => this.send({ type: "bye" }));
    // A page that comes back from the browser's memory has said goodbye.
    addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  send(message: ToEngine): void {
    if (message.type === "want") this.wanted = message;
    this.port.postMessage(message);
  }

  get hasToken(): boolean {
    return sessionStorage.getItem(TOKEN) !== null;
  }

  /** Kept for this tab only, until it is closed. */
  token(token: string): void {
    if (token) sessionStorage.setItem(TOKEN, token);
    else sessionStorage.removeItem(TOKEN);
    this.send({ type: "token", token: token || undefined });
  }

  private open(): MessagePort {
    try {
      if ("SharedWorker" in window) return this.greet(this.shared());
      return this.greet(this.own());
    } catch {
      return this.greet(this.here());
    }
  }

  private shared(): MessagePort {
    const worker = new SharedWorker(new URL("../engine/worker.ts", import.meta.url), { type: "module", name: "ringfeed" });
    worker.onerror = () => this.fallBack();
    return worker.port;
  }

  private own(): MessagePort {
    const worker = new Worker(new URL("../engine/worker.ts", import.meta.url), { type: "module", name: "ringfeed" });
    const { port1, port2 } = new MessageChannel();
    worker.onerror = () => this.fallBack();
    worker.postMessage(undefined, [port2]);
    return port1;
  }

  private here(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    void import("../engine/engine.js").then(({ Engine }) => new Engine().attach(port2));
    return port1;
  }

  /** A worker that was never heard of cannot be loaded. */
  private fallBack(): void {
    if (this.heard) return;
    this.port = this.greet(this.here());
    if (this.wanted) this.send(this.wanted);
  }

  private greet(port: MessagePort): MessagePort {
    port.onmessage = (event: MessageEvent<Delta>) => {
      this.heard = true;
      this.take(event.data);
      this.pullLater();
    };
    const base = new URL(".", location.href).href.replace(/\/$/, "");
    const token = sessionStorage.getItem(TOKEN) ?? undefined;
    port.postMessage({ type: "hello", base, token });
    live(port);
    port.postMessage({ type: "pull" });
    return port;
  }

  /** Frames are not drawn while the page is hidden, so it is not sent anything then. */
  private pullLater(): void {
    const due = performance.now() + PULL_MILLIS;
    const frame = () => {
      if (performance.now() < due) requestAnimationFrame(frame);
      else this.send({ type: "pull" });
    };
    requestAnimationFrame(frame);
  }
}

/** Holds a lock for as long as the page lives, and says so once it does. */
function live(port: MessagePort): void {
  if (!("locks" in navigator)) return;
  const name = `ringfeed-${crypto.randomUUID()}`;
  void navigator.locks.request(name, () => {
    port.postMessage({ type: "lock", name });
    return new Promise(() => {});
  });
}
