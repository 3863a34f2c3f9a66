// Who is there and does what: a map of all, and a table to filter and to sort.

import { clientStates, countStates, does, STATES } from "./clients.js";
import { element, say } from "./dom.js";
import { hashOf } from "./place.js";
import { count, duration, grouped, rate, secondsBetween, took } from "./units.js";

const ROWS_FIRST = 15;
/** Of more clients the map shows colours alone. */
const MARKED_MAX = 200;
const ORDER = Object.keys(STATES);
/** Each column's name, and by what its rows are sorted; empty values are last. */
const COLUMNS = [
  ["client", (client) => client],
  ["state", (client, row) => ORDER.indexOf(row.state)],
  ["does", (client, row) => row.does],
  ["note", (client, row) => row.note],
  ["answered", (client, row) => (row.invited ? row.answered / row.invited : null)],
  ["takes", (client, row) => row.durationS],
  ["uplink", (client, row) => row.uplinkKbps],
  ["last seen", (client, row) => (row.state === "away" ? row.lastSeen : "")],
  ["label", (client, row) => row.label],
];
const NUMBERS = ["answered", "takes", "uplink"];
/** Who needs to be looked at first. */
const BY_NEED = 1;
const WAYS = { ascending: "rising", descending: "falling" };

export class ClientList {
  #all = false;
  #board = null;
  #sortedBy = BY_NEED;
  #way = "ascending";
  #rows = new Map();
  #find = element("input", { type: "search", id: "find", placeholder: "name, label or note", autocomplete: "off" });
  #state = element("select", { id: "state" });
  #map = element("div", { class: "map", role: "img" });
  #legend = element("ul", { class: "legend" });
  #heads = COLUMNS.map(([name], place) => this.#head(name, place));
  #body = element("tbody");
  #told = element("p", { class: "quiet", role: "status" });
  #more = element("button", { type: "button", hidden: true });

