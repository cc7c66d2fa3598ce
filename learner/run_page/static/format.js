/** Numbers as people read them. Null, a figure that is not there, is always a dash. */

const MISSING = "–";
const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** At most four figures: 0.8984, 1.2e-5, 3,730. */
export function figure(value) {
  if (!isNumber(value)) return MISSING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(1).replace("-", "−");
  if (Number.isInteger(value) || size >= 1000) return minus(GROUPED.format(value));
  return minus(value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3));
}

/** Three decimals and a sign: +1.291. */
export function signed(value) {
  if (!isNumber(value)) return MISSING;
  return (value > 0 ? "+" : "") + minus(value.toFixed(3));
}

export function whole(value) {
  return isNumber(value) ? minus(GROUPED.format(value)) : MISSING;
}

export function percent(value) {
  return isNumber(value)
    ? `${(100 * value).toFixed(value > 0 && value < 0.01 ? 1 : 0)} %`
    : MISSING;
}

export function bytes(value) {
  if (!isNumber(value)) return MISSING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log10(value) / 3));
  return `${(value / 1000 ** power).toFixed(power < 2 ? 0 : 1)} ${units[power]}`;
}

/** 0.25 s, 42 s, 3 min 20 s, 2 h 05 min, 3 d 4 h. */
export function duration(seconds) {
  if (!isNumber(seconds)) return MISSING;
  if (seconds < 10) return `${seconds < 0.1 ? figure(seconds) : seconds.toFixed(2)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Seconds since 1970 as this machine's date and time. */
export function moment(seconds) {
  if (!isNumber(seconds)) return MISSING;
  const date = new Date(1000 * seconds);
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
}

/** For an axis: 0:40, 12:30, 2:05 h. */
export function clock(seconds) {
  const s = Math.round(seconds);
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)}`;
  return `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))} h`;
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function two(n) {
  return String(n).padStart(2, "0");
}

function minus(text) {
  return text.replace("-", "−");
}
