// One session with a broker, kept up: MQTT over a WebSocket. Each connection is a new one with a
// token and a will of its own, so that a late will of an old one is told from it.

import mqtt from "../../round_monitor/web/mqtt.esm.js";
import { randomHex } from "./bytes.js";
import { goodbye } from "./wire.js";

const KEEPALIVE_S = 60;
const CONNECT_WITHIN_MS = 10_000;
const RETRY_BASE_S = 0.5;
const RETRY_MAX_S = 60;
/** Until an offer says how many clients there are. */
const UNTOLD_SPREAD_S = 5;
/** Or two clients of one name would throw each other out for ever, without a pause. */
const LASTING_MS = 20_000;
const WILL_DELAY_S = 2;
/** Of what a broker may send us in one packet. */
const RECEIVE_BYTES_MAX = 4 * 1024 * 1024;
/** Beside what a message carries go its topic, properties and header. */
const OVERHEAD_BYTES = 1024;
const CHUNK_BYTES = 128 * 1024;
const REFUSED = 128;
/** A broker of MQTT 3.1.1 says so in its own words, or in those of MQTT 5. */
const OTHER_VERSION = [1, 0x84];
/** Others close without a word: so often in a row, as once may be chance. */
const SHUT_OUT_MAX = 2;

export class Link {
  #how;
  #topics;
  #handlers;
  #client = null;
  #version = 5;
  #attempt = 0;
  #shutOut = 0;
  #isClosed = false;
  token = "";
  /** What one message of ours may carry. */
  chunkBytes = CHUNK_BYTES;
  /** Within how long the coordinator wants its clients to return. */
  spreadS = UNTOLD_SPREAD_S;

  /**
   * `how`: {url, clientId, username, password, chunkBytes}. `handlers`: `onUp()`, `onDown(reason)`
   * and `onMessage(topic, payload, {isRetained, expiresInS})`.
   */
  constructor(how, topics, handlers) {
    this.#how = how;
    this.#topics = topics;
    this.#handlers = handlers;
  }

  get isUp() {
    return this.#client?.connected === true;
  }

  open() {
    this.#isClosed = false;
    this.#connect();
  }

  /** Say goodbye, and stay away. */
  close() {
    this.#isClosed = true;
    const client = this.#client;
    if (!this.isUp) return;
    client.publish(this.#topics.presence, goodbye(this.token), { qos: 1, retain: true });
    client.end();
  }

  /** Resolves when the broker has taken it; never, if the connection breaks first. */
  publish(topic, payload, { retain = false } = {}) {
    if (!this.isUp) return Promise.resolve();
    return new Promise((resolve) => this.#client.publish(topic, payload, { qos: 1, retain }, resolve));
  }

  subscribe(names) {
    if (this.isUp && names.length) this.#client.subscribe(names, { qos: 1 });
  }

  unsubscribe(names) {
    if (this.isUp && names.length) this.#client.unsubscribe(names);
  }

  #connect() {
    const token = randomHex(8);
    const isV5 = this.#version === 5;
    const will = { topic: this.#topics.presence, payload: goodbye(token), qos: 1, retain: true };
    if (isV5) will.properties = { willDelayInterval: WILL_DELAY_S };
    let isOpen = false;
    const client = mqtt.connect({
      protocol: this.#how.url.startsWith("wss:") ? "wss" : "ws",
      protocolVersion: this.#version,
      clientId: this.#how.clientId,
      username: this.#how.username || undefined,
      password: this.#how.password || undefined,
      clean: true,
      keepalive: KEEPALIVE_S,
      connectTimeout: CONNECT_WITHIN_MS,
      // What must not be lost is sent again by the client, until its receipt.
      reconnectPeriod: 0,
      resubscribe: false,
      timerVariant: "native",
      properties: isV5 ? { sessionExpiryInterval: 0, maximumPacketSize: RECEIVE_BYTES_MAX } : undefined,
      will,
      createWebsocket: () => {
        const socket = new WebSocket(this.#how.url, ["mqtt"]);
        socket.addEventListener("open", () => (isOpen = true));
        return socket;
      },
    });
    this.#client = client;
    let why = "";
    let upAt = null;
    const isCurrent = () => this.#client === client && !this.#isClosed;
    client.on("connect", (answer) => {
      if (!isCurrent()) return;
      upAt = Date.now();
      this.#shutOut = 0;
      this.token = token;
      const limit = answer.properties?.maximumPacketSize ?? Infinity;
      this.chunkBytes = Math.min(this.#how.chunkBytes ?? CHUNK_BYTES, Math.max(1024, limit - OVERHEAD_BYTES));
      const { offer, inbox, presence } = this.#topics;
      client.subscribe([offer, inbox, presence], { qos: 1 }, (error, granted) => {
        const refused = granted?.find((one) => one.qos >= REFUSED);
        if (refused) why = `the broker does not let us read ${refused.topic}`;
        if (error || refused) client.end(true);
      });
      this.#handlers.onUp();
    });
    client.on("message", (topic, payload, packet) => {
      if (!isCurrent()) return;
      const expiresInS = packet.properties?.messageExpiryInterval ?? Infinity;
      this.#handlers.onMessage(topic, new Uint8Array(payload), { isRetained: packet.retain, expiresInS });
    });
    client.on("error", (error) => {
      why = error.message;
      if (OTHER_VERSION.includes(error.code) && isV5) this.#version = 4;
    });
    client.on("close", () => {
      if (!isCurrent()) return;
      this.#client = null;
      client.end(true);
      if (isV5 && isOpen && upAt === null && !why) this.#shutOut += 1;
      if (isV5 && this.#shutOut >= SHUT_OUT_MAX) this.#version = 4;
      // At once where only the version was another.
      const changesVersion = isV5 && this.#version === 4;
      if (upAt !== null && Date.now() - upAt >= LASTING_MS) this.#attempt = 0;
      const backoffS = Math.min(RETRY_MAX_S, RETRY_BASE_S * 2 ** this.#attempt);
      const waitS = changesVersion ? 0 : Math.random() * Math.max(backoffS, this.spreadS);
      this.#attempt += 1;
      if (!isV5) {
        // A broker may have been upgraded while we were away.
        this.#version = 5;
        this.#shutOut = 0;
      }
      setTimeout(() => this.#isClosed || this.#connect(), 1000 * waitS);
      this.#handlers.onDown(why || "the connection to the broker is lost", waitS);
    });
  }
}
