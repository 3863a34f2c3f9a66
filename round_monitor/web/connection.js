// The way to the broker: MQTT over a WebSocket, read-only, which comes back by itself.

import mqtt from "./mqtt.esm.js";
import { decode, PAGES } from "./pages.js";
import { duration } from "./units.js";

const ROOT = "fed/v1";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const FEDERATIONS_MAX = 100;
const RETRY_MS = 1000;
const CONNECT_WITHIN_MS = 8000;
const KEEPALIVE_S = 30;
/** After so long without anything retained, pages are asked for by name: some brokers bring none to wildcards. */
const BY_NAME_MS = 2000;
const NAMES_AT_ONCE = 100;
const REFUSED = 128;
export const GONE = "`fedmqtt dashboard` does not answer: is it still running?";

/** The token of the address that `fedmqtt dashboard` printed; kept for reloads, not in the address. */
export function takeToken() {
  const words = new URLSearchParams(location.hash.slice(1));
  const token = words.get("token");
  if (token !== null) {
    sessionStorage.setItem("token", token);
    words.delete("token");
    history.replaceState(null, "", words.size ? `#${words}` : location.pathname);
  }
  return token ?? sessionStorage.getItem("token") ?? "";
}

/** How to reach the broker, from our own server. Raises Error with a sentence. */
export async function askHow(token) {
  const answer = await fetch("connection.json", { headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

export class Connection {
  #client = null;
  #federation;
  #broker;
  #lostAt = null;
  #why = "";
  /** Whether something that is retained has come over this connection. */
  #isBrought = false;
  /** Of each federation, the pages that were asked for by name; null where wildcards bring them. */
  #asked = null;
  #seen = new Set();
  #refused = "";

  /** `onPage(federation, path, bytes, retained)`; `onChange()` when there is something else to say. */
  constructor(how, token, onPage, onChange) {
    this.#federation = how.federation;
    this.#broker = how.broker;
    const url = how.websocket.startsWith("/")
      ? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${how.websocket}?${token}`
      : how.websocket;
    this.#client = mqtt.connect({
      protocol: url.startsWith("wss") ? "wss" : "ws",
      protocolVersion: 4,
      clientId: `watch-${[...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`,
      username: how.username ?? undefined,
      password: how.password ?? undefined,
      clean: true,
      keepalive: KEEPALIVE_S,
      reconnectPeriod: RETRY_MS,
      connectTimeout: CONNECT_WITHIN_MS,
      resubscribe: false,
      // Without: it starts a worker of text that it makes, which this page's policy forbids.
      timerVariant: "native",
      createWebsocket: () => this.#socket(url),
    });
    this.#client.on("connect", () => {
      this.#lostAt = null;
      this.#why = "";
      this.#isBrought = false;
      this.#asked = null;
      this.#subscribe(onChange);
      onChange();
    });
    this.#client.on("close", () => {
      this.#lostAt ??= Date.now();
      this.#askWhy(token).then(onChange);
      onChange();
    });
    this.#client.on("error", (error) => {
      this.#why = error.message;
      onChange();
    });
    this.#client.on("message", (topic, payload, packet) => {
      const [root, version, federation, status, ...path] = topic.split("/");
      if (`${root}/${version}` !== ROOT || status !== "status" || !NAME.test(federation)) return;
      this.#isBrought ||= packet.retain;
      this.#seen.add(federation);
      if (this.#asked) this.#askByName(federation, path.join("/"), payload);
      onPage(federation, path.join("/"), payload, packet.retain);
    });
  }

  get isUp() {
    return this.#client.connected;
  }

  /** Whether nothing has gone wrong yet. */
  get isNew() {
    return this.#lostAt === null && this.#why === "";
  }

  /** What it waits for. */
  get sentence() {
    if (this.isUp && this.#refused) return this.#refused;
    if (this.isUp) return `Connected to ${this.#broker}; nothing is published for ${this.#federation || "any federation"} so far`;
    if (this.isNew) return `Connecting to ${this.#broker}`;
    const lost = this.#lostAt === null ? "" : ` for ${duration((Date.now() - this.#lostAt) / 1000)}`;
    const why = this.#why ? ` (${this.#why})` : "";
    return `No connection to ${this.#broker}${lost}, trying again each second${why}`;
  }

  #subscribe(onChange) {
    const federation = this.#federation || "+";
    const base = `${ROOT}/${federation}/status`;
    this.#client.subscribe(`${base}/#`, { qos: 1 }, (error, granted) => {
      const refused = error || granted?.some((one) => one.qos === REFUSED);
      this.#refused = refused ? `${this.#broker} does not let this account read ${base}/#` : "";
      onChange();
    });
    setTimeout(() => {
      if (!this.isUp || this.#isBrought) return;
      this.#asked = new Map();
      for (const one of this.#federation ? [this.#federation] : this.#seen) this.#askByName(one);
    }, BY_NAME_MS);
  }

  /** For each page of a federation; and, from the list of its clients, for theirs. */
  #askByName(federation, page = "", payload = null) {
    if (!this.#asked.has(federation)) this.#asked.set(federation, new Set());
    const asked = this.#asked.get(federation);
    const people = page === "clients" ? decode(page, payload) : null;
    const clients = people ? [...people.online, ...people.away] : [];
    const wanted = [...PAGES, ...clients.filter((one) => NAME.test(one)).map((one) => `client/${one}`)];
    const added = wanted.filter((one) => !asked.has(one));
    for (const one of added) asked.add(one);
    for (let at = 0; at < added.length; at += NAMES_AT_ONCE) {
      const topics = added.slice(at, at + NAMES_AT_ONCE).map((one) => `${ROOT}/${federation}/status/${one}`);
      this.#client.subscribe(topics, { qos: 1 });
    }
  }

  /** A browser does not tell a page why a WebSocket was refused: our own server does, if it is there. */
  async #askWhy(token) {
    try {
      await askHow(token);
      if (this.#why === GONE) this.#why = "";
    } catch (error) {
      this.#why = error instanceof TypeError ? GONE : error.message;
    }
  }

  #socket(url) {
    const socket = new WebSocket(url, ["mqtt"]);
    // The relay says why, in words; the library passes on no reasons.
    socket.addEventListener("close", (event) => {
      if (event.reason) this.#why = event.reason;
    });
    return socket;
  }
}

export { FEDERATIONS_MAX };
