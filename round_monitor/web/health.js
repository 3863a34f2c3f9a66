// The three answers on top: is it healthy, who is missing, does the model still improve? The same rule, in the
// same words, as in a terminal (round_monitor/verdict.py): tests/round_monitor/test_same_answers.py.

import { clientStates, countStates } from "./clients.js";
import { count, duration, figure, grouped, names, secondsBetween, spelled } from "./units.js";

const OVERDUE_S = 10;
const RECENT = 5;
/** What the best of the last RECENT measured rounds must add, to count as better. */
const BETTER_BY = 0.002;
/** A coordinator says each minute that it still works. */
const SILENT_S = 150;
const UNREADABLE = "The coordinator's page cannot be read (a newer version?)";
const OF_BETTER = { yes: "ok", early: "ok", no: "waiting", unknown: "waiting" };
const WORDS = { ok: "Healthy", waiting: "Waiting", trouble: "Trouble" };

/** `{ state, word, sentence }`; state is ok, waiting or trouble. */
export function health(board, link, now) {
  const [state, sentence] = link.isUp ? judged(board, link, now) : [link.isNew ? "waiting" : "trouble", link.sentence];
  return { state, word: WORDS[state], sentence: link.isUp && board ? sentence + unreadable(board) : sentence };
}

function unreadable(board) {
  const others = [...board.unreadable].filter((page) => page !== "coordinator").sort();
  return others.length ? `; ${count(others.length, "page")} cannot be read: ${names(others)}` : "";
}

function judged(board, link, now) {
  if (board?.unreadable.has("coordinator")) return ["trouble", UNREADABLE];
  const page = board?.pages.coordinator;
  if (!page) return ["waiting", link.sentence];
  const late = overdueS(board.pages.round, now);
  if (page.state === "stopped") return ["trouble", `The coordinator has stopped: ${page.says}`];
  if (late > OVERDUE_S) {
    return ["trouble", `Round ${board.pages.round.round} should have closed ${duration(late)} ago: its coordinator is gone, or cut off from the broker`];
  }
  const silent = silentS(board, now);
  if (silent > SILENT_S && page.state !== "finished") {
    return ["trouble", `Nothing from the coordinator for ${duration(silent)}: it is gone, or cut off from the broker`];
  }
  if (page.health_why) {
    // After what it does it says who is missing and how good the model is: the other two answers.
    return [page.health, page.health_why.startsWith(`${page.says}; `) ? page.says : page.health_why];
  }
  // One of before says nothing of its health, and that is read as "ok".
  if (page.health !== "ok") return [page.health, page.says];
  if (page.state === "waiting" && page.says.startsWith("waiting")) return ["waiting", page.says];
  const last = board.pages.history?.rounds.slice(-RECENT) ?? [];
  if (last.length === RECENT && last.every((line) => line.outcome === "kept")) {
    return ["trouble", `None of the last ${RECENT} rounds made a new model: ${last.at(-1).reason}`];
  }
  if (page.state === "finished") return ["ok", `Finished: ${page.says}`];
  return ["ok", page.says];
}

/** Seconds since an open round should have closed; below 0: that is how long it has. */
export function overdueS(round, now) {
  if (!round?.open) return -Infinity;
  return secondsBetween(round.closes, now) ?? -Infinity;
}

/** Seconds since the coordinator said anything; -Infinity of one that does not say when. */
function silentS(board, now) {
  const { as_of: said } = board.pages.coordinator;
  // By our own clock, once we have heard it: the two may differ.
  return (said && secondsBetween(board.heardAt ?? said, now)) || -Infinity;
}

/** Who of those that are known does not take part, and why. */
export function missing(board) {
  const page = board?.pages.coordinator;
  if (!page) return { state: "waiting", sentence: "Nobody is known so far" };
  if (page.fleet) {
    const { estimate, low, high } = page.fleet;
    const size = `${grouped(estimate)} (${grouped(low)} to ${grouped(high)})`;
    return { state: "ok", sentence: `Nobody says whether it is there; about ${size} would answer` };
  }
  const rows = clientStates(board);
  const of = (...states) => [...rows].filter(([, row]) => states.includes(row.state)).map(([client]) => client);
  const counts = countStates(rows);
  // Who has answered and left is both; and who was refused something need be on no list.
  const listed = board.pages.clients?.away ?? [];
  const ended = of("revoked").filter((client) => listed.includes(client));
  const gone = [...new Set([...listed, ...of("away")])].filter((client) => !ended.includes(client));
  const away = Math.max(gone.length, page.clients_known - page.clients_online - ended.length);
  const told = [];
  if (away) told.push(gone.length ? `${away} away (${names(gone, 3, away)})` : `${away} away`);
  if (counts.unable) told.push(`${counts.unable} cannot take part (${names(of("unable"))})`);
  if (counts.rejected) told.push(`${counts.rejected} rejected (${names(of("rejected"))})`);
  if (counts.quarantine) told.push(`${counts.quarantine} in quarantine (${names(of("quarantine"))})`);
  if (counts.revoked) told.push(`${counts.revoked} revoked (${names(of("revoked"))})`);
  const all = `${page.clients_online} of ${count(page.clients_known, "client")} online`;
  if (!told.length) return { state: "ok", sentence: `Nobody: ${all}` };
  // Who was let go of for good is not waited for.
  const few = page.clients_online * 2 < page.clients_known - ended.length;
  return { state: few ? "trouble" : "waiting", sentence: `${told.join(", ")}; ${all}` };
}

/** Whether what clients measure still becomes better: as the coordinator says. */
export function trend(board) {
  const page = board?.pages.coordinator;
  if (page?.better_why) return { state: OF_BETTER[page.better], sentence: page.better_why };
  // One of before does not say: by the rule of fedmqtt/improvement.py.
  const lines = (board?.pages.history?.rounds ?? []).filter((line) => line.figures?.metrics.size);
  if (!lines.length) return { state: "waiting", sentence: "Not measured so far" };
  const metric = leading(lines.at(-1).figures.metrics);
  const sign = metric.includes("loss") ? -1 : 1;
  const having = lines.filter((line) => line.figures.metrics.has(metric));
  const values = having.map((line) => line.figures.metrics.get(metric));
  const now = `${spelled(metric)} ${figure(values.at(-1))}`;
  if (values.length <= RECENT) return { state: "ok", sentence: `${now}, after ${count(lines.at(-1).round - 1, "round")}` };
  const best = (part) => Math.max(...part.map((value) => sign * value));
  const before = best(values.slice(0, -RECENT)), lately = best(values.slice(-RECENT));
  const scale = metric.includes("loss") ? Math.abs(before) : 1;
  if (lately - before > BETTER_BY * scale) {
    const change = `${sign > 0 ? "+" : "−"}${figure(lately - before)}`;
    return { state: "ok", sentence: `Yes: ${now}; the best of the last ${RECENT} measured rounds is ${change} on all before` };
  }
  const at = having[values.findIndex((value) => sign * value === before)].round;
  return { state: "waiting", sentence: `No: ${now}; the best was ${figure(sign * before)} at round ${at}` };
}

function leading(metrics) {
  return ["accuracy", "macro_f1", "loss"].find((name) => metrics.has(name)) ?? [...metrics.keys()].sort()[0];
}
