// Text for people. Names come from anybody who may upload, so what would hide, reorder or break a
// line is shown by its code point; elements get it as text, never as markup.

/**
 * Controls, formats such as bidirectional marks, line separators, everything that fonts draw nothing
 * for, spaces that look like the usual one, and code points that mean nothing.
 */
const HOSTILE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;

/** Harmless, and different for different texts. */
export function safe(text: string, longest = 256): string {
  const shown = text.replace(HOSTILE, (found) => {
    const point = found.codePointAt(0) ?? 0;
    return `⟨${point.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
  return shown.length > longest ? `${shown.slice(0, longest)}…` : shown;
}

/** UCUM as people write it: "W/m2" is W/m². What is not known stays as it is. */
const UNITS: { [ucum: string]: string } = {
  Cel: "°C", "[degF]": "°F", K: "K", deg: "°", "1": "", "{count}": "", "m/s2": "m/s²", "W/m2": "W/m²",
  "mW/m2": "mW/m²", "mm[Hg]": "mmHg", "[in_i]": "in", "[mi_i]/h": "mph", "km/h": "km/h", m3: "m³", "m3/h": "m³/h",
  Ohm: "Ω", kOhm: "kΩ", uV: "µV", um: "µm", uT: "µT", "[g]": "g", "deg/s": "°/s", "ug/m3": "µg/m³", us: "µs", "mol/m3": "mol/m³",
};

export function unit(ucum: string | undefined): string {
  if (!ucum) return "";
  return UNITS[ucum] ?? safe(ucum, 24);
}

export function count(n: number | bigint): string {
  return n.toLocaleString("en-US");
}

export function rate(perSecond: number): string {
  if (perSecond < 0.005) return "0/s";
  if (perSecond < 10) return `${perSecond.toFixed(perSecond < 1 ? 2 : 1)}/s`;
  return `${count(Math.round(perSecond))}/s`;
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  let left = n;
  while (left >= 1024 && power < units.length - 1) {
    left /= 1024;
    power += 1;
  }
  return `${left >= 100 || power === 0 ? Math.round(left) : left.toFixed(1)} ${units[power]}`;
}

/** "≈ 2 h 10 min". */
export function lasts(seconds: number | undefined): string {
  if (seconds === undefined) return "–";
  const [day, hour, minute] = [86_400, 3_600, 60];
  const two = (big: number, a: string, small: number, b: string) => {
    const first = Math.floor(seconds / big);
    const second = Math.floor((seconds % big) / small);
    return second && first < 10 ? `≈ ${first} ${a} ${second} ${b}` : `≈ ${first} ${a}`;
  };
  if (seconds >= 1_000 * day) return "> 1,000 d";
  if (seconds >= 2 * day) return two(day, "d", hour, "h");
  if (seconds >= hour) return two(hour, "h", minute, "min");
  if (seconds >= minute) return `≈ ${Math.round(seconds / minute)} min`;
  return `≈ ${Math.round(seconds)} s`;
}

export function age(millis: number): string {
  const seconds = Math.max(0, millis) / 1_000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** Length of a bar: "5 min". */
export function interval(seconds: number): string {
  if (seconds % 86_400 === 0) return `${seconds / 86_400} d`;
  if (seconds % 3_600 === 0) return `${seconds / 3_600} h`;
  if (seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}

/** UTC, as fine as the bars are. */
export function time(seconds: number, step: number): string {
  const text = new Date(seconds * 1_000).toISOString();
  if (step % 86_400 === 0) return text.slice(0, 10);
  return `${text.slice(0, 10)} ${text.slice(11, step % 60 === 0 ? 16 : 19)}`;
}

/** Of an axis of times, so many seconds apart: the time, and below it the day where a new one begins. */
export function ticks(splits: readonly number[], step: number): string[] {
  let day = "";
  return splits.map((at) => {
    const text = new Date(at * 1_000).toISOString();
    const before = day;
    day = text.slice(0, 10);
    if (step >= 360 * 86_400) return day.slice(0, 4);
    if (step >= 86_400) return day.slice(0, 4) === before.slice(0, 4) ? day.slice(5) : `${day.slice(5)}\n${day.slice(0, 4)}`;
    const clock = text.slice(11, step < 60 ? 19 : 16);
    return day === before ? clock : `${clock}\n${day}`;
  });
}

/** With so many digits behind the point, a sign, and thin groups. */
export function change(difference: number, digits: number): string {
  if (difference === 0) return "0";
  const size = Math.abs(difference);
  const text = size.toFixed(Math.min(digits, 8));
  const shown = Number(text) === 0 ? size.toPrecision(2) : text;
  return `${difference < 0 ? "−" : "+"}${shown}`;
}

/** Of a change, with a sign. */
export function percent(part: number): string {
  const sign = part > 0 ? "+" : part < 0 ? "−" : "";
  return `${sign}${Math.abs(part).toFixed(2)} %`;
}
