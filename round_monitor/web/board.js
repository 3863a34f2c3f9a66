// What is known of one federation: the newest of each page, and what happened, found by comparing.

import { decode, PAGES } from "./pages.js";
import { between } from "./events.js";
import { clock } from "./units.js";

const EVENTS_MAX = 200;
const CLIENTS_MAX = 2000;

export class Board {
  constructor(federation) {
    this.federation = federation;
    this.pages = {};
    this.clients = new Map();
    this.events = [];
    this.heardAt = null;
    this.unreadableCount = 0;
    /** Pages whose newest cannot be read: what is known of them is what they said before. */
    this.unreadable = new Set();
  }

  /** Whether this changes what there is to see. `path` is what follows `status/`. */
  take(path, bytes, retained, now) {
    const [name, client] = path.split("/");
    const target = client === undefined ? [this.pages, name] : [this.clients, client];
    if (client !== undefined && name !== "client") return false;
    // Of a newer coordinator.
    if (client === undefined && !PAGES.includes(name)) return false;
    const wasUnreadable = this.unreadable.delete(path);
    if (bytes.length === 0) {
      if (!retained) this.heardAt = now;
      return forget(...target) || wasUnreadable;
    }
    const page = decode(name, bytes);
    if (page === null) {
      this.unreadableCount += 1;
      // Whoever publishes many of clients' pages must not fill our memory.
      if (client === undefined || this.unreadable.size < CLIENTS_MAX) this.unreadable.add(path);
      return true;
    }
    // What lay on the broker may be from any time, and anybody's bytes are no sign that the coordinator works.
    if (!retained) this.heardAt = now;
    if (target[0] === this.clients) {
      if (this.clients.size >= CLIENTS_MAX && !this.clients.has(client)) return false;
      this.clients.set(client, page);
      return true;
    }
    for (const text of between(name, this.pages, page)) this.#log(text, now);
    this.pages[name] = page;
    return true;
  }

  get isEmpty() {
    return Object.keys(this.pages).length === 0;
  }

  #log(text, now) {
    this.events.unshift({ at: clock(new Date(now)), text });
    this.events.length = Math.min(this.events.length, EVENTS_MAX);
  }
}

function forget(from, name) {
  if (from instanceof Map) return from.delete(name);
  const was = Object.hasOwn(from, name);
  delete from[name];
  return was;
}
