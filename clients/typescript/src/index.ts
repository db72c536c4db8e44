// What the package offers.
export type { GapEntry, Loss, Place, Range, Report } from "./account.js";
export { type ClientOptions, RingfeedClient } from "./client.js";
export { compareDecimals, decimalFromString, decimalToNumber, decimalToString, unscaled } from "./decimal.js";
export { BrokenError, describe, type Fault, FaultError } from "./fault.js";
export * from "./generated/ringfeed/v1/catalog_pb.js";
export * from "./generated/ringfeed/v1/feed_pb.js";
export * from "./generated/ringfeed/v1/record_pb.js";
export { type Fresh, Lane, type Reopened } from "./lane.js";
export { Ledger } from "./ledger.js";
export { Backoff, feedOfError, type Retry, reasonOf, retry } from "./retry.js";
export {
  DismissedError,
  type FeedEvent,
  type Selectors,
  type SubscribeOptions,
  Subscription,
} from "./subscription.js";
export { Code, ConnectError } from "@connectrpc/connect";
