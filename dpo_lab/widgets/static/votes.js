// Voters who compare two answers at a time: seeded, so that one seed gives one list of votes.

import { table } from "./optima.js";

// mulberry32: a sequence of 2^32 numbers in [0, 1), chosen by a whole number.
export function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const COVERED = {
  all: () => 1,
  reference: (i, j, { ref }) => Math.exp(ref[i] + ref[j]),
  first: (i, j, { first }) => Number(j < first),
  blocks: (i, j, { ref }) => Number(i >= ref.length / 2 === j >= ref.length / 2),
};
export const COVERAGES = Object.keys(COVERED);

// How often answers i < j are shown together; the table sums to 1. "all": every pair equally
// often; "reference": two different draws from the reference; "first": the first few answers
// alone; "blocks": pairs within either half.
export function pairsShown({ coverage, first, ref }) {
  const weights = table(ref.length, (i, j) =>
    (i < j ? COVERED[coverage](i, j, { first, ref }) : 0));
  const total = weights.flat().reduce((sum, each) => sum + each, 0);
  return weights.map((row) => row.map((each) => each / total));
}

// `count` votes as [chosen, rejected]. Every vote takes three numbers: pair, preference, flip. So a
// change of rewards or flips turns single labels round and leaves the pairs as they are.
export function castVotes({ seed, count, shown, wins, flipRate }) {
  const next = randomNumbers(seed);
  const pairs = shown.flatMap((row, i) => row.map((share, j) => [share, i, j]))
    .filter(([share]) => share > 0);
  return Array.from({ length: count }, () => {
    const [where, preference, flip] = [next(), next(), next()];
    let passed = 0;
    const [, i, j] = pairs.find(([share]) => (passed += share) > where) ?? pairs.at(-1);
    return preference < wins[i][j] === flip < flipRate ? [j, i] : [i, j];
  });
}

// Share of the votes that say "i chosen, j rejected".
export function countedPreferences(votes, answers) {
  const counts = table(answers, () => 0);
  for (const [i, j] of votes) counts[i][j] += 1 / votes.length;
  return counts;
}
