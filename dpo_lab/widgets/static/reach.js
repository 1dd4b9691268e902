// How far a picture of a loss has to reach.

// Half the range of u_1 - u_2, in units of 1 / beta or, where beta is no temperature, in nats.
const REACH = { hinge: 3, discopop: 3, ipo_sum: 1.5, ipo_avg: 1.5, sppo_hard: 1.5, exo_pair: 10 };
const NATS = { fdpo_forward_kl: 8, fdpo_alpha: 12, orpo: 6, sft: 6 };
export const AVERAGED = ["ipo_avg", "sigmoid_norm", "simpo", "alphapo", "rainbowpo", "orpo", "sft"];

// In nats, and far enough for the point.
export function reachOf(name, beta, { a, b, chosenLength, rejectedLength }) {
  const unit = AVERAGED.includes(name) ? (chosenLength + rejectedLength) / 2 : 1;
  const nats = name === "slic" ? 3 * beta : NATS[name] ?? (REACH[name] ?? 6) / beta;
  return Math.max(nats * unit, 2 * Math.abs(a), 2 * Math.abs(b));
}
