// A federation's client: which offer it takes, what it owes, and when it sends that again.
//
//   offer ──invited, willing──▶ model ──▶ training ──▶ answer, owed until its receipt
//
// One message is taken after the other. Training goes on beside them, in small pieces, and is
// dropped when its round is over.

import { joined, sha256, toHex } from "./bytes.js";
import { CODECS } from "./codecs.js";
import { Link } from "./link.js";
import { WireError } from "./messagepack.js";
import { fingerprint, readModel } from "./model_file.js";
import { measure, readRows, sizeOf, train } from "./softmax.js";
import * as wire from "./wire.js";

const RESEND_S = 20;
const RESEND_MAX_S = 600;
const MODEL_BYTES_MAX = 4_000_000;
/** Chunks of a model that are asked for at a time, and parts of an answer that are on the way. */
const AT_ONCE = 8;
/** Of the time that a round has left, for sending what there is by then: a part, and so much at least. */
const KEPT = 0.1;
const KEPT_MIN_MS = 1000;
/** What an offer may ask beyond plain local SGD, and is done here. */
const METHODS_KNOWN = ["partial", "tells_loss"];

/** The job is no longer wanted. */
class Dropped extends Error {}

export class Client {
  #how;
  #topics;
  #link;
  #store;
  #keys;
  #tell;
  #turnOf = Promise.resolve();
  #ticking = null;
  #isHeard = false;
  #tokens = [];
  #epoch = 0;
  #seen = null;
  #job = null;
  #owed;
  trouble = "";
  /** Why the page's owner does not take part now; empty: it does. */
  hindrance = "";

