// When to try again, and after how long.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, type ConnectError } from "@connectrpc/connect";

const FIRST_MILLIS = 50;
const MAX_MILLIS = 5_000;

/** What to do about a failed call: nothing, a backoff, or what the server says. */
export type Retry = "never" | "backoff" | { afterMillis: number };

/**
 * Whether a call that failed may be made again. Transport errors come as Unknown, Unavailable,
 * Internal or Canceled, so those are tried again; what a server refuses is not.
 */
export function retry(error: ConnectError): Retry {
  const after = retryAfterMillis(error);
  switch (error.code) {
    case Code.Aborted:
    case Code.Canceled:
    case Code.DeadlineExceeded:
    case Code.Internal:
    case Code.Unavailable:
    case Code.Unknown:
      return after === undefined ? "backoff" : { afterMillis: after };
    // Without a time it is a limit that waiting does not lift.
    case Code.ResourceExhausted:
      return after === undefined ? "never" : { afterMillis: after };
    default:
      return "never";
  }
}

/** The stable reason of a failure, for instance "UNKNOWN_FEED"; undefined when none was given. */
export function reasonOf(error: ConnectError): string | undefined {
  return errorInfo(error).reason;
}

/** Of which feed the failure speaks, if of one: what is not there, or what the caller may not do. */
export function feedOfError(error: ConnectError): string | undefined {
  const resource = texts(detail(error, "google.rpc.ResourceInfo"));
  return resource.get(1) === "feed" ? resource.get(2) : errorInfo(error).facts.get("feed");
}

/** google.rpc.ErrorInfo: reason = 1, metadata = 3, a map whose entries are key = 1, value = 2. */
function errorInfo(error: ConnectError): { reason: string | undefined; facts: Map<string, string> } {
  const facts = new Map<string, string>();
  const bytes = detail(error, "google.rpc.ErrorInfo");
  const reader = new BinaryReader(bytes ?? new Uint8Array());
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field !== 3) reader.skip(wire, field);
    else {
      const entry = texts(reader.bytes());
      facts.set(entry.get(1) ?? "", entry.get(2) ?? "");
    }
  }
  return { reason: texts(bytes).get(1), facts };
}

/** The length-delimited fields of a message by their numbers, as texts; the last of each counts. */
function texts(bytes: Uint8Array | undefined): Map<number, string> {
  const found = new Map<number, string>();
  const reader = new BinaryReader(bytes ?? new Uint8Array());
  const decoder = new TextDecoder();
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (wire === WireType.LengthDelimited) found.set(field, decoder.decode(reader.bytes()));
    else reader.skip(wire, field);
  }
  return found;
}

function retryAfterMillis(error: ConnectError): number | undefined {
  const bytes = detail(error, "google.rpc.RetryInfo");
  if (!bytes) return undefined;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === 1) return durationMillis(new BinaryReader(reader.bytes()));
    reader.skip(wire, field);
  }
  return 0;
}

function durationMillis(reader: BinaryReader): number {
  let millis = 0;
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === 1) millis += Number(reader.int64()) * 1_000;
    else if (field === 2) millis += reader.int32() / 1_000_000;
    else reader.skip(wire, field);
  }
  return millis;
}

function detail(error: ConnectError, type: string): Uint8Array | undefined {
  for (const found of error.details) {
    if ("type" in found && found.type === type && found.value instanceof Uint8Array) {
      return found.value;
    }
  }
  return undefined;
}

/** Exponential backoff with full jitter: between nothing and 50 ms, 100 ms, .. 5 s. */
export class Backoff {
  private attempt = 0;
  constructor(private readonly random: () => number = Math.random) {}

  /** Something moved: begin anew. */
  reset(): void {
    this.attempt = 0;
  }

  /** The time to wait; undefined when waiting makes no sense. */
  delayMillis(retry: Retry): number | undefined {
    if (retry === "never") return undefined;
    // On top of the server's own time, so that those it told the same do not come back at once.
    if (retry !== "backoff") return retry.afterMillis + FIRST_MILLIS * this.random();
    const ceiling = Math.min(FIRST_MILLIS * 2 ** Math.min(this.attempt, 16), MAX_MILLIS);
    this.attempt += 1;
    return ceiling * this.random();
  }
}
