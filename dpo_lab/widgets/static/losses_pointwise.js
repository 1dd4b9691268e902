// Losses that judge each answer on its own: losses/pointwise.py.
// Each is (pair, beta, options) -> [loss, da, db].
import { sigmoid, softplus } from "./links.js";

export const POINTWISE = {
  nca_pair({ a, b }, beta) {
    const [x, y] = [beta * a, beta * b];
    return [
      softplus(-x) + 0.5 * softplus(x) + 0.5 * softplus(y),
      beta * (0.5 * sigmoid(x) - sigmoid(-x)),
      beta * 0.5 * sigmoid(y),
    ];
  },
  bco_pair({ a, b }, beta, { shift }) {
    const [x, y] = [beta * a - shift, beta * b - shift];
    return [softplus(-x) + softplus(y), -beta * sigmoid(-x), beta * sigmoid(y)];
  },
  sppo_hard({ a, b }, beta) {
    const half = 0.5 / beta;
    return [(a - half) ** 2 + (b + half) ** 2, 2 * (a - half), 2 * (b + half)];
  },
  apo_zero: (pair, beta) => valued(pair, beta, 1, 1, 0),
  apo_down({ a, b }, beta) {
    const [x, y] = [beta * a, beta * (b - a)];
    return [sigmoid(x) + sigmoid(y), beta * (bump(x) - bump(y)), beta * bump(y)];
  },
  // mismatched_logratios: the mean of the list that the Python function takes.
  kto: (pair, beta, o) => halved(pair, beta, o, Math.max(0, pair.mismatched_logratios)),
  kto_simplified: (pair, beta, o) => halved(pair, beta, o, 0),
};

function bump(x) {
  return sigmoid(x) * sigmoid(-x);
}

// good sigmoid(-beta (a - z0)) + bad sigmoid(beta (b - z0))
function valued({ a, b }, beta, good, bad, z0) {
  const [x, y] = [beta * (a - z0), beta * (b - z0)];
  return [good * sigmoid(-x) + bad * sigmoid(y), -good * beta * bump(x), bad * beta * bump(y)];
}

function halved(pair, beta, o, z0) {
  return valued(pair, beta, o.desirable_weight / 2, o.undesirable_weight / 2, z0);
}