  constructor() {
    this.#state.append(element("option", { value: "" }, "all states"), ...Object.entries(STATES).map(([state, { says }]) => element("option", { value: state }, says)));
    this.#find.addEventListener("input", () => this.#draw());
    this.#state.addEventListener("change", () => this.#draw());
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.#draw();
    });
    this.parts = [
      this.#map,
      this.#legend,
      element("div", { class: "filters" },
        element("label", {}, "Find ", this.#find),
        element("label", {}, "State ", this.#state)),
      this.#told,
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of clients" },
        element("table", { class: "people" }, element("caption", { class: "spoken" }, "Clients; a button on each column’s head sorts by it"),
          element("thead", {}, element("tr", {}, ...this.#heads)),
          this.#body)),
      this.#more,
    ];
  }

  show(board) {
    if (board !== this.#board) this.#rows.clear();
    this.#board = board;
    this.#draw();
  }

  /** To where somebody was who comes back from this client. Whether it is there. */
  focusOn(client) {
    const link = this.#rows.get(client)?.querySelector("a");
    if (!link?.isConnected) return false;
    link.focus();
    return true;
  }

  #head(name, place) {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => this.#sortBy(place));
    return element("th", { scope: "col", class: NUMBERS.includes(name) ? "number" : null }, button);
  }

  #sortBy(place) {
    const again = place === this.#sortedBy && this.#way === "ascending";
    this.#way = again ? "descending" : "ascending";
    this.#sortedBy = place;
    this.#draw();
  }

  #draw() {
    if (!this.#board) return;
    const rows = clientStates(this.#board), counts = countStates(rows);
    const present = Object.entries(STATES).filter(([state]) => counts[state]);
    this.#map.setAttribute("aria-label", `${count(rows.size, "client")}: ${present.map(([state, { says }]) => `${counts[state]} ${says}`).join(", ")}`);
    this.#map.classList.toggle("many", rows.size > MARKED_MAX);
    this.#map.replaceChildren(...[...rows].map(([client, row]) => element("span", { class: `cell ${row.state}`, title: `${client}: ${STATES[row.state].says}` }, STATES[row.state].mark)));
    this.#legend.replaceChildren(...present.map(([state, { mark, says }]) => element("li", {}, element("span", { class: `cell ${state}`, "aria-hidden": true }, mark), `${grouped(counts[state])} ${says}`)));
    const found = sorted([...rows].filter(([client, row]) => this.#matches(client, row)), this.#sortedBy, this.#way);
    const shown = this.#all ? found : found.slice(0, ROWS_FIRST);
    say(this.#told, this.#says(found.length, rows.size));
    this.#showRows(shown, rows);
    this.#heads.forEach((head, place) => {
      if (place === this.#sortedBy) head.setAttribute("aria-sort", this.#way);
      else head.removeAttribute("aria-sort");
    });
    const lacking = new Set(COLUMNS.map((_, place) => place).filter((place) => place > 1 && ![...this.#body.rows].some((row) => row.cells[place].textContent)));
    for (const row of this.#body.closest("table").rows) {
      [...row.cells].forEach((cell, place) => (cell.hidden = lacking.has(place)));
    }
    this.#more.hidden = found.length <= ROWS_FIRST;
    this.#more.textContent = this.#all ? `Show the first ${ROWS_FIRST} only` : `Show all ${grouped(found.length)}`;
  }

  #says(found, all) {
    const filtered = this.#find.value || this.#state.value ? `${grouped(found)} of ${count(all, "client")}` : "";
    const isUsual = this.#sortedBy === BY_NEED && this.#way === "ascending";
    const sorting = isUsual ? "" : `sorted by ${COLUMNS[this.#sortedBy][0]}, ${WAYS[this.#way]}`;
    return [filtered, sorting].filter(Boolean).join(", ");
  }

  /** A row stays the same element as long as its client is known, so that whoever is on its link stays there. */
  #showRows(shown, known) {
    const focused = document.activeElement;
    for (const client of this.#rows.keys()) if (!known.has(client)) this.#rows.delete(client);
    const lines = shown.map(([client, row]) => {
      if (!this.#rows.has(client)) this.#rows.set(client, element("tr", {}, nameOf(client, this.#board.federation)));
      const line = this.#rows.get(client);
      while (line.cells.length > 1) line.deleteCell(-1);
      line.append(...cells(row));
      return line;
    });
    const isAsBefore = lines.length === this.#body.rows.length && lines.every((line, place) => line === this.#body.rows[place]);
    if (isAsBefore) return;
    this.#body.replaceChildren(...lines);
    if (this.#body.contains(focused)) focused.focus({ preventScroll: true });
  }

  #matches(client, row) {
    if (this.#state.value && row.state !== this.#state.value) return false;
    const wanted = this.#find.value.trim().toLowerCase();
    return [client, row.label, row.note].some((text) => (text ?? "").toLowerCase().includes(wanted));
  }
}

/** Rows that have nothing there are last, whichever way; those that are alike stay as they were. */
function sorted(rows, place, way) {
  const [, value] = COLUMNS[place];
  const sign = way === "ascending" ? 1 : -1;
  const told = rows.map(([client, row]) => ({ key: value(client, row), pair: [client, row] }));
  const isEmpty = ({ key }) => key === null || key === undefined || key === "";
  const known = told.filter((one) => !isEmpty(one)).sort((a, b) => sign * (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return [...known, ...told.filter(isEmpty)].map(({ pair }) => pair);
}

function nameOf(client, federation) {
  return element("th", { scope: "row", title: client }, element("a", { href: hashOf(federation, client) }, client));
}

function cells(row) {
  const { mark, says } = STATES[row.state];
  return [
    element("td", {}, element("span", { class: `cell ${row.state}`, "aria-hidden": true }, mark), says),
    element("td", {}, ...does(row)),
    element("td", { class: "note" }, row.note || ""),
    element("td", { class: "number" }, row.invited ? `${grouped(row.answered)} of ${grouped(row.invited)}` : ""),
    element("td", { class: "number" }, row.durationS ? took(row.durationS) : ""),
    element("td", { class: "number" }, row.uplinkKbps ? rate(row.uplinkKbps) : ""),
    element("td", {}, row.state === "away" ? lastSeen(row.lastSeen) : ""),
    element("td", {}, row.label || ""),
  ];
}

function lastSeen(moment) {
  const passed = moment ? secondsBetween(moment, Date.now()) : null;
  return passed === null ? "" : `${duration(passed)} ago`;
}
