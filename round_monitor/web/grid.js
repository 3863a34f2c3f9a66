// Clients by rounds: what became of each invitation. A table, so that it can be read cell by cell.

import { element, spoken } from "./dom.js";
import { grouped } from "./units.js";

const ROWS_FIRST = 25;

const FATES = {
  a: "answered",
  l: "answered late, counted later",
  d: "dropped",
  n: "declined",
  r: "rejected",
  s: "not needed any more",
  q: "in quarantine",
};

export class Grid {
  #all = false;
  #page = null;
  #head = element("thead");
  #body = element("tbody");
  #more = element("button", { type: "button", hidden: true });
  #scroll;

  constructor() {
    this.#scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Participation by client and round" },
      element("table", { class: "fates" }, element("caption", { class: "spoken" }, "What became of each invitation"), this.#head, this.#body));
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.#draw();
    });
    this.parts = [legend(Object.keys(FATES)), this.#scroll, this.#more];
  }

  show(page) {
    this.#page = page;
    this.#draw();
  }

  #draw() {
    const { rounds, clients, clients_known: known } = this.#page;
    const rows = [...clients];
    const shown = this.#all ? rows : rows.slice(0, ROWS_FIRST);
    this.#head.replaceChildren(head(rounds));
    this.#body.replaceChildren(...shown.map(([client, line]) => row(client, line, rounds)));
    this.#more.hidden = rows.length <= ROWS_FIRST;
    this.#more.textContent = this.#all ? `Show the first ${ROWS_FIRST} only` : `Show all ${grouped(rows.length)}`;
    if (known > rows.length && this.#all) this.#more.textContent += ` (${grouped(known)} took part)`;
    // The newest rounds are the ones that people look at.
    this.#scroll.scrollLeft = this.#scroll.scrollWidth;
  }
}

/** One client's row alone, and what is in it; null where there is none. */
export function gridOf(page, client) {
  const line = page?.clients.get(client);
  if (!line) return null;
  const met = Object.keys(FATES).filter((letter) => line.includes(letter));
  const scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Participation by round" },
    element("table", { class: "fates" }, element("caption", { class: "spoken" }, "What became of each invitation"),
      element("thead", {}, head(page.rounds)), element("tbody", {}, row(client, line, page.rounds))));
  return { parts: [legend(met), scroll], scroll };
}

function legend(letters) {
  return element("ul", { class: "legend" }, ...letters.map((letter) =>
    element("li", {}, element("span", { class: `fate ${letter}`, "aria-hidden": true }), FATES[letter])));
}

function head(rounds) {
  return element("tr", {},
    element("th", { scope: "col" }, "client"),
    ...rounds.map((round, place) => element("th", { scope: "col", class: isTold(round, place, rounds) ? null : "untold" }, element("span", {}, round))),
    element("th", { scope: "col", class: "sum" }, "answered"));
}

function row(client, line, rounds) {
  const letters = [...line].slice(0, rounds.length);
  const invited = letters.filter((letter) => letter in FATES && letter !== "q").length;
  const answered = letters.filter((letter) => letter === "a" || letter === "l").length;
  return element("tr", {},
    element("th", { scope: "row", title: client }, client),
    ...letters.map((letter, place) => letter in FATES
      ? element("td", { class: `fate ${letter}`, title: `round ${rounds[place]}: ${FATES[letter]}` }, spoken(FATES[letter]))
      : element("td")),
    element("td", { class: "sum" }, `${answered} of ${invited}`));
}

/** Not each number has room; all are there for who listens. */
function isTold(round, place, rounds) {
  return place === 0 || place === rounds.length - 1 ? rounds.length < 3 || round % 5 === 0 : round % 5 === 0;
}
