// What outlives the page: this client's name, its answers without a receipt, and of which rounds it
// had one. In localStorage, which holds about 5 MB.

import { fromBase64, randomHex, toBase64 } from "./bytes.js";

const ROUNDS_MAX = 1000;

/** This browser's name in a federation, the same at each visit. */
export function ownId(federation) {
  const key = `fedmqtt/${federation}/id`;
  const id = localStorage.getItem(key) ?? `browser-${randomHex(4)}`;
  localStorage.setItem(key, id);
  return id;
}

export class Store {
  #key;

  constructor(federation, id) {
    this.#key = `fedmqtt/${federation}/${id}`;
  }

  /** [{run, round, lane, digest, bytes}, ...] */
  readOwed() {
    const kept = JSON.parse(localStorage.getItem(`${this.#key}/owed`) ?? "[]");
    return kept.map((one) => ({ ...one, bytes: fromBase64(one.bytes) }));
  }

  /** Throws QuotaExceededError where there is no room. */
  keepOwed(owed) {
    const kept = owed.map(({ run, round, lane, digest, bytes }) => ({ run, round, lane, digest, bytes: toBase64(bytes) }));
    localStorage.setItem(`${this.#key}/owed`, JSON.stringify(kept));
  }

  isDone(run, round) {
    return this.#done().includes(`${run}/${round}`);
  }

  keepDone(run, round) {
    const done = [...this.#done(), `${run}/${round}`].slice(-ROUNDS_MAX);
    localStorage.setItem(`${this.#key}/done`, JSON.stringify(done));
  }

  #done() {
    return JSON.parse(localStorage.getItem(`${this.#key}/done`) ?? "[]");
  }
}
