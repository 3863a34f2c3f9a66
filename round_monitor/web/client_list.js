// Who is there and does what: a map of all, and a table to filter.

import { clientStates, countStates, STATES } from "./clients.js";
import { element, say } from "./dom.js";
import { count, duration, grouped, rate, secondsBetween } from "./units.js";

const ROWS_FIRST = 15;
/** Of more clients the map shows colours alone. */
const MARKED_MAX = 200;
const COLUMNS = ["client", "state", "does", "note", "answered", "takes", "uplink", "last seen", "label"];
const NUMBERS = ["answered", "takes", "uplink"];

export class ClientList {
  #all = false;
  #board = null;
  #find = element("input", { type: "search", id: "find", placeholder: "name, label or note", autocomplete: "off" });
  #state = element("select", { id: "state" });
  #map = element("div", { class: "map", role: "img" });
  #legend = element("ul", { class: "legend" });
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
        element("table", { class: "people" }, element("caption", { class: "spoken" }, "Clients"),
          element("thead", {}, element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col", class: NUMBERS.includes(name) ? "number" : null }, name)))),
          this.#body)),
      this.#more,
    ];
  }

  show(board) {
    this.#board = board;
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
    const found = [...rows].filter(([client, row]) => this.#matches(client, row));
    const shown = this.#all ? found : found.slice(0, ROWS_FIRST);
    const filtered = this.#find.value || this.#state.value;
    say(this.#told, filtered ? `${grouped(found.length)} of ${count(rows.size, "client")}` : "");
    this.#body.replaceChildren(...shown.map(([client, row]) => line(client, row)));
    const lacking = new Set(COLUMNS.slice(2).filter((_, place) => ![...this.#body.rows].some((row) => row.cells[place + 2].textContent)));
    for (const row of this.#body.closest("table").rows) {
      COLUMNS.forEach((name, place) => (row.cells[place].hidden = lacking.has(name)));
    }
    this.#more.hidden = found.length <= ROWS_FIRST;
    this.#more.textContent = this.#all ? `Show the first ${ROWS_FIRST} only` : `Show all ${grouped(found.length)}`;
  }

  #matches(client, row) {
    if (this.#state.value && row.state !== this.#state.value) return false;
    const wanted = this.#find.value.trim().toLowerCase();
    return [client, row.label, row.note].some((text) => (text ?? "").toLowerCase().includes(wanted));
  }
}

function line(client, row) {
  const { mark, says } = STATES[row.state];
  const cells = [
    element("td", {}, element("span", { class: `cell ${row.state}`, "aria-hidden": true }, mark), says),
    element("td", {}, ...does(row)),
    element("td", { class: "note" }, row.note || ""),
    element("td", { class: "number" }, row.invited ? `${grouped(row.answered)} of ${grouped(row.invited)}` : ""),
    element("td", { class: "number" }, row.durationS ? duration(row.durationS) : ""),
    element("td", { class: "number" }, row.uplinkKbps ? rate(row.uplinkKbps) : ""),
    element("td", {}, row.state === "away" ? lastSeen(row.lastSeen) : ""),
    element("td", {}, row.label || ""),
  ];
  return element("tr", {}, element("th", { scope: "row", title: client }, client), ...cells);
}

function does(row) {
  if (!row.does) return [];
  if (!row.progress) return [row.does];
  const share = Math.round(Math.min(1, row.progress) * 100);
  return [element("progress", { max: 100, value: share, "aria-label": "done of it" }, `${share}%`), ` ${row.does}`];
}

function lastSeen(moment) {
  const passed = moment ? secondsBetween(moment, Date.now()) : null;
  return passed === null ? "" : `${duration(passed)} ago`;
}
