// Responses as a server sends them.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { GapReason, type Selector, SelectorSchema, type SubscribeResponse, SubscribeResponseSchema } from "@ringfeed/client";

type Event = NonNullable<MessageInitShape<typeof SubscribeResponseSchema>["event"]>;
export const EPOCH = 7n;
const feed = "f";

export function response(event: Event, selector = 0): SubscribeResponse {
  return create(SubscribeResponseSchema, { selector, event });
}

/** Records of from..to; all of them, or these. */
export function records(from: number, to: number, offsets?: number[], epoch = EPOCH): SubscribeResponse {
  const all = offsets ?? Array.from({ length: to - from }, (_, i) => from + i);
  const found = all.map((offset) => ({ key: "k", offset: BigInt(offset) }));
  const covers = { from: BigInt(from), to: BigInt(to) };
  return response({ case: "records", value: { feed, epoch, covers, count: found.length, records: found } });
}

export function gap(from: number, to: number, reason = GapReason.EVICTED): SubscribeResponse {
  const oldest = { feed, epoch: EPOCH, offset: BigInt(to) };
  const value = { feed, epoch: EPOCH, from: BigInt(from), to: BigInt(to), reason, oldest };
  return response({ case: "gap", value });
}

export function epochChanged(from: number, to: { epoch: bigint; offset: number }): SubscribeResponse {
  const oldest = { feed, epoch: to.epoch, offset: BigInt(to.offset) };
  const value = { feed, epoch: EPOCH, from: BigInt(from), to: BigInt(from), reason: GapReason.EPOCH_CHANGED, oldest };
  return response({ case: "gap", value });
}

export function snapshot(asOf: number, ...offsets: number[]): SubscribeResponse {
  const at = { feed, epoch: EPOCH, offset: BigInt(asOf) };
  return response({ case: "snapshot", value: { feed, asOf: at, records: offsets.map((o) => ({ key: `k${o}`, offset: BigInt(o) })) } });
}

export function complete(asOf: number): SubscribeResponse {
  return response({ case: "snapshotComplete", value: { asOf: { feed, epoch: EPOCH, offset: BigInt(asOf) } } });
}

export function caughtUp(next: number, resumeToken = ""): SubscribeResponse {
  return response({ case: "caughtUp", value: { next: { feed, epoch: EPOCH, offset: BigInt(next) }, resumeToken } });
}

export function heartbeat(at: number, resumeToken = ""): SubscribeResponse {
  const cursor = { feed, epoch: EPOCH, offset: BigInt(at) };
  return response({ case: "heartbeat", value: { cursor, next: cursor, oldest: cursor, resumeToken } });
}

export function bars(from: number, to: number): SubscribeResponse {
  const covers = { from: BigInt(from), to: BigInt(to) };
  return response({ case: "bars", value: { feed, epoch: EPOCH, covers, bars: [{ key: "k" }] } });
}

export function selector(init: MessageInitShape<typeof SelectorSchema> = {}): Selector {
  return create(SelectorSchema, { feed, ...init });
}
