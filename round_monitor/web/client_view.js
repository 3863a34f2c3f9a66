// All of one client: as `fedmqtt watch` shows it (round_monitor/client_view.py).

import { clientStates, does, STATES } from "./clients.js";
import { element } from "./dom.js";
import { gridOf } from "./grid.js";
import { byId, facts } from "./sections.js";
import { duration, grouped, rate, secondsBetween, took } from "./units.js";

export class ClientView {
  #facts = element("div");
  #rounds = element("div");
  #told = "";
  #shownRounds = [];

  constructor() {
    byId("client-body").append(this.#facts, this.#rounds);
  }

  /** Draws what has changed since it was shown last. */
  show(board, client, now) {
    const row = clientStates(board).get(client);
    const mark = row && STATES[row.state];
    const about = aboutOf(board, client, now);
    const told = JSON.stringify([client, row, about]);
    if (told !== this.#told) {
      this.#told = told;
      byId("client-title").replaceChildren(
        ...(mark ? [element("span", { class: `cell ${row.state}`, "aria-hidden": true }, mark.mark)] : []), client);
      this.#facts.replaceChildren(...(row ? parts(row, about)
        : [element("p", {}, "No page names this client, or none does any more.")]));
    }
    this.#showRounds(board.pages.participation ?? null, client);
  }

  #showRounds(page, client) {
    if (this.#shownRounds[0] === page && this.#shownRounds[1] === client) return;
    this.#shownRounds = [page, client];
    const grid = gridOf(page, client);
    this.#rounds.replaceChildren(...(grid ? [element("h3", {}, "Rounds it was invited to"), ...grid.parts] : []));
    // The newest rounds are the ones that people look at.
    if (grid) grid.scroll.scrollLeft = grid.scroll.scrollWidth;
  }
}

function parts(row, about) {
  const lines = [
    element("p", {}, element("strong", {}, STATES[row.state].says), row.note ? `: ${row.note}` : ""),
    row.does ? element("p", {}, ...does(row)) : null,
    about.length ? facts(about) : element("p", { class: "quiet" }, "It has no page of its own so far, so no more is known of it."),
  ];
  return lines.filter(Boolean);
}

/** Words and values. */
function aboutOf(board, client, now) {
  const own = board.clients.get(client);
  const label = own?.label || board.pages.clients?.labels.get(client);
  const pairs = own ? [
    ["online for", own.state === "online" ? passed(own.since, now) : ""],
    ["away for", own.state === "away" ? passed(own.since, now) : ""],
    ["last heard", ago(own.last_seen, now)],
    ["rounds answered", own.rounds_invited ? `${grouped(own.rounds_answered)} of ${grouped(own.rounds_invited)}` : "not invited so far"],
    ["answered last", own.answered_last ? `round ${own.answered_last}` : ""],
    ["takes, median", own.duration_s ? took(own.duration_s) : ""],
    ["uplink", own.uplink_kbps ? rate(own.uplink_kbps) : ""],
    ["stands for", own.devices ? `${grouped(own.devices)} ${own.devices > 1 ? "devices" : "device"}` : ""],
    ["program", own.program],
    ["as of", ago(own.as_of, now)],
  ] : [];
  return [...pairs, ["label", label]].filter(([, value]) => value);
}

function ago(moment, now) {
  const long = passed(moment, now);
  return long && `${long} ago`;
}

function passed(moment, now) {
  const seconds = moment ? secondsBetween(moment, now) : null;
  return seconds === null ? "" : duration(seconds);
}
