// Which curves there are to draw, from the history of rounds.

import { spelled } from "./units.js";

const SHARES = ["accuracy", "macro_f1"];

/** Title of a chart to `{ series, share }`. */
export function curves(history) {
  const measured = collect(history, (line) => line.figures?.metrics);
  const trained = collect(history, (line) => line.train_metrics);
  const charts = new Map();
  const add = (title, name, points, share = false) => {
    const chart = charts.get(title) ?? { series: [], share };
    chart.series.push({ name, points });
    charts.set(title, chart);
  };
  for (const name of [...SHARES, ...measured.keys()]) {
    if (!measured.has(name)) continue;
    const points = measured.get(name);
    measured.delete(name);
    if (SHARES.includes(name)) add("Accuracy on clients’ own data", spelled(name), points, true);
    else if (name.includes("loss")) add("Loss", `${spelled(name)}, measured`, points);
    else add(spelled(name), spelled(name), points);
  }
  for (const [name, points] of trained) {
    if (name.includes("loss")) add("Loss", `${spelled(name)}, in training`, points);
    else add(`${spelled(name)}, in training`, spelled(name), points);
  }
  const spent = history.filter((line) => line.epsilon !== null).map((line) => [line.round, line.epsilon]);
  if (spent.length) add("Privacy spent: ε", "ε", spent);
  return charts;
}

/** Metric to `[round, value]`s. */
function collect(history, metricsOf) {
  const found = new Map();
  for (const line of history) {
    for (const [name, value] of metricsOf(line) ?? []) {
      found.set(name, [...(found.get(name) ?? []), [line.round, value]]);
    }
  }
  return found;
}
