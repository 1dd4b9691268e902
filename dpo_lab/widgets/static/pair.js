// Two answers whose label is not certain: the mean loss and its lowest point.
// A setting is { name, beta, options, p, penalty }: the first answer is labelled the winner with
// probability p, and penalty * a is added, where a is the first answer's log-ratio.

import { evaluate } from "./losses.js";

const SIDES = [
  ["a", "b"], ["refChosen", "refRejected"], ["chosenLength", "rejectedLength"],
  ["chosen_kl", "rejected_kl"], ["chosen_weights", "rejected_weights"],
];

// The same pair with the second answer labelled the winner.
export function swap(pair) {
  const other = { ...pair };
  for (const [first, second] of SIDES) {
    other[first] = pair[second];
    other[second] = pair[first];
  }
  return other;
}

// p l(pair) + (1 - p) l(swapped pair) + penalty a, and its derivatives by a and b.
export function meanLoss({ name, beta, options, p = 1, penalty = 0 }, pair) {
  const one = evaluate(name, pair, beta, options);
  const other = p === 1 ? one : evaluate(name, swap(pair), beta, options);
  const mix = (x, y) => p * x + (1 - p) * y;
  return {
    loss: mix(one.loss, other.loss) + penalty * pair.a,
    da: mix(one.da, other.db) + penalty,
    db: mix(one.db, other.da),
  };
}

// The pair whose log-ratios differ by `difference` around the same mean.
export function atDifference(pair, difference) {
  const level = (pair.a + pair.b) / 2;
  return { ...pair, a: level + difference / 2, b: level - difference / 2 };
}

// The difference of log-ratios with the lowest mean loss on [low, high], at a fixed mean of the
// two; null where an end is lowest, for then nothing inside is an optimum.
export function lowestDifference(setting, pair, low, high, cells = 240) {
  const at = (difference) => meanLoss(setting, atDifference(pair, difference));
  const grid = Array.from({ length: cells + 1 }, (_, i) => low + (i / cells) * (high - low));
  const losses = grid.map((difference) => at(difference).loss);
  const best = losses.indexOf(Math.min(...losses));
  if (best <= 0 || best === cells) return null;
  let [left, right] = [grid[best - 1], grid[best + 1]];
  for (let i = 0; i < 100; i += 1) {
    const middle = (left + right) / 2;
    const { da, db } = at(middle);
    if (da < db) left = middle;
    else right = middle;
  }
  return Math.abs(right) < 1e-12 * (high - low) ? 0 : right; // the kink of a loss at 0
}
