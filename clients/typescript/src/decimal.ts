// Exact decimals, as record.proto defines them: (high * 2^64 + units) / 10^scale.
import { create } from "@bufbuild/protobuf";
import { type Decimal, DecimalSchema } from "./generated/ringfeed/v1/record_pb.js";

const LIMIT = 1n << 96n;
const MAX_SCALE = 28;

/** All digits of it, without the point. */
export function unscaled(decimal: Decimal): bigint {
  return (decimal.high << 64n) + decimal.units;
}

/** Its text, scale included: 0.10000000 stays 0.10000000. */
export function decimalToString(decimal: Decimal): string {
  const digits = unscaled(decimal);
  if (decimal.scale === 0) return digits.toString();
  const sign = digits < 0n ? "-" : "";
  const text = (digits < 0n ? -digits : digits).toString().padStart(decimal.scale + 1, "0");
  const point = text.length - decimal.scale;
  return `${sign}${text.slice(0, point)}.${text.slice(point)}`;
}

/** The nearest double. */
export function decimalToNumber(decimal: Decimal): number {
  // Text is rounded once; a division of two rounded numbers would round three times.
  return Number(decimalToString(decimal));
}

/** Reads "-12.50". Throws a RangeError for what is no plain decimal or has too many digits. */
export function decimalFromString(text: string): Decimal {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) throw new RangeError(`${JSON.stringify(text)} is no decimal; write for instance -12.50`);
  const [, sign, whole = "", fraction = ""] = match;
  const magnitude = BigInt(whole + fraction);
  if (magnitude >= LIMIT || fraction.length > MAX_SCALE) {
    throw new RangeError(`${text} has more digits than a decimal may have`);
  }
  const digits = sign ? -magnitude : magnitude;
  const units = BigInt.asIntN(64, digits);
  return create(DecimalSchema, { units, high: (digits - units) >> 64n, scale: fraction.length });
}

/** Below 0 when a is less than b, 0 when they are the same number. */
export function compareDecimals(a: Decimal, b: Decimal): number {
  const scale = Math.max(a.scale, b.scale);
  const at = (d: Decimal) => unscaled(d) * 10n ** BigInt(scale - d.scale);
  const difference = at(a) - at(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}
