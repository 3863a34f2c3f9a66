// MessagePack, as much of it as the wire uses: nil, booleans, numbers, text, bytes, arrays and maps
// with text keys. https://github.com/msgpack/msgpack/blob/master/spec.md

import { joined, ofText } from "./bytes.js";

const DEPTH_MAX = 32;

/** Bytes that are no message; says why. */
export class WireError extends Error {}

/**
 * A number is written as an integer where it is one, and as a float of 64 bits where it is not.
 * Fields of an object that are undefined are left out.
 */
export function encode(value) {
  if (value === null) return Uint8Array.of(0xc0);
  if (value === true) return Uint8Array.of(0xc3);
  if (value === false) return Uint8Array.of(0xc2);
  if (typeof value === "bigint") return withView(9, 0xcf, (view) => view.setBigUint64(1, value));
  if (typeof value === "number") return encodeNumber(value);
  if (typeof value === "string") {
    const bytes = ofText(value);
    return joined(head(bytes.length, 0xa0, 32, 0xd9, 0xda, 0xdb), bytes);
  }
  if (value instanceof Uint8Array) return joined(head(value.length, 0, 0, 0xc4, 0xc5, 0xc6), value);
  if (Array.isArray(value)) return joined(head(value.length, 0x90, 16, 0, 0xdc, 0xdd), ...value.map(encode));
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  const pieces = fields.flatMap(([name, field]) => [encode(name), encode(field)]);
  return joined(head(fields.length, 0x80, 16, 0, 0xde, 0xdf), ...pieces);
}

/**
 * What the bytes say, all of them. Bytes within are views; integers that a number cannot hold
 * exactly are BigInt. Throws WireError.
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new WireError(`${bytes.length - reader.at} bytes too many`);
  return value;
}

/** The value with which the bytes begin, and where it ends. Throws WireError. */
export function decodeFirst(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  return [value, reader.at];
}

function encodeNumber(value) {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
    return withView(9, 0xcb, (view) => view.setFloat64(1, value));
  }
  if (value >= 0) {
    if (value < 0x80) return Uint8Array.of(value);
    if (value <= 0xff) return Uint8Array.of(0xcc, value);
    if (value <= 0xffff) return withView(3, 0xcd, (view) => view.setUint16(1, value));
    if (value <= 0xffffffff) return withView(5, 0xce, (view) => view.setUint32(1, value));
    return withView(9, 0xcf, (view) => view.setBigUint64(1, BigInt(value)));
  }
  if (value >= -32) return Uint8Array.of(value & 0xff);
  return withView(9, 0xd3, (view) => view.setBigInt64(1, BigInt(value)));
}

/** What stands before so many items: in the byte `short` where they are fewer than `below`. */
function head(count, short, below, of8, of16, of32) {
  if (count < below) return Uint8Array.of(short | count);
  if (of8 && count <= 0xff) return Uint8Array.of(of8, count);
  if (count <= 0xffff) return withView(3, of16, (view) => view.setUint16(1, count));
  return withView(5, of32, (view) => view.setUint32(1, count));
}

function withView(size, first, write) {
  const bytes = new Uint8Array(size);
  bytes[0] = first;
  write(new DataView(bytes.buffer));
  return bytes;
}

class Reader {
  #bytes;
  #view;
  at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  value(depth) {
    if (depth > DEPTH_MAX) throw new WireError("nested too deep");
    const first = this.#number("getUint8", 1);
    if (first < 0x80) return first;
    if (first < 0x90) return this.#map(first & 0x0f, depth);
    if (first < 0xa0) return this.#array(first & 0x0f, depth);
    if (first < 0xc0) return this.#text(first & 0x1f);
    if (first >= 0xe0) return first - 0x100;
    switch (first) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.#take(this.#number("getUint8", 1));
      case 0xc5: return this.#take(this.#number("getUint16", 2));
      case 0xc6: return this.#take(this.#number("getUint32", 4));
      case 0xca: return this.#number("getFloat32", 4);
      case 0xcb: return this.#number("getFloat64", 8);
      case 0xcc: return this.#number("getUint8", 1);
      case 0xcd: return this.#number("getUint16", 2);
      case 0xce: return this.#number("getUint32", 4);
      case 0xcf: return plainly(this.#number("getBigUint64", 8));
      case 0xd0: return this.#number("getInt8", 1);
      case 0xd1: return this.#number("getInt16", 2);
      case 0xd2: return this.#number("getInt32", 4);
      case 0xd3: return plainly(this.#number("getBigInt64", 8));
      case 0xd9: return this.#text(this.#number("getUint8", 1));
      case 0xda: return this.#text(this.#number("getUint16", 2));
      case 0xdb: return this.#text(this.#number("getUint32", 4));
      case 0xdc: return this.#array(this.#number("getUint16", 2), depth);
      case 0xdd: return this.#array(this.#number("getUint32", 4), depth);
      case 0xde: return this.#map(this.#number("getUint16", 2), depth);
      case 0xdf: return this.#map(this.#number("getUint32", 4), depth);
      default: throw new WireError(`0x${first.toString(16)} begins nothing that the wire uses`);
    }
  }

  #number(method, size) {
    this.#has(size);
    const value = this.#view[method](this.at);
    this.at += size;
    return value;
  }

  #take(size) {
    this.#has(size);
    this.at += size;
    return this.#bytes.subarray(this.at - size, this.at);
  }

  #text(size) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.#take(size));
    } catch (error) {
      if (error instanceof WireError) throw error;
      throw new WireError("text that is no UTF-8");
    }
  }

  #array(count, depth) {
    // Each takes a byte at least: what is claimed and not there costs no memory.
    this.#has(count);
    return Array.from({ length: count }, () => this.value(depth + 1));
  }

  #map(count, depth) {
    this.#has(2 * count);
    const found = Object.create(null);
    for (let left = count; left > 0; left -= 1) {
      const name = this.value(depth + 1);
      if (typeof name !== "string") throw new WireError("a field's name that is no text");
      found[name] = this.value(depth + 1);
    }
    return found;
  }

  #has(size) {
    if (this.at + size > this.#bytes.length) throw new WireError("cut short");
  }
}

function plainly(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
