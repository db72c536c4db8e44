// What can be wrong with a response.

export type Fault =
  | { kind: "hole"; expected: bigint; from: bigint }
  | { kind: "again"; expected: bigint; from: bigint }
  | { kind: "epoch"; expected: bigint; found: bigint }
  | { kind: "range"; from: bigint; to: bigint }
  | { kind: "order"; offset: bigint; from: bigint; to: bigint }
  | { kind: "count"; count: number; found: number }
  | { kind: "early" }
  | { kind: "snapshot" }
  | { kind: "as-of"; expected: bigint; found: bigint }
  | { kind: "lacks"; what: string }
  | { kind: "unknown"; what: string }
  | { kind: "selector"; selector: number }
  | { kind: "feed"; feed: string };

/** A lane throws it; the ledger says whose it is. */
export class FaultError extends Error {
  override readonly name = "FaultError";
  constructor(readonly fault: Fault) {
    super(describe(fault));
  }
}

/** What a server sent does not add up: going on would hide a loss. */
export class BrokenError extends Error {
  override readonly name = "BrokenError";
  constructor(
    readonly selector: string,
    readonly feed: string,
    readonly fault: Fault,
  ) {
    super(`feed ${JSON.stringify(feed)}, selector ${selector}: ${describe(fault)}`);
  }
}

export function describe(fault: Fault): string {
  switch (fault.kind) {
    case "hole":
      return `offsets ${fault.expected}..${fault.from} were skipped without a gap`;
    case "again":
      return `offset ${fault.from} came again, ${fault.expected} was expected`;
    case "epoch":
      return `the epoch went from ${fault.expected} to ${fault.found} without a gap`;
    case "range":
      return `the range ${fault.from}..${fault.to} ends before it begins`;
    case "order":
      return `a record at offset ${fault.offset} lies outside ${fault.from}..${fault.to} or out of order`;
    case "count":
      return `${fault.found} records where ${fault.count} were announced`;
    case "early":
      return "records came before the snapshot was complete";
    case "snapshot":
      return "a snapshot came where none was due";
    case "as-of":
      return `the snapshot was as of offset ${fault.expected} and then as of ${fault.found}`;
    case "lacks":
      return `a response lacks ${fault.what}`;
    case "unknown":
      return `this client does not know ${fault.what}: a newer server? update the client`;
    case "selector":
      return `there is no selector ${fault.selector} in the request`;
    case "feed":
      return `it answers for feed ${JSON.stringify(fault.feed)}`;
  }
}
