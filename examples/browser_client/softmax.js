// Softmax regression on rows of numbers and a class: the model of learning_tasks/linear.py, of any
// size. Its tensors are weight, [features, classes], and bias, [classes].

import { WireError } from "./messagepack.js";

/** Every fifth row is kept for evaluation; the others train. */
const HELD_OUT = 5;
/** Rows of so many numbers after which a page has its turn. */
const NUMBERS_AT_ONCE = 200_000;

/**
 * How many features and classes a model has, and where among its numbers its two tensors begin, in
 * whichever order they lie. Throws WireError where it is no softmax regression.
 */
export function sizeOf(tensors) {
  const shapes = Object.fromEntries(tensors);
  const [features, classes] = shapes.weight ?? [];
  if (tensors.length !== 2 || shapes.weight?.length !== 2 || String(shapes.bias) !== String(classes)) {
    const found = tensors.map(([name, shape]) => `${name} [${shape}]`).join(", ");
    throw new WireError(`this page trains weight [features, classes] and bias [classes], not ${found}`);
  }
  const isBiasFirst = tensors[0][0] === "bias";
  return { features, classes, weightAt: isBiasFirst ? classes : 0, biasAt: isBiasFirst ? 0 : features * classes };
}

/**
 * Lines of numbers and a class, separated by commas, as {train, evaluate}: each an array of rows
 * {inputs, kind}. Throws Error that names the line.
 */
export function readRows(text, { features, classes }) {
  const rows = [];
  text.split("\n").forEach((line, n) => {
    if (!line.trim()) return;
    const numbers = line.split(",").map(Number);
    const kind = numbers.pop();
    if (numbers.length !== features || !numbers.every(Number.isFinite)) {
      throw new Error(`line ${n + 1} of the data: ${features} numbers and a class are needed`);
    }
    if (!Number.isInteger(kind) || kind < 0 || kind >= classes) {
      throw new Error(`line ${n + 1} of the data: the last number is the class, 0 to ${classes - 1}`);
    }
    rows.push({ inputs: Float32Array.from(numbers), kind });
  });
  const isHeldOut = (n) => n % HELD_OUT === HELD_OUT - 1;
  return { train: rows.filter((_, n) => !isHeldOut(n)), evaluate: rows.filter((_, n) => isHeldOut(n)) };
}

/**
 * Local SGD from `base` (the model's numbers, Float32Array) as the offer's `training` says:
 * {numbers, steps}. `size` is of `sizeOf`. `turn` is awaited now and then: it lets the page do other
 * things, gives true where training has to end with what there is, and throws when the work has
 * become pointless.
 */
export async function train(base, rows, size, training, turn) {
  const numbers = Float64Array.from(base);
  const velocity = new Float64Array(numbers.length);
  let steps = 0;
  let done = 0;
  for (let epoch = 0; epoch < training.epochs; epoch += 1) {
    const order = shuffled(rows);
    for (let start = 0; start < order.length; start += training.batch_size) {
      const batch = order.slice(start, start + training.batch_size);
      const slope = gradient(numbers, batch, size);
      for (let n = 0; n < numbers.length; n += 1) {
        const pull = training.weight_decay * numbers[n] + training.proximal * (numbers[n] - base[n]);
        velocity[n] = training.momentum * velocity[n] + slope[n] + pull;
      }
      for (let n = 0; n < numbers.length; n += 1) numbers[n] -= training.learning_rate * velocity[n];
      steps += 1;
      done += batch.length * numbers.length;
      if (done >= NUMBERS_AT_ONCE) {
        done = 0;
        if (await turn()) return { numbers: Float32Array.from(numbers), steps };
      }
    }
    if (await turn()) break;
  }
  return { numbers: Float32Array.from(numbers), steps };
}

/** {loss, accuracy, confusion}: means over the rows, and a row per true class, a column per guess. */
export function measure(numbers, rows, size) {
  const confusion = Array.from({ length: size.classes }, () => Array(size.classes).fill(0));
  let loss = 0;
  let right = 0;
  for (const { inputs, kind } of rows) {
    const found = probabilities(numbers, inputs, size);
    const guess = found.indexOf(Math.max(...found));
    confusion[kind][guess] += 1;
    right += guess === kind ? 1 : 0;
    // A certain mistake costs much, not infinitely much.
    loss -= Math.log(Math.max(found[kind], 1e-12));
  }
  return { loss: loss / rows.length, accuracy: right / rows.length, confusion };
}

/** Of the mean cross-entropy: softmax minus one-hot, times the input. */
function gradient(numbers, batch, size) {
  const { features, classes, weightAt, biasAt } = size;
  const slope = new Float64Array(numbers.length);
  for (const { inputs, kind } of batch) {
    const error = probabilities(numbers, inputs, size);
    error[kind] -= 1;
    for (let c = 0; c < classes; c += 1) {
      const part = error[c] / batch.length;
      for (let f = 0; f < features; f += 1) slope[weightAt + f * classes + c] += inputs[f] * part;
      slope[biasAt + c] += part;
    }
  }
  return slope;
}

function probabilities(numbers, inputs, { features, classes, weightAt, biasAt }) {
  const scores = Array.from({ length: classes }, (_, c) => numbers[biasAt + c]);
  for (let f = 0; f < features; f += 1) {
    for (let c = 0; c < classes; c += 1) scores[c] += inputs[f] * numbers[weightAt + f * classes + c];
  }
  // The largest becomes 0, so that exp cannot overflow.
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

function shuffled(rows) {
  const order = [...rows];
  for (let n = order.length - 1; n > 0; n -= 1) {
    const other = Math.floor(Math.random() * (n + 1));
    [order[n], order[other]] = [order[other], order[n]];
  }
  return order;
}
