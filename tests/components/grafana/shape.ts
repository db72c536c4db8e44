// What Grafana's published types say of a dashboard, with what they leave open closed: which options
// belong to which kind of panel, and what is asked of a data source. Enums stand in JSON as values.
import type {
  Dashboard, DataQuery, DataSourceRef, FieldConfig, FieldConfigSource, Panel, RowPanel, VariableModel,
} from "@grafana/schema";
import type * as candlestick from "./node_modules/@grafana/schema/dist/types/raw/composable/candlestick/panelcfg/x/CandlestickPanelCfg_types.gen";
import type * as stat from "./node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "./node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "./node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Plain<T> = unknown extends T ? T
  : T extends string ? `${T}`
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never)
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
/** Without index signatures: any name would do. */
type Named<T> = { [K in keyof T as string extends K ? never : K]: T[K] };

// Grafana's names of units are part of its code; these are the ones in use here.
type Unit = "short" | "s" | "bytes" | "Bps" | "cps" | "reqps" | "percentunit";

interface Source<T extends string> extends DataSourceRef { type: T; uid: string }
type Prometheus = Source<"prometheus"> & { uid: "${datasource}" };
type Infinity = Source<"yesoreyeram-infinity-datasource"> & { uid: "${json}" };

interface PrometheusQuery extends DataQuery {
  datasource: Prometheus;
  expr: string;
  legendFormat: string;
}
interface InfinityRequest {
  type: "json";
  source: "url";
  parser: "backend";
  format: "table" | "timeseries";
  url: `/v1/feeds${string}`;
  url_options: { method: "GET"; data: ""; params: { key: string; value: string }[] };
  root_selector: string;
  columns: { selector: string; text: string; type: "string" | "number" | "timestamp" }[];
  filters: [];
}
interface InfinityQuery extends DataQuery, InfinityRequest {
  datasource: Infinity;
}

interface Fields<Custom> extends Omit<FieldConfigSource, "defaults" | "overrides"> {
  defaults: Omit<FieldConfig, "custom" | "unit"> & { unit?: Unit; custom?: Named<Custom> };
  overrides: {
    matcher: { id: "byName"; options: string };
    properties: { [K in keyof Named<Custom> & string]: { id: `custom.${K}`; value: Named<Custom>[K] } }[keyof Named<Custom> & string][];
  }[];
}
interface Of<Type extends string, Options, Custom, Query extends { datasource: unknown }>
  extends Omit<Panel, "type" | "options" | "fieldConfig" | "targets" | "datasource"> {
  id: number;
  type: Type;
  title: string;
  description: string;
  datasource: Query["datasource"];
  gridPos: NonNullable<Panel["gridPos"]>;
  targets: Query[];
  options: Options;
  fieldConfig: Fields<Custom>;
}
type AnyPanel =
  | Omit<RowPanel, "panels"> & { panels: [] }
  | Of<"stat", stat.Options, {}, PrometheusQuery>
  | Of<"timeseries", timeseries.Options, timeseries.FieldConfig, PrometheusQuery>
  | Of<"timeseries", timeseries.Options, timeseries.FieldConfig, InfinityQuery>
  | Of<"candlestick", candlestick.Options, candlestick.FieldConfig, InfinityQuery>
  | Of<"table", table.Options, { align?: string }, InfinityQuery>;

type Variable = Omit<VariableModel, "query" | "type"> & (
  | { type: "datasource"; query: "prometheus" | "yesoreyeram-infinity-datasource" }
  | { type: "custom"; query: string }
  | { type: "query"; datasource: Prometheus; definition: string; query: { query: string; refId: string } }
  | { type: "query"; datasource: Infinity; query: { queryType: "infinity"; refId: string; infinityQuery: InfinityRequest & { refId: string } } }
);

export type Board = Plain<Omit<Dashboard, "panels" | "templating"> & {
  uid: string;
  title: string;
  panels: AnyPanel[];
  templating: { list: Variable[] };
}>;
