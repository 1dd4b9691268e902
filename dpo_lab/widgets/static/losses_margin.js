// Losses of one margin: losses/logistic.py, divergences.py and the likes of lengthwise.py.
// Each is (pair, beta, options) -> [loss, da, db].
import {
  discovered, expm1WithTangent, logOdds, logistic, relu, reverseKl, sigmoid, smoothed, softplus,
  unbiased,
} from "./links.js";

export const MARGIN = {
  dpo: (pair, beta) => ofDifference(logistic, pair, beta),
  cdpo: (pair, beta, o) => ofDifference((m) => smoothed(m, o.label_smoothing), pair, beta),
  robust: (pair, beta, o) => ofDifference((m) => unbiased(m, o.label_smoothing), pair, beta),
  hinge: (pair, beta) => ofDifference(hinge, pair, beta),
  exo_pair: (pair, beta, o) => ofDifference((m) => reverseKl(m, o.label_smoothing), pair, beta),
  discopop: (pair, beta, o) => ofDifference((m) => discovered(m, o.discopop_tau), pair, beta),
  rdpo: (pair, beta, o) =>
    ofDifference(logistic, pair, beta, o.rdpo_alpha * (pair.chosenLength - pair.rejectedLength)),
  odpo: (pair, beta, o) =>
    ofDifference(logistic, pair, beta, -o.odpo_alpha * Math.log(pair.score_difference)),
  dpop(pair, beta, o) {
    const [fallen, falls] = relu(-pair.a);
    const margin = pair.a - pair.b - o.dpop_lambda * fallen;
    return chain(logistic(beta * margin), beta * (1 + o.dpop_lambda * falls), -beta);
  },
  tdpo1: (pair, beta) =>
    ofDifference(logistic, pair, beta, beta * (pair.chosen_kl - pair.rejected_kl)),
  tdpo2: (pair, beta, o) =>
    ofDifference(logistic, pair, beta, beta * o.tdpo_alpha * (pair.chosen_kl - pair.rejected_kl)),
  wpo: (pair, beta) =>
    ofDifference(logistic, pair, beta).map((x) => x * pair.chosen_weights * pair.rejected_weights),

  fdpo_forward_kl: (pair, beta) => ofScores(inversePower(1), pair.a, pair.b, beta),
  fdpo_js: (pair, beta) => ofScores((u) => [-softplus(-u), sigmoid(-u)], pair.a, pair.b, beta),
  fdpo_alpha: (pair, beta, o) => ofScores(inversePower(o.f_alpha), pair.a, pair.b, beta),

  ipo_sum: (pair, beta) => ofDifference((m) => square(m - 0.5 / beta), pair, 1),
  ipo_avg: (pair, beta) => ofMeans((m) => square(m - 0.5 / beta), pair, 1),
  sigmoid_norm: (pair, beta) => ofMeans(logistic, pair, beta),
  ld_dpo(pair, beta, o) {
    const shared = Math.min(pair.chosenLength, pair.rejectedLength);
    const share = (length) => (shared + o.ld_alpha * (length - shared)) / length;
    const [w, l] = [beta * share(pair.chosenLength), beta * share(pair.rejectedLength)];
    return chain(logistic(w * pair.a - l * pair.b), w, -l);
  },
  rpo(pair, beta, o) {
    const [nll, slope] = meanNll(pair);
    const [loss, da, db] = ofDifference(logistic, pair, beta);
    return [loss + o.rpo_alpha * nll, da + o.rpo_alpha * slope, db];
  },

  simpo: (pair, beta, o) =>
    ofMeanLogps((l) => [l, 1], pair, beta, -beta * o.gamma_beta_ratio),
  alphapo: (pair, beta, o) =>
    ofMeanLogps(inversePower(o.alphapo_alpha), pair, beta, -beta * o.gamma_beta_ratio),
  rainbowpo(pair, beta, o) {
    const scale = beta * (pair.phi ?? 1);
    const reference = pair.refChosen / pair.chosenLength - pair.refRejected / pair.rejectedLength;
    const home = o.rainbow_alpha * reference + (1 - o.rainbow_alpha) * o.rainbow_gamma;
    return ofMeanLogps((l) => [l, 1], pair, scale, -scale * home);
  },
  orpo(pair, beta) {
    const [nll, slope] = meanNll(pair);
    const [loss, da, db] = ofMeanLogps(logOdds, pair, 1);
    return [nll + beta * loss, slope + beta * da, beta * db];
  },
  cpo(pair, beta, o) {
    const { chosen, rejected } = policy(pair);
    const [loss, slope] = logistic(beta * (chosen - rejected));
    return [loss - o.cpo_alpha * chosen, beta * slope - o.cpo_alpha, -beta * slope];
  },
  slic(pair, beta, o) {
    const { chosen, rejected } = policy(pair);
    const [loss, slope] = relu(beta - chosen + rejected);
    return [loss - o.slic_lambda * chosen, -slope - o.slic_lambda, slope];
  },
  sft: (pair) => [...meanNll(pair), 0],
};

function hinge(m) {
  const [loss, slope] = relu(1 - m);
  return [loss, -slope];
}

function square(x) {
  return [x * x, 2 * x];
}

// (1 - w^-alpha) / alpha for w = e^u, and u itself for alpha = 0: [value, slope by u].
function inversePower(alpha) {
  if (alpha === 0) return (u) => [u, 1];
  return (u) => {
    const [value, slope] = expm1WithTangent(-alpha * u);
    return [-value / alpha, slope];
  };
}

function chain([loss, slope], ma, mb) {
  return [loss, slope * ma, slope * mb];
}

// m = beta (a - b) + offset
function ofDifference(link, pair, beta, offset = 0) {
  return chain(link(beta * (pair.a - pair.b) + offset), beta, -beta);
}

// m = beta (a / |y_w| - b / |y_l|)
function ofMeans(link, pair, beta) {
  const [w, l] = [1 / pair.chosenLength, 1 / pair.rejectedLength];
  return chain(link(beta * (pair.a * w - pair.b * l)), beta * w, -beta * l);
}

// Logistic loss of m = beta (score(x) - score(y)) + offset.
function ofScores(score, x, y, beta, offset = 0) {
  const [[up, rise], [down, fall]] = [score(x), score(y)];
  return chain(logistic(beta * (up - down) + offset), beta * rise, -beta * fall);
}

function ofMeanLogps(score, pair, beta, offset) {
  const { chosen, rejected } = policy(pair);
  const [x, y] = [chosen / pair.chosenLength, rejected / pair.rejectedLength];
  const [loss, da, db] = ofScores(score, x, y, beta, offset);
  return [loss, da / pair.chosenLength, db / pair.rejectedLength];
}

function meanNll(pair) {
  return [-policy(pair).chosen / pair.chosenLength, -1 / pair.chosenLength];
}

function policy(pair) {
  return { chosen: pair.a + pair.refChosen, rejected: pair.b + pair.refRejected };
}
