// Where this page's federation is: from the address that it was opened by.
//
//   #federation=demo&broker=wss://broker.example/mqtt     the broker's own WebSocket
//   #token=...                                            asked of serve.py, which relays

import { isName } from "./wire.js";
import { ownId } from "./store.js";

const TASK = "learning_tasks.linear";
const CHUNK_BYTES_MIN = 1024;

/** {url, federation, id, task, username, password, chunkBytes, federation_key, ...}. Throws Error. */
export async function findConnection() {
  const words = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const token = takeToken(words);
  const told = words.broker ? {} : await ask(token);
  const url = words.broker ?? `${location.origin.replace(/^http/, "ws")}/broker?${token}`;
  if (!/^wss?:\/\//.test(url)) throw new Error(`broker ${url}: expected ws:// or wss://`);
  const federation = told.federation || words.federation || "";
  if (!isName(federation)) throw new Error("the address names no federation: #federation=NAME is missing");
  const id = told.id || words.id || ownId(federation);
  if (!isName(id)) throw new Error(`id ${id}: 1 to 64 letters, digits, '.', '_', '-' are expected`);
  const chunkBytes = words.chunk_bytes ? Number(words.chunk_bytes) : undefined;
  if (chunkBytes !== undefined && !(Number.isInteger(chunkBytes) && chunkBytes >= CHUNK_BYTES_MIN)) {
    throw new Error(`chunk_bytes ${words.chunk_bytes}: expected a whole number from ${CHUNK_BYTES_MIN}`);
  }
  return { ...told, url, federation, id, task: words.task ?? TASK, chunkBytes };
}

/** Kept for reloads, and not in the address: a browser's history is no place for it. */
function takeToken({ token, ...others }) {
  if (token !== undefined) {
    sessionStorage.setItem("token", token);
    history.replaceState(null, "", `#${new URLSearchParams(others)}`);
  }
  return token ?? sessionStorage.getItem("token") ?? "";
}

async function ask(token) {
  const answer = await fetch("/connection.json", { headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}