  /**
   * `how`: {url, federation, id, task, username, password, chunkBytes, rows()}, of which `rows` gives
   * the data as text. `tell(what, about)` hears what happens, for people.
   */
  constructor(how, keys, store, tell) {
    this.#how = how;
    this.#keys = keys;
    this.#store = store;
    this.#tell = tell;
    this.#topics = wire.topics(how.federation, how.id);
    this.#owed = store.readOwed();
    this.#owed.forEach(makeDue);
    this.#link = new Link({ ...how, clientId: `${how.federation}:${how.id}` }, this.#topics, {
      onUp: () => this.#inTurn(() => this.#connected()),
      onDown: (reason, waitS) => tell("offline", `${reason}; next try in ${waitS.toFixed(1)} s`),
      onMessage: (topic, payload, meta) => this.#inTurn(() => this.#take(topic, payload, meta)),
    });
  }

  start() {
    this.#link.open();
    this.#ticking = setInterval(() => this.#inTurn(() => this.#tick()), 1000);
  }

  stop() {
    clearInterval(this.#ticking);
    this.#job = null;
    this.#link.close();
  }

  /** Take part, or not for now: `reason` is told to everybody. */
  hinder(reason) {
    this.#inTurn(async () => {
      this.hindrance = reason;
      await this.#sayPresence();
      if (reason && this.#job) await this.#giveUp(this.#job, reason);
    });
  }

  #inTurn(action) {
    this.#turnOf = this.#turnOf.then(action).catch((error) => this.#tell("error", error.message));
  }

  // The link

  async #connected() {
    this.#tokens = [...this.#tokens, this.#link.token].slice(-32);
    this.#isHeard = false;
    this.#epoch = 0;
    this.#tell("online", "connected");
    await this.#sayPresence();
    // Subscriptions of a lost connection are gone.
    this.#link.subscribe([...(this.#job?.fetching?.asked ?? [])]);
    for (const one of this.#owed) one.isOnItsWay = false;
    this.#owed.forEach(makeDue);
    await this.#sendDue();
  }

  #sayPresence() {
    const purposes = this.hindrance ? [] : ["train", "evaluate"];
    const note = wire.reason(this.hindrance || this.trouble);
    const told = { task: this.#how.task, purposes, label: "browser", note };
    this.#link.publish(this.#topics.presence, wire.presence(this.#link.token, told), { retain: true });
  }

  async #take(topic, payload, { isRetained, expiresInS }) {
    if (topic.startsWith(this.#topics.models)) return this.#takeChunk(topic, payload);
    if (topic === this.#topics.presence) return payload.length ? this.#seePresence(wire.readPresence(payload)) : undefined;
    // An empty message clears what is retained, and nobody can sign that.
    if (topic === this.#topics.offer && !payload.length) return this.#withdraw();
    const message = await this.#keys.open(topic, payload);
    if (topic === this.#topics.offer) return this.#consider(wire.readOffer(message), isRetained, expiresInS);
    if (topic !== this.#topics.inbox) return;
    const told = wire.readInbox(message);
    // The board's, to this client alone: the broker may not have shown it that.
    if (told.kind === "offer") return this.#consider(told, isRetained, expiresInS);
    return this.#receive(told);
  }

  /** The broker may publish the will of an old connection after the birth of this one. */
  #seePresence(seen) {
    if (seen.session === this.#link.token && seen.online) {
      this.#isHeard = true;
    } else if (this.#isHeard && seen.online && !this.#tokens.includes(seen.session)) {
      // To correct each other would keep two clients busy for ever.
      this.#complain(`another client calls itself ${this.#how.id}: give each one a name of its own`);
    } else if (this.#isHeard) {
      this.#isHeard = false;
      this.#sayPresence();
    }
  }

  #complain(what) {
    if (what === this.trouble) return;
    this.trouble = what;
    this.#tell("trouble", what);
    this.#sayPresence();
  }

  // Offers

  async #consider(offer, isRetained, expiresInS) {
    if (offer.epoch < this.#epoch) return;
    const isOfNewCoordinator = this.#epoch > 0 && offer.epoch > this.#epoch;
    const isSaidNow = !isRetained && !offer.asynchronous && this.#owes(offer);
    this.#epoch = offer.epoch;
    this.#link.spreadS = offer.spread_s;
    if (isOfNewCoordinator || isSaidNow) {
      // What was sent to a coordinator that is gone may be gone with it.
      this.#owed.forEach(makeDue);
      await this.#sendDue();
    }
    const closesAt = Date.now() + 1000 * Math.min(offer.closes_in_s, expiresInS);
    const isOld = this.#seen?.run === offer.run && offer.round <= this.#seen.round;
    const isNews = offer.asynchronous && this.#seen?.round === offer.round && this.#seen.passedOver;
    const isAtIt = isFor(this.#job, offer);
    // The model's chunks lie there in another size: the broker carries other packets than before.
    const isCutAnew = isAtIt && this.#job.fetching && this.#job.offer.model.chunk_bytes !== offer.model.chunk_bytes;
    if (isOld && !isNews && !isCutAnew) {
      // It comes again at each connect, and when the coordinator had lost its broker.
      if (isAtIt) this.#job.closesAt = isOfNewCoordinator ? closesAt : Math.max(this.#job.closesAt, closesAt);
      return;
    }
    this.#dropJob();
    this.#seen = { run: offer.run, round: offer.round, passedOver: false };
    if (this.#owes(offer) || this.#store.isDone(offer.run, offer.round)) return;
    const invited = { train: await this.#isInvited(offer, "train"), evaluate: await this.#isInvited(offer, "evaluate") };
    if (!invited.train && !invited.evaluate) {
      this.#seen.passedOver = true;
      this.#tell("passed over", `round ${offer.round} asks others`);
      return;
    }
    const why = this.#whyNot(offer, invited.train);
    if (why) return this.#decline(offer, why);
    if (closesAt <= Date.now()) return;
    this.#job = { offer, invited, closesAt, fetching: null, endsItself: false };
    this.#work(this.#job);
  }

  #isInvited(offer, purpose) {
    return wire.invites(offer, this.#how.id, purpose);
  }

  /** Why it does not take part; what it does not know it declines, and never guesses. */
  #whyNot(offer, trains) {
    if (this.hindrance) return this.hindrance;
    if (offer.wire !== wire.WIRE_VERSION) return `this client speaks wire version ${wire.WIRE_VERSION}, not ${offer.wire}`;
    if (offer.task !== this.#how.task) return `this client runs task ${this.#how.task}, not ${offer.task}`;
    if (offer.model.size_bytes > MODEL_BYTES_MAX) return `the model has more than ${MODEL_BYTES_MAX} bytes`;
    const unknown = Object.entries(offer.method).filter(([name, value]) => asksFor(value) && !METHODS_KNOWN.includes(name));
    if (unknown.length) return `this client does not know ${unknown.map(([name]) => name).join(", ")}, which the offer asks for`;
    if (!trains) return "";
    if (offer.describes) return "this client does not describe its data";
    if (offer.masking) return "this client cannot mask its answers";
    if (!(offer.codec in CODECS)) return `this client knows the codecs ${Object.keys(CODECS).join(", ")}, not ${offer.codec}`;
    return "";
  }

  /** The offer is gone. Should it come again, it is taken up from anew. */
  #withdraw() {
    if (!this.#job) return;
    this.#seen = { ...this.#seen, round: this.#seen.round - 1 };
    this.#dropJob();
  }

  #dropJob() {
    this.#link.unsubscribe([...(this.#job?.fetching?.asked ?? [])]);
    this.#job = null;
  }

  #giveUp(job, reason) {
    this.#dropJob();
    return this.#decline(job.offer, reason);
  }

  async #decline(offer, reason) {
    this.#tell("declined", `round ${offer.round}: ${reason}`);
    const topic = this.#topics.update(this.#lane(offer), offer.round, "0");
    await this.#say(topic, wire.decline(offer.run, offer.round, reason));
  }

  #lane(offer) {
    return wire.laneOf(this.#how.id, offer.lanes);
  }

  // Work

  async #work(job) {
    const { offer } = job;
    try {
      this.#tell("fetching", `round ${offer.round}: the model, ${offer.model.size_bytes} bytes`);
      const model = await this.#model(job);
      const bytes = await this.#answer(job, model);
      const digest = toHex(await sha256(bytes));
      this.#inTurn(() => this.#owe(job, { digest, bytes }));
    } catch (error) {
      if (error instanceof Dropped) return;
      this.#inTurn(async () => {
        if (this.#job !== job) return;
        this.#complain(`round ${offer.round}: ${error.message}`);
        await this.#giveUp(job, error.message);
      });
    }
  }

  /** What the offer asks for, as the bytes of an Update or an Evaluation. */
  async #answer(job, model) {
    const { offer, invited } = job;
    const size = sizeOf(model.tensors);
    const rows = readRows(this.#how.rows(), size);
    const named = { run: offer.run, round: offer.round, base: offer.model.digest };
    const measures = invited.evaluate ? measuresOf(model.numbers, rows.evaluate, size) : undefined;
    if (!invited.train) return wire.evaluation({ ...named, measures });
    if (!rows.train.length) throw new Error("there are no rows to train on");
    this.#tell("training", `round ${offer.round}: ${rows.train.length} rows, ${offer.training.epochs} epochs`);
    const before = measure(model.numbers, rows.train, size);
    const { numbers, steps } = await train(model.numbers, rows.train, size, offer.training, this.#turns(job));
    const after = measure(numbers, rows.train, size);
    if (!Number.isFinite(after.loss)) throw new Error(`the loss became ${after.loss}: is the learning rate too high?`);
    this.#tell("trained", `round ${offer.round}: loss ${before.loss.toFixed(3)} to ${after.loss.toFixed(3)}`);
    return wire.update({
      ...named,
      fingerprint: await fingerprint(model.tensors),
      sample_count: rows.train.length,
      codec: offer.codec,
      metrics: { loss: after.loss },
      measures,
      method: methodName(offer),
      steps,
      base_loss: offer.method.tells_loss ? before.loss : undefined,
      payload: CODECS[offer.codec](numbers.map((number, n) => number - model.numbers[n])),
    });
  }

  /**
   * Each lets the page do something else, and tells whether what there is has to do. Throws Dropped when
   * the job is no longer wanted.
   */
  #turns(job) {
    job.endsItself = Boolean(job.offer.method.partial) && !job.offer.asynchronous;
    const keptMs = Math.max(KEPT_MIN_MS, KEPT * (job.closesAt - Date.now()));
    return async () => {
      await nextTurn();
      if (this.#job !== job) throw new Dropped();
      return job.endsItself && Date.now() >= job.closesAt - keptMs;
    };
  }

  // The model

  async #model(job) {
    const { model, model_file } = job.offer;
    let bytes = model_file;
    if (!bytes.length || toHex(await sha256(bytes)) !== model.digest) bytes = await this.#fetch(job);
    if (toHex(await sha256(bytes)) !== model.digest) throw new WireError("the model arrived damaged: its SHA-256 is another");
    const read = readModel(bytes);
    if ((await fingerprint(read.tensors)) !== model.fingerprint) throw new WireError("the model is not built as it was offered");
    return read;
  }

  /** All chunks of the job's model, joined. */
  #fetch(job) {
    const { model } = job.offer;
    const count = Math.ceil(model.size_bytes / model.chunk_bytes);
    const wanted = Array.from({ length: count }, (_, n) => this.#topics.chunk(model.digest, n));
    return new Promise((resolve) => {
      job.fetching = { wanted, asked: new Set(), next: 0, pieces: new Map(), resolve };
      this.#askForMore(job);
    });
  }

  #askForMore(job) {
    const { wanted, asked } = job.fetching;
    const more = wanted.slice(job.fetching.next, job.fetching.next + AT_ONCE - asked.size);
    job.fetching.next += more.length;
    more.forEach((topic) => asked.add(topic));
    this.#link.subscribe(more);
  }

  #takeChunk(topic, payload) {
    const fetching = this.#job?.fetching;
    if (!fetching?.asked.has(topic)) return this.#link.unsubscribe([topic]);
    const { size_bytes, chunk_bytes } = this.#job.offer.model;
    const number = fetching.wanted.indexOf(topic);
    // Cleared, or cut for other packets: it will come.
    if (payload.length !== Math.min(chunk_bytes, size_bytes - number * chunk_bytes)) return;
    this.#link.unsubscribe([topic]);
    fetching.asked.delete(topic);
    fetching.pieces.set(number, payload);
    if (fetching.pieces.size < fetching.wanted.length) return this.#askForMore(this.#job);
    this.#job.fetching = null;
    fetching.resolve(joined(...fetching.wanted.map((_, n) => fetching.pieces.get(n))));
  }

  // Answers that are owed

  async #owe(job, { digest, bytes }) {
    if (this.#job !== job) return;
    this.#job = null;
    const { run, round } = job.offer;
    const owed = [...this.#owed, { run, round, lane: this.#lane(job.offer), digest, bytes, sendAt: 0, waitS: 0 }];
    try {
      // On the disk before it is sent: what was counted must be known here after a restart.
      this.#store.keepOwed(owed);
    } catch (error) {
      return this.#decline(job.offer, `the answer cannot be kept: ${error.message}`);
    }
    this.#owed = owed;
    if (this.trouble) {
      this.trouble = "";
      this.#sayPresence();
    }
    await this.#sendDue();
  }

  #owes({ run, round }) {
    return this.#owed.some((one) => one.run === run && one.round === round);
  }

  async #sendDue() {
    for (const one of this.#owed) {
      // Over a slow link it is still going when its time has come again.
      if (!this.#link.isUp || one.sendAt > Date.now() || one.isOnItsWay) continue;
      one.waitS = Math.min(RESEND_MAX_S, Math.max(RESEND_S, 2 * one.waitS));
      one.sendAt = Date.now() + 1000 * one.waitS;
      await this.#send(one);
    }
  }

  async #send(one) {
    this.#tell("sending", `round ${one.round}: ${one.bytes.length} bytes`);
    const { chunkBytes } = this.#link;
    const isWhole = one.bytes.length <= chunkBytes;
    const asking = wire.announce(one.run, one.round, one.digest, one.bytes.length, chunkBytes);
    const topic = this.#topics.update(one.lane, one.round, isWhole ? "0" : "announce");
    one.isOnItsWay = true;
    await this.#say(topic, isWhole ? one.bytes : asking, () => (one.isOnItsWay = false));
  }

  async #say(topic, message, taken) {
    const payload = await this.#keys.seal(topic, message);
    // Not awaited: that would last for ever where the connection breaks.
    this.#link.publish(topic, payload).then(taken);
  }

  async #receive(message) {
    const { kind, run, round } = message;
    if (kind === "timeleft" && isFor(this.#job, message)) this.#job.closesAt = Date.now() + 1000 * message.closes_in_s;
    const one = this.#owed.find((each) => each.run === run && each.round === round);
    if (!one) {
      // Who draws for itself and has lost what it had answered may have begun the same round anew.
      if (kind !== "receipt" || !isFor(this.#job, message) || !this.#job.offer.sortition) return;
      this.#store.keepDone(run, round);
      this.#dropJob();
      return this.#tell("passed over", `round ${round} has an answer of ours`);
    }
    if (kind === "go" && message.digest === one.digest) {
      // The coordinator is taking it: announcing it again would only add to the queue.
      one.sendAt = Date.now() + 1000 * one.waitS;
      this.#sendChunks(one, message.ranges);
    }
    if (kind === "receipt") {
      this.#owed = this.#owed.filter((each) => each !== one);
      this.#store.keepDone(run, round);
      this.#store.keepOwed(this.#owed);
      this.#tell(message.accepted ? "counted" : "not counted", `round ${round}${message.reason ? `: ${message.reason}` : ""}`);
      if (message.blamed) this.#complain(`the coordinator refuses the answer to round ${round}: ${message.reason}`);
    }
  }

  /** Beside all else, a few at a time, until the receipt or the end of the connection. */
  async #sendChunks(one, ranges) {
    const { chunkBytes, token } = this.#link;
    const count = Math.ceil(one.bytes.length / chunkBytes);
    let onTheWay = [];
    for (const [first, end] of ranges) {
      for (let n = Math.max(0, first); n < Math.min(end, count); n += 1) {
        if (this.#link.token !== token || !this.#link.isUp || !this.#owed.includes(one)) return;
        const data = one.bytes.subarray(n * chunkBytes, (n + 1) * chunkBytes);
        onTheWay.push(this.#link.publish(this.#topics.update(one.lane, one.round, String(n)), wire.chunk(one.digest, data)));
        if (onTheWay.length < AT_ONCE) continue;
        await Promise.all(onTheWay);
        onTheWay = [];
      }
    }
  }

  async #tick() {
    if (this.#job && !this.#job.endsItself && this.#job.closesAt <= Date.now()) {
      this.#tell("too late", `round ${this.#job.offer.round} is over`);
      this.#withdraw();
    }
    await this.#sendDue();
  }
}

/** To be sent at once, and then ever more rarely. */
function makeDue(one) {
  one.sendAt = 0;
  one.waitS = 0;
}

const isFor = (job, { run, round }) => job !== null && job.offer.run === run && job.offer.round === round;

function measuresOf(numbers, rows, size) {
  if (!rows.length) throw new Error("there are no rows to evaluate on: every fifth is kept for that");
  const { loss, accuracy, confusion } = measure(numbers, rows, size);
  return { sample_count: rows.length, metrics: { loss, accuracy }, confusion, label: "browser" };
}

/** Whether a field of an offer's `method` asks for anything: its default does not. */
const asksFor = (value) => Boolean(value) && !["change", "none"].includes(value) && value.length !== 0;

/** How the update was made, in the words by which the coordinator knows that its offer was understood. */
function methodName({ training, method }) {
  const said = [];
  if (training.proximal) said.push(`proximal=${inSixDigits(training.proximal)}`);
  if (method.partial) said.push("partial");
  if (method.tells_loss) said.push("tells-loss");
  return said.join(" ");
}

/** As C's "%g" writes a number. */
export function inSixDigits(number) {
  const [digits, exponent] = number.toExponential(5).split("e").map(Number);
  if (exponent >= -4 && exponent < 6) return String(Number(number.toPrecision(6)));
  return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** Unlike a timer, a message is not held back in a page that is not looked at. */
function nextTurn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
