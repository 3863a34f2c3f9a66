// The sections below the three answers: what each shows of the pages.

import { Chart } from "./chart.js";
import { curves } from "./curves.js";
import { element, say } from "./dom.js";
import { overdueS } from "./health.js";
import { count, duration, figure, grouped, secondsBetween, size, spelled } from "./units.js";

const REASONS_MAX = 50;
const REFUSALS_FIRST = 4;

export function byId(id) {
  return document.getElementById(id);
}

// Round

export function showRound(board, now) {
  const { round, pace, coordinator } = board.pages;
  if (!round) return byId("round-body").replaceChildren(element("p", {}, "None so far."));
  const evaluating = !round.wanted && round.evaluators.length > 0;
  const [done, wanted] = evaluating ? [round.evaluated.length, round.evaluators.length] : [round.answered.length, round.wanted];
  const of = coordinator?.rounds_wanted ? ` of ${coordinator.rounds_wanted}` : "";
  say(byId("round-title"), evaluating ? "Last evaluation" : `Round ${round.round}${of}`);
  const answers = `${done} of ${wanted} answers`;
  byId("round-body").replaceChildren(
    element("p", { class: "progress-line" },
      element("progress", { max: Math.max(1, wanted), value: Math.min(done, wanted), "aria-label": "Answers of this round" }, answers),
      element("strong", {}, answers)),
    element("p", { id: "deadline" }, deadline(round, now)),
    counts(evaluating ? measuring(round) : training(round)),
    ...paceSays(pace, round),
  );
}

/** Once a second: time passes without any page. */
export function showDeadline(board, now) {
  const line = byId("deadline");
  if (line && board.pages.round) say(line, deadline(board.pages.round, now));
}

function deadline(round, now) {
  if (!round.open) return round.outcome ? `Closed, ${round.outcome}` : "Closed";
  const late = overdueS(round, now);
  if (late === -Infinity) return "";
  const opened = secondsBetween(round.opened, now);
  const since = opened === null ? "" : `, open for ${duration(opened)}`;
  return late > 0 ? `Overdue by ${duration(late)}${since}` : `Closes in ${duration(-late)}${since}`;
}

function measuring(round) {
  return [["asked", round.evaluators.length], ["measured", round.evaluated.length], ["away", round.away.length]];
}

function training(round) {
  const heard = new Set([...round.answered, ...round.rejected.keys(), ...round.surplus]);
  const gone = round.open ? ["away", round.away] : ["dropped", round.invited.filter((client) => !heard.has(client))];
  return [
    ["invited", round.invited.length], ["answered", round.answered.length], [gone[0], gone[1].length],
    ["declined", round.declined.size], ["rejected", round.rejected.size], ["quorum", round.quorum],
  ];
}

function counts(told) {
  return element("dl", { class: "counts" }, ...told.map(([word, number]) =>
    element("div", { class: number ? word : "none" }, element("dt", {}, word), element("dd", {}, grouped(number)))));
}

function paceSays(pace, round) {
  if (!pace) return [];
  const whose = pace.round === round.round ? "" : "Next: ";
  return [
    element("p", { class: "quiet" }, `${whose}${pace.over_selection_reason}`),
    element("p", { class: "quiet" }, `${whose}${closing(pace)}`),
  ];
}

/** Its reason may be no more than who decided it. */
function closing({ deadline_s: seconds, deadline_reason: why }) {
  return why.startsWith("closes") ? why : `closes after ${duration(seconds)}: ${why}`;
}

// What went wrong

export function showTrouble(board) {
  const { round, clients, coordinator } = board.pages;
  const rows = [];
  const add = (what, reasons) => {
    for (const [client, why] of [...reasons].slice(0, REASONS_MAX)) rows.push([client, what, why]);
  };
  if (clients) {
    add("in quarantine", new Map([...clients.quarantined].map(([client, one]) => [client, one.why])));
    add("refused", clients.refused);
  }
  if (round) {
    add(`rejected in round ${round.round}`, round.rejected);
    add(`declined round ${round.round}`, round.declined);
  }
  const odd = [];
  if (coordinator?.unreadable_messages) odd.push(count(coordinator.unreadable_messages, "unreadable message"));
  if (coordinator?.late_updates) odd.push(count(coordinator.late_updates, "late update"));
  if (board.unreadableCount) odd.push(`${count(board.unreadableCount, "status page")} that this dashboard cannot read`);
  const parts = [
    rows.length ? scrolled("Clients and reasons", table(["client", "what", "why"], rows, "Clients and reasons")) : null,
    ...[coordinator?.skew, ...(coordinator?.keyholder_faults ?? [])].filter(Boolean).map((line) => element("p", {}, line)),
    ...refused(coordinator?.refusals ?? []),
    odd.length ? element("p", { class: "quiet" }, `Also: ${odd.join(", ")}.`) : null,
  ].filter(Boolean);
  byId("trouble").hidden = !parts.length;
  byId("trouble-body").replaceChildren(...parts);
}

