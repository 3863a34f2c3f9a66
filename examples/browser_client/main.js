// The page: its data, what the client in it does, and what came of it.

import { Client } from "./client.js";
import { findConnection } from "./connection.js";
import { drawnRows } from "./drawn_rows.js";
import { readKeys } from "./envelope.js";
import { Store } from "./store.js";

const EVENTS_MAX = 200;
const element = (id) => document.getElementById(id);

function tell(what, about) {
  element("says").textContent = `${what[0].toUpperCase()}${what.slice(1)}: ${about}`;
  const line = document.createElement("li");
  const word = document.createElement("b");
  word.textContent = what;
  // Text, never HTML: much of it is what others chose.
  line.append(word, " ", about);
  element("events").prepend(line);
  while (element("events").childElementCount > EVENTS_MAX) element("events").lastElementChild.remove();
}

/** One page per name: two would throw each other out. Resolves once it is ours; held until the page ends. */
function onlyPage(federation, id) {
  return new Promise((resolve, reject) => {
    navigator.locks.request(`fedmqtt/${federation}/${id}`, { ifAvailable: true }, (lock) => {
      if (lock === null) reject(new Error(`${id} is open in another page of this browser already`));
      else resolve();
      return lock && new Promise(() => {});
    });
  });
}

async function main() {
  element("rows").value = drawnRows();
  element("draw").addEventListener("click", () => (element("rows").value = drawnRows()));
  element("file").addEventListener("change", async ({ target }) => {
    if (target.files.length) element("rows").value = await target.files[0].text();
  });
  if (!globalThis.crypto?.subtle) {
    throw new Error("a browser lets a page hash and sign at https:// and at localhost only: open it there");
  }
  const how = await findConnection();
  await onlyPage(how.federation, how.id);
  const keys = await readKeys(how);
  const client = new Client({ ...how, rows: () => element("rows").value }, keys, new Store(how.federation, how.id), tell);
  element("takes-part").addEventListener("change", ({ target }) => {
    client.hinder(target.checked ? "" : "its owner does not take part now");
  });
  addEventListener("pagehide", () => client.stop());
  // From the back/forward cache, where it was stopped.
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  tell("joining", `${how.federation} as ${how.id}`);
  client.start();
}

main().catch((error) => tell("stopped", error.message));
