// Curves over rounds, in SVG. Axes begin at 0, and a share's end at 1: a small step looks small.
//
// What a curve says is also in its label, under a slider that reads it round by round (with a finger,
// a mouse or arrow keys), and in a table.

import { drawing, element, say } from "./dom.js";
import { figure } from "./units.js";

const HEIGHT = 230, TOP = 10, BOTTOM = 26, LEFT = 48, RIGHT = 14;
const MARKS_MAX = 40;

export class Chart {
  #series = [];
  #rounds = [];
  #share = false;
  #picture = drawing("svg", { class: "picture", role: "img" });
  #keys = element("p", { class: "keys" });
  #slider;
  #readout = element("output", { class: "readout" });
  #table = element("tbody");
  #head = element("thead");
  #cursor = drawing("path", { class: "cursor" });
  #atEnd = true;

  constructor(title) {
    this.title = title;
    this.#slider = element("input", { type: "range", class: "slider", min: 0, "aria-label": `${title}: round to read` });
    this.figure = element(
      "figure",
      { class: "chart" },
      element("figcaption", {}, title),
      this.#keys,
      this.#picture,
      this.#slider,
      this.#readout,
      element("details", {}, element("summary", {}, "As a table"),
        element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` },
          element("table", {}, element("caption", { class: "spoken" }, title), this.#head, this.#table))),
    );
    this.#slider.addEventListener("input", () => {
      this.#atEnd = Number(this.#slider.value) === this.#rounds.length - 1;
      this.#read();
    });
    for (const kind of ["pointermove", "pointerdown"]) {
      this.#picture.addEventListener(kind, (event) => this.#point(event));
    }
    this.#picture.addEventListener("pointerleave", () => {
      if (this.#atEnd) this.#follow();
    });
    new ResizeObserver(() => this.#draw()).observe(this.#picture);
  }

  /** `series`: `{ name, points: [[round, value], ...] }`; `share`: values lie between 0 and 1. */
  show(series, share) {
    this.#series = series.filter((one) => one.points.length);
    this.#share = share;
    this.#rounds = [...new Set(this.#series.flatMap((one) => one.points.map(([round]) => round)))].sort((a, b) => a - b);
    this.figure.hidden = !this.#rounds.length;
    if (this.figure.hidden) return;
    this.#slider.max = this.#rounds.length - 1;
    this.#keys.replaceChildren(...this.#series.map((one, place) => element("span", { class: `key c${place}` }, swatch(), one.name)));
    this.#picture.setAttribute("aria-label", this.#summary());
    this.#fillTable();
    this.#draw();
    if (this.#atEnd) this.#follow();
    else this.#read();
  }

  #follow() {
    this.#slider.value = this.#rounds.length - 1;
    this.#atEnd = true;
    this.#read();
  }

  #point(event) {
    if (!this.#rounds.length) return;
    const box = this.#picture.getBoundingClientRect();
    const at = this.#roundAt(event.clientX - box.left);
    let best = 0;
    this.#rounds.forEach((round, place) => {
      if (Math.abs(round - at) < Math.abs(this.#rounds[best] - at)) best = place;
    });
    this.#slider.value = best;
    this.#read();
  }

  #read() {
    const round = this.#rounds[Number(this.#slider.value)];
    const told = this.#series.map((one) => {
      const value = one.points.find(([at]) => at === round)?.[1];
      return `${one.name} ${value === undefined ? "not measured" : figure(value)}`;
    });
    const sentence = `Round ${round}: ${told.join(", ")}`;
    say(this.#readout, sentence);
    this.#slider.setAttribute("aria-valuetext", sentence);
    const x = this.#x(round);
    this.#cursor.setAttribute("d", `M${x},${TOP}V${HEIGHT - BOTTOM}`);
  }

  #draw() {
    if (!this.#rounds.length || !this.#picture.clientWidth) return;
    const width = this.#picture.clientWidth;
    this.#picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const parts = [];
    for (const value of this.#scale()) {
      const y = this.#y(value);
      parts.push(drawing("path", { class: "grid", d: `M${LEFT},${y}H${width - RIGHT}` }));
      parts.push(drawing("text", { class: "end", x: LEFT - 6, y: y + 4 }, shownTick(value)));
    }
    parts.push(drawing("text", { x: 0, y: HEIGHT - 8 }, "round"));
    for (const round of roundTicks(this.#rounds[0], this.#rounds.at(-1), width / 70)) {
      parts.push(drawing("text", { class: "middle", x: this.#x(round), y: HEIGHT - 8 }, round));
    }
    this.#series.forEach((one, place) => parts.push(this.#curve(one, place)));
    this.#picture.replaceChildren(...parts, this.#cursor);
    this.#read();
  }

  #curve(one, place) {
    const corners = one.points.map(([round, value]) => [this.#x(round), this.#y(value)]);
    const line = drawing("polyline", { class: "line", points: corners.map((corner) => corner.join(",")).join(" ") });
    const marks = corners.length > MARKS_MAX ? [corners.at(-1)] : corners;
    return drawing("g", { class: `c${place}` }, line, ...marks.map(([x, y]) => drawing("circle", { class: "mark", cx: x, cy: y, r: 3 })));
  }

  #fillTable() {
    this.#head.replaceChildren(element("tr", {}, ...["round", ...this.#series.map((one) => one.name)].map((name) => element("th", { scope: "col" }, name))));
    const values = this.#series.map((one) => new Map(one.points));
    this.#table.replaceChildren(...this.#rounds.toReversed().map((round) => element("tr", {},
      element("th", { scope: "row" }, round),
      ...values.map((of) => element("td", {}, of.has(round) ? figure(of.get(round)) : "")))));
  }

  #summary() {
    const told = this.#series.map(({ name, points }) => {
      const [first, last] = [points[0], points.at(-1)];
      return `${name} from ${figure(first[1])} at round ${first[0]} to ${figure(last[1])} at round ${last[0]}`;
    });
    return `${this.title}: ${told.join("; ")}`;
  }

  #scale() {
    const values = this.#series.flatMap((one) => one.points.map(([, value]) => value));
    const low = Math.min(0, ...values), high = Math.max(this.#share ? 1 : 0, ...values);
    return niceTicks(low, high);
  }

  #x(round) {
    const [first, last] = [this.#rounds[0], this.#rounds.at(-1)];
    const width = (this.#picture.clientWidth || 300) - LEFT - RIGHT;
    return tidy(LEFT + (last === first ? 0.5 : (round - first) / (last - first)) * width);
  }

  #roundAt(x) {
    const [first, last] = [this.#rounds[0], this.#rounds.at(-1)];
    return first + (x - LEFT) / (this.#picture.clientWidth - LEFT - RIGHT) * (last - first);
  }

  #y(value) {
    const ticks = this.#scale();
    const [low, high] = [ticks[0], ticks.at(-1)];
    return tidy(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP));
  }
}

/** About five round values, from at most `low` to at least `high`. */
export function niceTicks(low, high) {
  const span = high - low || 1;
  const rough = span / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const ticks = [];
  for (let place = Math.floor(low / step + 1e-9); ; place += 1) {
    ticks.push(place * step);
    if (place * step >= high - step * 1e-6 && ticks.length > 1) return ticks;
  }
}

function roundTicks(first, last, most) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((one) => (last - first) / one <= most) ?? (last - first);
  const ticks = [];
  for (let round = Math.ceil(first / step) * step; round <= last; round += step || 1) ticks.push(round);
  return ticks;
}

function shownTick(value) {
  return Number(value.toPrecision(6)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

function swatch() {
  return drawing("svg", { class: "swatch", viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": true },
    drawing("path", { class: "line", d: "M1,6H25" }), drawing("circle", { class: "mark", cx: 13, cy: 6, r: 3 }));
}

function tidy(value) {
  return Math.round(value * 10) / 10;
}