/** Of what did not count the newest, and the others where somebody asks. */
function refused(refusals) {
  const lines = refusals.toReversed();
  if (!lines.length) return [];
  const list = (some) => element("ul", { class: "plain" }, ...some.map((line) => element("li", {}, line)));
  const more = lines.slice(REFUSALS_FIRST);
  return [
    element("h3", {}, "Messages that did not count, the newest first"),
    list(lines.slice(0, REFUSALS_FIRST)),
    ...(more.length ? [element("details", {}, element("summary", {}, `${count(more.length, "more message")}`), list(more))] : []),
  ];
}

// Model

const charts = new Map();

export function showModel(board) {
  const { model, history } = board.pages;
  byId("model-says").textContent = model ? modelSays(model) : "Not there yet.";
  const wanted = curves(history?.rounds ?? []);
  for (const [title, { series, share }] of wanted) {
    if (!charts.has(title)) {
      charts.set(title, new Chart(title));
      byId("charts").append(charts.get(title).figure);
    }
    charts.get(title).show(series, share);
  }
  for (const [title, chart] of charts) chart.figure.hidden = !wanted.has(title);
}

function modelSays(model) {
  const made = `${grouped(model.parameters)} parameters, ${size(model.size_bytes)}, made in ${count(model.trained_rounds, "round")}`;
  if (!model.figures) return `${made}. Not measured so far.`;
  const told = [...model.figures.metrics].slice(0, 2).map(([name, value]) => `${spelled(name)} ${figure(value)}`);
  return `${made}. At the start of round ${model.figures_round}: ${told.join(", ")}, on ${count(model.figures.samples, "sample")} of ${count(model.figures.clients, "client")}.`;
}

// Bytes, privacy, events

export function showTraffic(board) {
  const { traffic, history, model } = board.pages;
  const parts = [];
  if (traffic) {
    parts.push(facts([
      ["up, from clients", size(traffic.bytes_received)],
      ["down, published once for all", size(traffic.bytes_published)],
      ...(model ? [["one model", size(model.size_bytes)]] : []),
      ...(model?.delta_bytes ? [["one delta", size(model.delta_bytes)]] : []),
    ]));
  }
  const rows = [
    ...byCodec("up", "updates", traffic?.updates_by_codec.size ? traffic.updates_by_codec : ofRounds(history)),
    ...byCodec("down", "files", traffic?.models_by_codec ?? new Map()),
  ];
  const heads = ["codec", "way", "files", "bytes", "each"];
  if (rows.length) parts.push(scrolled("Bytes by codec", table(heads, rows, "Bytes by codec", true)));
  // A coordinator that was started again counts anew, and goes on with the run.
  if (traffic?.updates_by_codec.size) {
    parts.push(element("p", { class: "quiet" }, "Updates by codec: of the whole run. All else: since the coordinator began."));
  }
  byId("traffic-body").replaceChildren(...(parts.length ? parts : [element("p", {}, "Nothing told so far.")]));
}

/** Rows of a table, the most bytes first. */
function byCodec(way, what, codecs) {
  return [...codecs].sort(([, a], [, b]) => b.bytes - a.bytes).map(([name, one]) =>
    [name, way, grouped(one[what]), size(one.bytes), size(one.bytes / Math.max(1, one[what]))]);
}

/** What rounds tell of their updates, where the traffic page tells none. */
function ofRounds(history) {
  const sums = new Map();
  for (const line of history?.rounds ?? []) {
    for (const [name, { updates, bytes }] of line.codecs) {
      const sum = sums.get(name) ?? { updates: 0, bytes: 0 };
      sums.set(name, { updates: sum.updates + updates, bytes: sum.bytes + bytes });
    }
  }
  return sums;
}

export function showPrivacy(board) {
  const spent = board.pages.model?.privacy, { aggregation = "", privacy: says = "" } = board.pages.coordinator ?? {};
  byId("privacy").hidden = !spent && !says && !aggregation;
  const parts = [];
  if (spent) {
    const text = `ε ${short(spent.epsilon)} of at most ${short(spent.epsilon_max)}, at δ ${spent.delta}`;
    parts.push(
      element("p", { class: "progress-line" },
        element("meter", { min: 0, max: spent.epsilon_max || 1, value: spent.epsilon, "aria-label": "Privacy budget spent" }, text),
        element("strong", {}, text)),
      element("p", { class: "quiet" }, `Of the device that took part most often: ${spent.participations} of at most ${spent.participations_max} times.`),
    );
  }
  if (aggregation) parts.push(element("p", {}, aggregation));
  if (says) parts.push(element("p", {}, says));
  byId("privacy-body").replaceChildren(...parts);
}

export function showEvents(board) {
  byId("events-list").replaceChildren(...board.events.map(({ at, text }) =>
    element("li", {}, element("time", {}, at), " ", text)));
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}

// Parts

export function facts(pairs) {
  return element("dl", { class: "facts" }, ...pairs.map(([word, value]) =>
    element("div", {}, element("dt", {}, word), element("dd", {}, value))));
}

export function scrolled(label, inner) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inner);
}

/** Rows of text, the first of which names the row. */
export function table(heads, rows, caption, numbers = false) {
  return element("table", { class: numbers ? "numbers" : null },
    element("caption", { class: "spoken" }, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map(([first, ...rest]) => element("tr", {},
      element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))))));
}
