// The model file: a MessagePack header {format, tensors: [[name, shape], ...]}, then all numbers,
// tensor after tensor, float32, little-endian.

import { ofText, sha256, toHex } from "./bytes.js";
import { WireError, decodeFirst } from "./messagepack.js";

const FORMAT = "fedmqtt-weights-1";

/** {tensors: [[name, shape], ...], numbers: Float32Array}. Throws WireError. */
export function readModel(bytes) {
  const [header, start] = decodeFirst(bytes);
  if (header?.format !== FORMAT || !Array.isArray(header.tensors)) {
    throw new WireError(`a model file of format ${header?.format}; this client reads ${FORMAT}`);
  }
  for (const tensor of header.tensors) {
    if (!Array.isArray(tensor) || typeof tensor[0] !== "string" || !isShape(tensor[1])) {
      throw new WireError("a tensor without a name or a shape");
    }
  }
  const count = header.tensors.reduce((sum, [, shape]) => sum + product(shape), 0);
  if (bytes.length - start !== 4 * count) {
    throw new WireError(`${bytes.length - start} bytes of numbers where ${4 * count} belong`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + start);
  const numbers = Float32Array.from({ length: count }, (_, n) => view.getFloat32(4 * n, true));
  return { tensors: header.tensors, numbers };
}

/** Short hash of names, shapes and type of all tensors, by which both sides compare models. */
export async function fingerprint(tensors) {
  const text = tensors.map(([name, shape]) => `${name}:${shape.join("x")}:f4`).join(";");
  return toHex(await sha256(ofText(text))).slice(0, 16);
}

export const product = (shape) => shape.reduce((size, length) => size * length, 1);

const isShape = (shape) =>
  Array.isArray(shape) && shape.every((length) => Number.isInteger(length) && length >= 0 && length < 2 ** 31);
