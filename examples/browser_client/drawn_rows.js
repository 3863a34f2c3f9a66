// Rows to begin with: the same three clouds of points for everybody, moved a little for each page,
// as learning_tasks/linear.py draws them for a client without a file.

const CENTRES = [
  [2, 0, 0, 1],
  [0, 2, 0, -1],
  [0, 0, 2, 0],
];
const SHIFT = 0.3;
const COUNT = 75;

export function drawnRows() {
  const shift = CENTRES[0].map(() => SHIFT * normal());
  const rows = Array.from({ length: COUNT }, () => {
    const kind = Math.floor(Math.random() * CENTRES.length);
    const inputs = CENTRES[kind].map((centre, n) => (centre + shift[n] + normal()).toFixed(3));
    return `${inputs.join(",")},${kind}`;
  });
  return `${rows.join("\n")}\n`;
}

/** Box and Muller's transform. */
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}
