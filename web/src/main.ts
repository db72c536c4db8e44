// The page: puts the views together.
import "uplot/dist/uPlot.min.css";
import "./style/fonts.css";
import "./style/base.css";
import "./style/parts.css";
import { ChartsView } from "./page/charts-view.js";
import { el } from "./page/dom.js";
import { FeedsView } from "./page/feeds-view.js";
import { LedgerView } from "./page/ledger-view.js";
import { Model } from "./page/model.js";
import { StatusView } from "./page/status-view.js";
import { TableView } from "./page/table-view.js";

const app = document.getElementById("app");
if (!app) throw new Error("the page has no place for itself");

const model = new Model();
const feeds = new FeedsView(model);
const table = new TableView(model);
const charts = new ChartsView(model);
const ledger = new LedgerView(model);
const status = new StatusView(model, () => {
  table.recolour();
  charts.recolour();
});
const side = el("div", { class: "side" }, feeds.root, ledger.root);
app.replaceChildren(status.root, status.notice, el("main", {}, side, table.root, charts.root));

addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.matches("input:not([type=radio]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    table.focusFilter();
  } else if (event.key === "p") table.togglePause();
});
