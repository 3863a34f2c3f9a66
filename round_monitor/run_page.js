"use strict";
// Two things: runs are switched on and off, and a line is read where it is pointed at.
// Names are only ever set as text.

for (const box of document.querySelectorAll("[data-shows]")) {
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(".run-" + box.dataset.shows)) {
      part.toggleAttribute("hidden", !box.checked);
    }
  });
}

const readout = document.getElementById("readout");
// As in svg.py.
const LEFT = 50, RIGHT = 380, TOP = 12, BOTTOM = 220;

const edges = (text) => text.split(" ").map(Number);
const value = (at, from, to, [low, high]) => low + (at - from) / (to - from) * (high - low);
const shown = (number) => number.toLocaleString("en", { maximumSignificantDigits: 4 });

function nearest(line, x) {
  line.corners ??= line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number));
  let best = line.corners[0];
  for (const corner of line.corners) {
    if (Math.abs(corner[0] - x) < Math.abs(best[0] - x)) best = corner;
  }
  return best;
}

function hide(chart) {
  readout.hidden = true;
  chart.querySelector(".cursor")?.remove();
}

function read(chart, event) {
  const box = chart.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
  hide(chart);
  if (x < LEFT - 6 || x > RIGHT + 6) return;
  const across = edges(chart.dataset.x), up = edges(chart.dataset.y);
  const rows = [];
  for (const group of chart.querySelectorAll("g[data-run]:not([hidden])")) {
    const line = group.querySelector(".line");
    if (!line.getAttribute("points")) continue;
    const [atX, atY] = nearest(line, x);
    const exact = value(atX, LEFT, RIGHT, across);
    const spent = chart.dataset.whole === undefined ? exact : Math.round(exact);
    const name = document.querySelector(`[data-names="${group.dataset.run}"] bdi`);
    const says = shown(value(atY, BOTTOM, TOP, up)) + " at " + shown(spent);
    rows.push((name ? name.textContent + ": " : "") + says);
  }
  if (!rows.length) return;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("d", `M${Math.min(RIGHT, Math.max(LEFT, x))},${TOP}V${BOTTOM}`);
  chart.append(cursor);
  readout.replaceChildren(...[...rows, chart.dataset.xLabel].map((text, place) => {
    const row = document.createElement("p");
    row.textContent = text;
    if (place === rows.length) row.className = "quiet";
    return row;
  }));
  readout.hidden = false;
  // Beside the finger, never outside the window.
  const { width, height } = readout.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16;
  const top = Math.min(event.clientY + 16, innerHeight - height - 8);
  // Through the object model: the page's policy forbids style attributes, not this.
  readout.style.left = `${Math.max(4, left)}px`;
  readout.style.top = `${Math.max(4, top)}px`;
}

for (const chart of document.querySelectorAll("svg[data-x]")) {
  chart.addEventListener("pointermove", (event) => read(chart, event));
  chart.addEventListener("pointerdown", (event) => read(chart, event));
  chart.addEventListener("pointerleave", () => hide(chart));
}
