// The engine in a worker: one for all tabs (SharedWorker), or one for this page.
import { Engine } from "./engine.js";

const engine = new Engine();
const scope = globalThis as unknown as {
  onconnect: ((event: MessageEvent) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
};
scope.onconnect = (event) => attach(event);
scope.onmessage = (event) => attach(event);

function attach(event: MessageEvent): void {
  const port = event.ports[0];
  if (port) engine.attach(port);
}
