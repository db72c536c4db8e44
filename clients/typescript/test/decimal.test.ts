import assert from "node:assert/strict";
import { test } from "node:test";
import { compareDecimals, decimalFromString, decimalToNumber, decimalToString } from "@ringfeed/client";

test("a decimal comes out as it went in, scale included", () => {
  for (const text of ["0", "-0.10000000", "430.47", "79228162514264337593543950335", "-7922816251426433759354395.0335", "0.0000000000000000000000000001", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616"]) {
    const expected = text === "-0" ? "0" : text;
    assert.equal(decimalToString(decimalFromString(text)), expected);
  }
});

test("units are the low 64 bits and high the rest, as record.proto says", () => {
  const { units, high, scale } = decimalFromString("-7922816251426433759354395.0335");
  assert.equal((high << 64n) + units, -79228162514264337593543950335n);
  assert.equal(scale, 4);
  assert.ok(units >= -(1n << 63n) && units < 1n << 63n);
  assert.equal(decimalFromString("430.47").high, 0n);
});

test("what is no decimal is refused", () => {
  for (const text of ["", ".5", "1.", "1e3", "+1", " 1", "1,5", "NaN", "79228162514264337593543950336", "0.00000000000000000000000000001"]) {
    assert.throws(() => decimalFromString(text), RangeError, text);
  }
});

test("numbers are the nearest doubles, and compare by value", () => {
  assert.equal(decimalToNumber(decimalFromString("0.1")), 0.1);
  assert.equal(decimalToNumber(decimalFromString("9007199254740993.0")), 9007199254740992);
  const sign = (a: string, b: string) => compareDecimals(decimalFromString(a), decimalFromString(b));
  assert.equal(sign("1.10", "1.1"), 0);
  assert.equal(sign("-2", "1.999"), -1);
  assert.equal(sign("79228162514264337593543950335", "79228162514264337593543950334"), 1);
});
