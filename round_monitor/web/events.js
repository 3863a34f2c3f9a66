// What happened between two versions of a page, in words; as round_monitor/events.py tells it.

import { count, figure, names, spelled } from "./units.js";

/** The outcome of a round that takes no more answers, and of which nobody knows yet what it makes. */
const OPENING = "its sum is asked of keyholders";

const TOLD_STATES = ["starting", "waiting", "finished", "stopped"];

/** Sentences, in the order in which they happened. `known` are all pages before. */
export function between(name, known, page) {
  const compare = COMPARES[name];
  return compare ? compare(known[name] ?? null, page, known) : [];
}

const COMPARES = {
  coordinator(old, page) {
    const told = [];
    if (old && old.run !== page.run) told.push(`run ${page.run} began`);
    const pausing = old && old.state === "averaging" && page.state === "waiting";
    const changed = !old || old.state !== page.state || old.run !== page.run;
    if (changed && !pausing && TOLD_STATES.includes(page.state)) told.push(page.says);
    if (old && old.run === page.run) {
      const changed = [...page.keyholders].filter(([name, state]) => old.keyholders.get(name) !== state);
      told.push(...changed.map(([name, state]) => `keyholder ${name}: ${state}`));
      told.push(...added(page.keyholder_faults, old.keyholder_faults));
      told.push(...ofWorkers(old.workers, page.workers));
    }
    return told;
  },

  round(old, page) {
    if (!old && !page.open) return [ended(page)];
    const told = [];
    if (!old || old.run !== page.run || old.round !== page.round) {
      told.push(opened(page));
      old = null;
    }
    const answered = added(page.answered, old?.answered ?? []);
    if (answered.length) told.push(`${names(answered)} answered`);
    told.push(...explained("declined", old?.declined, page.declined));
    told.push(...explained("rejected", old?.rejected, page.rejected));
    if (!page.open && (!old || old.open || old.outcome === OPENING) && page.outcome !== old?.outcome) {
      told.push(ended(page));
    }
    return told;
  },

  history(old, page, known) {
    // While this page looked elsewhere; a round that it saw open has told its own end.
    if (!old) return [];
    const seen = new Set([...old.rounds.map((line) => line.round), known.round?.round]);
    return page.rounds
      .filter((line) => !seen.has(line.round))
      .map((line) => `round ${line.round} closed, ${line.outcome}: ${line.reason} (${line.answered} of ${line.invited})`);
  },

  model(old, page) {
    if (!page.figures || (old && old.figures_round === page.figures_round)) return [];
    const told = [...page.figures.metrics].slice(0, 2).map(([metric, value]) => `${spelled(metric)} ${figure(value)}`);
    return [`${told.join(", ")} on ${count(page.figures.samples, "sample")} of ${count(page.figures.clients, "client")}`];
  },

  clients(old, page) {
    if (!old) return page.online.length ? [`${count(page.online.length, "client")} online`] : [];
    const told = [];
    const came = added(page.online, old.online), left = added(old.online, page.online);
    if (came.length) told.push(`${names(came)} came online`);
    if (left.length) told.push(`${names(left)} left`);
    told.push(...explained("cannot take part", old.hindered, page.hindered));
    told.push(...explained("refused", old.refused, page.refused));
    const out = (of) => new Map([...of.quarantined].map(([client, one]) => [client, one.why]));
    told.push(...explained("in quarantine", out(old), out(page)));
    return told;
  },

  orders(old, page) {
    // What was told as done is told again where it has come to nothing.
    const known = new Set(old?.orders.map(ordered));
    const told = page.orders.map(ordered);
    return old ? told.filter((one) => !known.has(one)) : told.slice(-1);
  },
};

function ordered({ at, by, order, done, result }) {
  // Who comes late learns of it late. All times that a coordinator tells are in UTC.
  const when = at.replace("T", " ").replace("+00:00", " UTC");
  return `${by} ordered ${order}${done ? "" : ", and it is not done"}: ${result} (${when})`;
}

function ofWorkers(old, now) {
  const told = new Map([...now].filter(([name, does]) => old.get(name) !== does));
  for (const name of old.keys()) if (!now.has(name)) told.set(name, "is gone");
  return [...told.keys()].sort().map((name) => `worker ${name} ${told.get(name)}`);
}

function opened(page) {
  // By sortition of a quiet federation nobody has been heard of yet.
  const invited = page.invited.length ? `${page.invited.length} invited, ` : "";
  const text = page.wanted ? `${invited}${page.wanted} wanted` : `${count(page.evaluators.length, "client")} to evaluate`;
  return `round ${page.round} opened: ${text}`;
}

function ended(page) {
  const share = page.invited.length ? ` (${page.answered.length} of ${page.invited.length})` : "";
  if (page.outcome === OPENING) return `round ${page.round} takes no more answers${share}: ${OPENING}`;
  return `round ${page.round} closed, ${page.outcome || "ended"}${share}`;
}

/** One sentence for each reason that is new, with all whom it is about. */
function explained(word, old, now) {
  const byReason = new Map();
  for (const [client, reason] of now) {
    if (old?.get(client) === reason) continue;
    byReason.set(reason, [...(byReason.get(reason) ?? []), client]);
  }
  return [...byReason].map(([reason, clients]) => `${names(clients)} ${word}: ${reason}`);
}

function added(now, before) {
  const known = new Set(before);
  return now.filter((one) => !known.has(one)).sort();
}
