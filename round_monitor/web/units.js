// Sizes, durations and counts as people read them; as round_monitor/units.py writes them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** `999 B`, `12.3 kB`: powers of 1000, three digits. */
export function size(bytes) {
  let value = bytes, unit = 0;
  // 999.5 and more would be printed as 1000.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${grouped(value, digits)} ${UNITS[unit]}`;
}

/** `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

/** The same to a tenth below ten seconds, where `0 s` would look like nothing: `0.1 s`. */
export function took(seconds) {
  if (seconds >= 9.95) return duration(seconds);
  return seconds >= 0.05 ? `${seconds.toFixed(1)} s` : "< 0.1 s";
}

/** Seconds from then until now; null where `then` is no moment. Both ISO 8601 or milliseconds. */
export function secondsBetween(then, now) {
  const passed = (new Date(now) - new Date(then)) / 1000;
  return then === "" || Number.isNaN(passed) ? null : passed;
}

export function count(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function grouped(number, digits = 0) {
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A metric's value. */
export function figure(value) {
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 100000)) return value.toExponential(2);
  return Math.abs(value) < 10 ? value.toFixed(3) : value.toPrecision(4);
}

/** A metric's name. */
export function spelled(metric) {
  return { macro_f1: "macro-F1" }[metric] ?? metric.replaceAll("_", " ");
}

/** `ann, bob, cat and 4 more`. */
export function names(clients, most = 3, all = clients.length) {
  const told = clients.slice(0, most);
  return all <= told.length ? told.join(", ") : `${told.join(", ")} and ${all - told.length} more`;
}

/** `24.9 Mbit/s` */
export function rate(kilobits) {
  return kilobits < 1000 ? `${grouped(kilobits)} kbit/s` : `${grouped(kilobits / 1000, kilobits < 100000 ? 1 : 0)} Mbit/s`;
}

export function clock(moment = new Date()) {
  return [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":");
}

function two(number) {
  return String(number).padStart(2, "0");
}
