// Who does what at this moment, of all clients that the pages name.

import { element } from "./dom.js";

/** In the order in which somebody may want to look at them. */
export const STATES = {
  rejected: { mark: "✗", says: "rejected" },
  quarantine: { mark: "⊘", says: "in quarantine" },
  revoked: { mark: "⊘", says: "revoked" },
  unable: { mark: "!", says: "cannot take part" },
  away: { mark: "–", says: "away" },
  working: { mark: "●", says: "working" },
  answered: { mark: "✓", says: "answered" },
  evaluated: { mark: "◆", says: "evaluated" },
  ready: { mark: "○", says: "ready" },
};
const OWN_STATES = { online: "ready", away: "away", quarantined: "quarantine", revoked: "revoked" };
const GONE = ["away", "quarantine", "revoked"];
const ORDER = Object.keys(STATES);

/** Client to `{ state, note, ... }`: who needs to be looked at first, then by name. */
export function clientStates(board) {
  const rows = new Map();
  const { clients, round } = board.pages;
  // The later ones say more.
  if (clients) {
    set(rows, clients.online, "ready");
    explain(rows, clients.hindered, "unable");
    set(rows, clients.away, "away");
  }
  if (round) takePart(rows, round);
  if (clients) {
    for (const [client, one] of clients.quarantined) {
      rows.set(client, { state: "quarantine", note: one.until ? `until ${minute(one.until)}: ${one.why}` : one.why });
    }
    for (const [client, why] of clients.refused) note(rows, client, why);
  }
  for (const [client, own] of board.clients) rows.set(client, withOwnPage(rows.get(client), own));
  for (const [client, row] of rows) row.label = row.label || clients?.labels.get(client) || "";
  const place = ([, row]) => ORDER.indexOf(row.state);
  return new Map([...rows].sort((a, b) => place(a) - place(b) || (a[0] < b[0] ? -1 : 1)));
}

export function countStates(rows) {
  const counts = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
  for (const row of rows.values()) counts[row.state] += 1;
  return counts;
}

/** What it does now, as elements and text; with a bar where it tells how far it is. */
export function does(row) {
  if (!row.does) return [];
  if (!row.progress) return [row.does];
  const share = Math.round(Math.min(1, row.progress) * 100);
  return [element("progress", { max: 100, value: share, "aria-label": "done of it" }, `${share}%`), ` ${row.does}`];
}

function takePart(rows, round) {
  if (round.open) {
    const here = [...round.invited, ...round.evaluators].filter((client) => rows.get(client)?.state !== "away");
    set(rows, here, "working");
    set(rows, round.away, "away");
  }
  explain(rows, round.declined, "unable");
  set(rows, round.evaluated, "evaluated");
  set(rows, round.answered, "answered");
  explain(rows, round.rejected, "rejected");
}

/** The client's own page knows more of it, but not what became of its answer. */
function withOwnPage(row, own) {
  const known = row ?? { state: OWN_STATES[own.state] ?? "ready", note: "" };
  return {
    ...known,
    state: own.state === "revoked" ? "revoked" : known.state,
    note: known.note || own.why_not,
    // Its page may be older than the news that it is gone.
    does: GONE.includes(known.state) || own.doing === "waiting" ? "" : own.doing && (own.says || own.doing),
    progress: own.progress,
    lastSeen: own.last_seen,
    answered: own.rounds_answered,
    invited: own.rounds_invited,
    durationS: own.duration_s,
    uplinkKbps: own.uplink_kbps,
    label: own.label,
  };
}

function set(rows, clients, state) {
  for (const client of clients) rows.set(client, { state, note: "" });
}

function explain(rows, reasons, state) {
  for (const [client, reason] of reasons) rows.set(client, { state, note: reason });
}

function note(rows, client, why) {
  const row = rows.get(client) ?? { state: "away", note: "" };
  rows.set(client, { ...row, note: row.note ? `${row.note}; ${why}` : why });
}

function minute(moment) {
  return `${moment.slice(0, 10)} ${moment.slice(11, 16)} UTC`;
}
