// What a user of the package writes: last prices of a feed, exactly, and the account of it.
import { decimalToString, RingfeedClient, type Report } from "@ringfeed/client";

const [baseUrl = "", feed = ""] = process.argv.slice(2);
const client = new RingfeedClient({ baseUrl });
const subscription = client.subscribe({
  selectors: { all: { feed, start: { from: { case: "earliest", value: {} } }, end: { at: { case: "now", value: {} } } } },
});
const last: { [key: string]: string } = {};
for await (const event of subscription) {
  if (event.kind !== "records") continue;
  for (const { key, payload } of event.records) {
    if (payload.case === "bar" && payload.value.close) last[key] = decimalToString(payload.value.close);
  }
}
const report: Report | undefined = subscription.ledger.of("all")[0]?.report();
console.log(JSON.stringify({ last, delivered: Number(report?.delivered), whole: report?.whole, balanced: report?.balanced }));
