// Topics and messages: what this client writes, and what it reads of a coordinator. See
// docs/protocol.md and docs/messages.md.

import { ofText, sha256 } from "./bytes.js";
import { WireError, decode, encode } from "./messagepack.js";

export const WIRE_VERSION = 1;
export const PROGRAM = "browser_client 1";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const RUN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const NOTE_MAX = 500;

export const isName = (text) => NAME.test(text);

export function topics(federation, id) {
  const root = `fed/v1/${federation}`;
  return {
    offer: `${root}/offer`,
    inbox: `${root}/inbox/${id}`,
    presence: `${root}/presence/${id}`,
    models: `${root}/model/`,
    chunk: (digest, number) => `${root}/model/${digest}/${number}`,
    update: (lane, round, part) => `${root}/update/${lane}/${id}/${round}/${part}`,
  };
}

/** Which of so many lanes a client's answers take: the CRC-32 of its name. */
export function laneOf(client, lanes) {
  let crc = 0xffffffff;
  for (const byte of ofText(client)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ((crc ^ 0xffffffff) >>> 0) % lanes;
}

/** What a client draws in a round by sortition, from 0 to 2^56 - 1, as BigInt. */
export async function draw(salt, round, purpose, client) {
  const hash = await sha256(ofText(`${salt}/${round}/${purpose}/${client}`));
  return new DataView(hash.buffer).getBigUint64(0) >> 8n;
}

/** Whether the offer invites this client to "train" or to "evaluate". */
export async function invites(offer, client, purpose) {
  if (!offer.sortition) return offer[purpose].includes(client);
  const drawn = await draw(offer.sortition.salt, offer.round, purpose, client);
  return drawn < BigInt(offer.sortition[purpose]);
}

// What this client says

export const presence = (session, told) =>
  encode({ kind: "presence", wire: WIRE_VERSION, online: true, session, program: PROGRAM, draws: true, ...told });

export const goodbye = (session) => encode({ kind: "presence", wire: WIRE_VERSION, online: false, session });

/** What a message may tell people, of a longer text. */
export const reason = (text) => text.slice(0, NOTE_MAX);

export const decline = (run, round, why) => encode({ kind: "decline", run, round, reason: reason(why) });

export const announce = (run, round, digest, size_bytes, chunk_bytes) =>
  encode({ kind: "announce", run, round, digest, size_bytes, chunk_bytes });

/** Its fields stand in this order: by how it begins it is told that it needs no signature. */
export const chunk = (digest, data) => encode({ kind: "chunk", digest, data });

export const update = (fields) => encode({ kind: "update", wire: WIRE_VERSION, ...fields });

export const evaluation = (fields) => encode({ kind: "evaluation", wire: WIRE_VERSION, ...fields });

// What it reads; all of these throw WireError

export const readOffer = (bytes) => checkedOffer(read(bytes, "offer"));

function checkedOffer(said) {
  const told = {
    ...{ wire: WIRE_VERSION, epoch: 0, spread_s: 0, late_rounds: 0, method: {}, sortition: null },
    ...{ slow_links: null, describes: false, asynchronous: false, masking: null, model_file: new Uint8Array() },
    ...said,
  };
  checkRound(told);
  const { model, training, sortition } = told;
  check(isCount(told.epoch, 0), "epoch");
  check(isObject(model) && DIGEST.test(model.digest) && isCount(model.size_bytes), "model");
  check(isCount(model.chunk_bytes, 1024) && typeof model.fingerprint === "string", "model");
  check([told.train, told.evaluate].every((names) => Array.isArray(names)), "train, evaluate");
  check(isCount(told.lanes) && told.lanes <= 4096, "lanes");
  check(isSeconds(told.closes_in_s) && isSeconds(told.spread_s), "closes_in_s, spread_s");
  check(isObject(training) && isObject(told.method), "training, method");
  told.training = { epochs: 1, batch_size: 16, learning_rate: 0.05, momentum: 0, weight_decay: 0, proximal: 0, ...training };
  check(isCount(told.training.epochs) && isCount(told.training.batch_size), "training");
  check(Object.values(told.training).every((value) => Number.isFinite(value) && value >= 0), "training");
  check(typeof told.task === "string" && typeof told.codec === "string", "task, codec");
  check(told.model_file instanceof Uint8Array, "model_file");
  if (sortition !== null) {
    check(isObject(sortition) && typeof sortition.salt === "string", "sortition");
    check([sortition.train, sortition.evaluate].every((one) => typeof one === "bigint" || isCount(one, 0)), "sortition");
  }
  return told;
}

/** A Receipt, Go, TimeLeft, or the Offer again. */
export function readInbox(bytes) {
  const told = read(bytes, "receipt", "go", "timeleft", "offer", "open");
  if (told.kind === "offer") return checkedOffer(told);
  checkRound(told);
  if (told.kind === "receipt") {
    check(typeof told.accepted === "boolean" && typeof (told.reason ?? "") === "string", "accepted, reason");
  }
  if (told.kind === "timeleft") check(isSeconds(told.closes_in_s), "closes_in_s");
  if (told.kind === "go") {
    check(DIGEST.test(told.digest) && Array.isArray(told.ranges), "digest, ranges");
    check(told.ranges.every((one) => Array.isArray(one) && one.length === 2 && one.every(Number.isSafeInteger)), "ranges");
  }
  return told;
}

export function readPresence(bytes) {
  const told = read(bytes, "presence");
  check(typeof told.online === "boolean" && typeof told.session === "string", "online, session");
  return told;
}

function read(bytes, ...kinds) {
  const told = decode(bytes);
  if (!isObject(told) || !kinds.includes(told.kind)) throw new WireError(`no ${kinds.join(", ")}`);
  return told;
}

function checkRound(told) {
  check(RUN.test(told.run) && isCount(told.round, 0), "run, round");
}

function check(holds, names) {
  if (!holds) throw new WireError(`${names}: missing, of another type or out of bounds`);
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array);
const isCount = (value, least = 1) => Number.isSafeInteger(value) && value >= least;
const isSeconds = (value) => Number.isFinite(value) && value >= 0 && value <= 1e9;
