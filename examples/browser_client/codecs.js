// How a change becomes bytes, by the codecs that this client knows. What an offer asks of codecs
// beyond these is declined.

import { joined } from "./bytes.js";

const BLOCK = 1024;
const LEVELS = 127;
/** The smallest float32 that is as precise as all larger ones. */
const STEP_MIN = 2 ** -126;

/** Codec's name to a function from numbers (Float32Array) to bytes. */
export const CODECS = { full: floats, int8 };

/** Float32, little-endian. */
function floats(numbers) {
  const bytes = new Uint8Array(4 * numbers.length);
  const view = new DataView(bytes.buffer);
  numbers.forEach((number, n) => view.setFloat32(4 * n, number, true));
  return bytes;
}

/**
 * A step (float32) for each block of 1,024 numbers, then a signed byte for each number: how many
 * steps. Rounded at random, the nearer the likelier, so that the mean of many answers is right.
 * Who reads them needs no part of that chance, so any will do.
 */
function int8(numbers) {
  const steps = new Float32Array(Math.ceil(numbers.length / BLOCK));
  const levels = new Int8Array(numbers.length);
  for (let block = 0; block < steps.length; block += 1) {
    const part = numbers.subarray(block * BLOCK, (block + 1) * BLOCK);
    const largest = part.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
    steps[block] = Math.max(Math.fround(largest / LEVELS), STEP_MIN);
    part.forEach((number, n) => {
      const inSteps = number / steps[block];
      const below = Math.floor(inSteps);
      const rounded = below + (Math.random() < inSteps - below ? 1 : 0);
      levels[block * BLOCK + n] = Math.max(-LEVELS, Math.min(LEVELS, rounded));
    });
  }
  return joined(floats(steps), new Uint8Array(levels.buffer));
}
