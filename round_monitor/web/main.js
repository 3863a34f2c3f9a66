// The page: connects, keeps a board for each federation, and draws what has changed.

import { Board } from "./board.js";
import { ClientList } from "./client_list.js";
import { ClientView } from "./client_view.js";
import { askHow, Connection, FEDERATIONS_MAX, GONE, takeToken } from "./connection.js";
import { element, say } from "./dom.js";
import { Grid } from "./grid.js";
import { health, missing, trend } from "./health.js";
import { hashOf, placeOf } from "./place.js";
import { byId, showDeadline, showEvents, showModel, showPrivacy, showRound, showTraffic, showTrouble } from "./sections.js";
import { clock, duration } from "./units.js";

const BETWEEN_DRAWINGS_MS = 200;
/** A page that shows thousands of rows must leave time for whoever wants to use it. */
const SHARE_OF_TIME = 0.2;
const TICK_MS = 1000;
const ASK_AGAIN_MS = 2000;
const STARTING = "Asking how to reach the broker";

const boards = new Map();
const drawn = new Map();
const grid = new Grid();
const clients = new ClientList();
let link = null;
const clientView = new ClientView();
let { federation: chosen, client: lookedAt } = placeOf(location.hash) ?? { federation: "", client: "" };
/** The only federation that is told of here; "" where any is. */
let fixed = "";
let drawing = null;
let pauseMs = BETWEEN_DRAWINGS_MS;
let newest = null;
let starting = STARTING;

byId("participation-body").append(...grid.parts);
byId("clients-body").append(...clients.parts);
byId("federations").addEventListener("change", (event) => choose(event.target.value));
addEventListener("hashchange", go);
setInterval(draw, TICK_MS);
draw();
start(takeToken());

async function start(token) {
  try {
    const how = await askHow(token);
    fixed = how.federation;
    if (fixed) chosen = fixed;
    say(byId("version"), `fedmqtt ${how.version}.`);
    link = new Connection(how, token, take, drawSoon);
  } catch (error) {
    const isGone = error instanceof TypeError;
    starting = isGone ? GONE : error.message;
    if (isGone) setTimeout(() => start(token), ASK_AGAIN_MS);
  }
  drawSoon();
}

function take(federation, path, bytes, retained) {
  const now = Date.now();
  newest = now;
  if (!boards.has(federation)) {
    if (boards.size >= FEDERATIONS_MAX) return;
    boards.set(federation, new Board(federation));
  }
  if (boards.get(federation).take(path, bytes, retained, now)) drawSoon();
}

function choose(federation) {
  chosen = federation;
  lookedAt = "";
  history.replaceState(null, "", hashOf(federation));
  drawn.clear();
  draw();
}

/** To where the address leads now: a client, or all of them. */
function go() {
  if (new URLSearchParams(location.hash.slice(1)).has("token")) return location.reload();
  const place = placeOf(location.hash);
  if (place === null) return;
  const before = lookedAt;
  if (!fixed && place.federation && place.federation !== chosen) {
    chosen = place.federation;
    drawn.clear();
  }
  lookedAt = place.client;
  draw();
  if (lookedAt) byId("client-title").focus();
  else if (before && !clients.focusOn(before)) byId("clients-title").focus();
}

function drawSoon() {
  drawing ??= setTimeout(() => {
    const began = performance.now();
    draw();
    pauseMs = Math.max(BETWEEN_DRAWINGS_MS, (performance.now() - began) / SHARE_OF_TIME);
    drawing = null;
  }, pauseMs);
}

function draw() {
  const now = Date.now();
  const known = [...boards.keys()].sort();
  if (!chosen && known.length) chosen = known[0];
  const board = boards.get(chosen) ?? null;
  showNames(known, board);
  showAnswers(board, now);
  byId("client").hidden = !board || board.isEmpty || !lookedAt;
  byId("known").hidden = !board || board.isEmpty || Boolean(lookedAt);
  if (!board) return;
  if (lookedAt) {
    byId("back").href = hashOf(chosen);
    clientView.show(board, lookedAt, now);
    return;
  }
  const { round, pace, coordinator, clients: people, model, history, traffic, participation } = board.pages;
  when("round", [round, pace, coordinator], () => showRound(board, now));
  showDeadline(board, now);
  when("trouble", [round, people, coordinator, board.unreadableCount], () => showTrouble(board));
  when("model", [model, history], () => showModel(board));
  when("participation", [participation], () => {
    byId("participation").hidden = !participation;
    if (participation) grid.show(participation);
  });
  when("clients", [people, round, ...board.clients.values()], () => clients.show(board));
  when("traffic", [traffic, history, model], () => showTraffic(board));
  when("privacy", [model, coordinator], () => showPrivacy(board));
  when("events", [board.events[0], board.events.length], () => showEvents(board));
}

/** Draws a part again only where what it shows is another. */
function when(part, shown, show) {
  const before = drawn.get(part);
  if (before && before.length === shown.length && shown.every((one, place) => one === before[place])) return;
  drawn.set(part, shown);
  show();
}

function showNames(known, board) {
  say(byId("name"), chosen);
  byId("choose").hidden = known.length < 2;
  when("federations", known, () => byId("federations").replaceChildren(...known.map((name) => element("option", { value: name }, name))));
  if (byId("federations").value !== chosen) byId("federations").value = chosen;
  const page = board?.pages.coordinator;
  say(byId("link"), page ? `run ${page.run} · task ${page.task} · fedmqtt ${page.version || page.program}` : "");
}

function showAnswers(board, now) {
  const told = link ?? { isUp: false, isNew: starting === STARTING, sentence: starting };
  const { state, word, sentence } = health(board, told, now);
  const section = byId("health");
  section.className = state;
  say(byId("health-word"), word);
  say(byId("health-says"), sentence);
  const next = told.isUp ? board?.pages.coordinator?.next_step : "";
  byId("next").hidden = !next;
  if (next) say(byId("next"), `Next: ${next}`);
  // Each sentence would be too much to listen to: only what is new about its state.
  when("announced", [state, told.isUp], () => say(byId("announced"), `${word}: ${sentence}`));
  document.title = [lookedAt, word, chosen || "fedmqtt"].filter(Boolean).join(" · ");
  const isOld = board && !told.isUp && newest !== null;
  byId("stale").hidden = !isOld;
  if (isOld) say(byId("stale"), `All below is as it was at ${clock(new Date(newest))}, ${duration((now - newest) / 1000)} ago.`);
  document.body.classList.toggle("old", Boolean(isOld));
  byId("answers").hidden = !board?.pages.coordinator;
  for (const [id, answer] of [["missing", missing(board)], ["trend", trend(board)]]) {
    byId(id).className = answer.state;
    say(byId(id).querySelector("dd"), answer.sentence);
  }
}
