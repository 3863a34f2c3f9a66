// The status pages as this page reads them: fedmqtt/status_pages.py says what each field means.
//
// Whoever may write to the topics decides what comes. So each field has a type here, and what is of
// another is left out: all that stands behind this file can rely on what it gets. The coordinator's
// page alone is read as strictly as in Python: by what is left out of it, trouble would look well.

const TEXT_MAX = 600;
const ENTRIES_MAX = 2000;
const PAGE_BYTES_MAX = 1024 * 1024;
const NOT_PRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

const text = (value) => (typeof value === "string" ? printable(value) : "");
const number = (value) => (Number.isFinite(value) ? value : 0);
const yes = (value) => value === true;
const perhaps = (read) => (value) => (value === undefined || value === null ? null : read(value));
const listOf = (read) => (value) => (Array.isArray(value) ? value.slice(0, ENTRIES_MAX).map(read) : []);
const mapOf = (read) => (value) =>
  new Map(isRecord(value) ? Object.entries(value).slice(0, ENTRIES_MAX).map(([key, one]) => [text(key), read(one)]) : []);
const shape = (fields) => (value) => {
  const given = isRecord(value) ? value : {};
  return Object.fromEntries(
    Object.entries(fields).map(([name, read]) => [name, read(Object.hasOwn(given, name) ? given[name] : undefined)]),
  );
};

const names = listOf(text);
const reasons = mapOf(text);

/** What is of another type, or is missing, makes the whole page unreadable. */
const exactly = (is, read) => (value) => {
  if (!is(value)) throw new TypeError("not what this field should be");
  return read(value);
};
const isText = (value) => typeof value === "string";
const oneOf = (...words) => exactly((value) => words.includes(value), text);
const exactText = exactly(isText, text);
const whole = exactly(Number.isInteger, number);
const exactNames = exactly((value) => Array.isArray(value) && value.every(isText), names);
const wholes = exactly((value) => Array.isArray(value) && value.every(Number.isInteger), listOf(number));
const exactReasons = exactly((value) => isRecord(value) && Object.values(value).every(isText), reasons);
/** Of a coordinator of before, that does not tell it. */
const may = (read, otherwise) => (value) => read(value === undefined ? otherwise : value);
const metrics = mapOf(number);

const figures = shape({
  clients: number,
  samples: number,
  metrics,
  groups: mapOf(shape({ clients: number, samples: number, metrics })),
});

const SHAPES = {
  coordinator: shape({
    state: oneOf("starting", "waiting", "collecting", "averaging", "finished", "stopped"),
    says: exactText, federation: exactText, run: exactText, task: exactText, program: exactText,
    since: exactText, round: whole, rounds_wanted: whole, clients_online: whole, clients_known: whole,
    late_updates: whole, unreadable_messages: whole, protocol: exactText,
    health: may(oneOf("ok", "waiting", "trouble"), "ok"), health_why: may(exactText, ""),
    better: may(oneOf("yes", "no", "early", "unknown"), "unknown"), better_why: may(exactText, ""),
    as_of: may(exactText, ""), next_step: may(exactText, ""), version: may(exactText, ""),
    epoch: may(whole, 0), late_held: may(whole, 0), at_work: may(whole, 0), skew: may(exactText, ""),
    keyholders: may(exactReasons, {}), keyholder_faults: may(exactNames, []), unconfirmed: may(wholes, []),
    workers: may(exactReasons, {}), aggregation: may(exactText, ""), privacy: may(exactText, ""),
    refusals: may(exactNames, []),
    fleet: perhaps(shape({
      declared: number, estimate: number, low: number, high: number, one_in: number,
      answered: number, rejected: number, declined: number, programs: mapOf(number),
      labels: mapOf(number), codecs: mapOf(number),
    })),
  }),
  round: shape({
    run: text, round: number, open: yes, opened: text, closes: text, wanted: number, quorum: number,
    invited: names, answered: names, away: names, declined: reasons, rejected: reasons,
    evaluators: names, evaluated: names, surplus: names, outcome: text,
  }),
  pace: shape({
    round: number, over_selection: number, over_selection_reason: text, deadline_s: number,
    deadline_reason: text,
  }),
  model: shape({
    digest: text, size_bytes: number, delta_bytes: number, parameters: number, trained_rounds: number,
    figures: perhaps(figures), figures_round: perhaps(number),
    privacy: perhaps(shape({
      epsilon: number, delta: number, epsilon_max: number, participations: number,
      participations_max: number,
    })),
  }),
  history: shape({
    rounds: listOf(shape({
      round: number, outcome: text, reason: text, invited: number, answered: number, dropped: number,
      surplus: number, declined: number, rejected: number, duration_s: number, train_metrics: metrics,
      figures: perhaps(figures), codecs: mapOf(shape({ updates: number, bytes: number })),
      epsilon: perhaps(number),
    })),
  }),
  participation: shape({ rounds: listOf(number), clients: mapOf(text), clients_known: number }),
  clients: shape({
    online: names, away: names, labels: reasons, label_counts: mapOf(number), hindered: reasons,
    quarantined: mapOf(shape({ until: text, why: text })), refused: reasons,
  }),
  traffic: shape({
    bytes_received: number, bytes_published: number,
    updates_by_codec: mapOf(shape({ updates: number, bytes: number })),
    models_by_codec: mapOf(shape({ files: number, bytes: number })),
  }),
  orders: shape({
    paused_by: text, paused_since: text, stopped_by: text,
    orders: listOf(shape({ at: text, by: text, order: text, done: yes, result: text })),
    refused: number, repeated: number,
  }),
  client: shape({
    state: text, says: text, since: text, doing: text, round: number, progress: number, epoch: number,
    epochs: number, why_not: text, last_seen: text, rounds_invited: number, rounds_answered: number,
    answered_last: number, duration_s: perhaps(number), uplink_kbps: perhaps(number), devices: number,
    label: text, program: text, as_of: text,
  }),
};

export const PAGES = Object.keys(SHAPES).filter((name) => name !== "client");

/** The page that these bytes are, or null where they are none. */
export function decode(name, bytes) {
  if (!Object.hasOwn(SHAPES, name) || bytes.length > PAGE_BYTES_MAX) return null;
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return isRecord(value) ? SHAPES[name](value) : null;
  } catch {
    return null;
  }
}

function printable(given) {
  // Nothing that turns the direction of writing, or hides.
  return given.slice(0, TEXT_MAX).replace(NOT_PRINTABLE, "\uFFFD");
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
