import assert from "node:assert/strict";
import { test } from "node:test";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, feedOfError, reasonOf } from "@ringfeed/client";

/** A message of texts and messages by their field numbers. */
function message(...fields: [number: number, value: string | Uint8Array][]): Uint8Array {
  const writer = new BinaryWriter();
  for (const [number, value] of fields) {
    writer.tag(number, WireType.LengthDelimited);
    if (typeof value === "string") writer.string(value);
    else writer.bytes(value);
  }
  return writer.finish();
}

function refused(...details: [type: string, value: Uint8Array][]): ConnectError {
  const error = new ConnectError("refused", Code.PermissionDenied);
  error.details.push(...details.map(([type, value]) => ({ type, value })));
  return error;
}

const action = message([1, "action"], [2, "subscribe"]);
const denied = message([1, "PERMISSION_DENIED"], [2, "ringfeed"], [3, action], [3, message([1, "feed"], [2, "prices"])]);

test("a refusal says its reason and of which feed it speaks", () => {
  const error = refused(["google.rpc.ErrorInfo", denied]);
  assert.deepEqual([reasonOf(error), feedOfError(error)], ["PERMISSION_DENIED", "prices"]);
});

test("what is not there is named by its kind", () => {
  const unknown = message([1, "UNKNOWN_FEED"], [2, "ringfeed"]);
  const error = refused(["google.rpc.ErrorInfo", unknown], ["google.rpc.ResourceInfo", message([1, "feed"], [2, "sensors"])]);
  assert.deepEqual([reasonOf(error), feedOfError(error)], ["UNKNOWN_FEED", "sensors"]);
  assert.equal(feedOfError(refused(["google.rpc.ResourceInfo", message([1, "key"], [2, "sensors"])])), undefined);
});

test("an error without details has neither", () => {
  assert.deepEqual([reasonOf(refused()), feedOfError(refused())], [undefined, undefined]);
});
