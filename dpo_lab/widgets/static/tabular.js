// Any loss of the table on finitely many answers, and descent on its logits: dpo_lab/tabular.py.
// The tests hold the two together, step by step.

import { LOSSES, evaluate } from "./losses.js";
import { kl, logSoftmax, logSumExp } from "./maths.js";

export const OPTIMISERS = ["sgd", "adam"];

// Inputs that follow from the policy itself, where all answers are one token long.
const OWN_INPUTS = {
  kto: (policy, ref) => ({ mismatched_logratios: () => kl(policy, ref) }),
  tdpo1: positionKls,
  tdpo2: positionKls,
  wpo(policy) {
    const total = logSumExp(policy.map((logp) => 2 * logp));
    const weight = (i) => Math.exp(policy[i] - total);
    return { chosen_weights: (i) => weight(i), rejected_weights: (_, j) => weight(j) };
  },
};

function positionKls(policy, ref) {
  const both = kl(ref, policy);
  return { chosen_kl: () => both, rejected_kl: () => both };
}

// The weights of "i chosen, j rejected" for pairs shown with `pairProbs` (any split over [i][j] and
// [j][i]), won with `wins`, and turned round with probability `flipRate`.
export function expectedPreferences(pairProbs, wins, flipRate = 0) {
  return pairProbs.map((row, i) => row.map((share, j) =>
    (share + pairProbs[j][i]) * ((1 - flipRate) * wins[i][j] + flipRate * wins[j][i])));
}

// Policy -> { loss, gradient by its log-probabilities }, for a table of preferences that sums to 1.
export function tabularLoss(name, ref, preferences, beta = LOSSES[name].beta, options = {}) {
  const pairs = [];
  preferences.forEach((row, i) => row.forEach((weight, j) => {
    if (weight > 0) pairs.push({ i, j, weight, pair: pairOf(name, ref, i, j) });
  }));
  const alpha = options.tdpo_alpha ?? LOSSES[name].defaults.tdpo_alpha;
  return (policy) => {
    const own = Object.entries(OWN_INPUTS[name]?.(policy, ref) ?? {});
    const gradient = ref.map(() => 0);
    let loss = 0;
    let slope = 0;
    for (const { i, j, weight, pair } of pairs) {
      pair.a = policy[i] - ref[i];
      pair.b = policy[j] - ref[j];
      for (const [input, read] of own) pair[input] = read(i, j);
      const value = evaluate(name, pair, beta, options);
      loss += weight * value.loss;
      gradient[i] += weight * value.da;
      gradient[j] += weight * value.db;
      slope += weight * value.da;
    }
    // TDPO2 stops the gradient of the chosen answer's KL alone; the other's passes.
    if (name === "tdpo2") ref.forEach((logp, i) => { gradient[i] += alpha * slope * Math.exp(logp); });
    return { loss, gradient };
  };
}

function pairOf(name, ref, i, j) {
  const inputs = Object.entries(LOSSES[name].inputs).map(([key, { value }]) => [key, value]);
  const known = { refChosen: ref[i], refRejected: ref[j], chosenLength: 1, rejectedLength: 1 };
  return { ...Object.fromEntries(inputs), ...known };
}

// Full-batch steps on the logits: "sgd" is plain gradient descent, "adam" is torch's with its
// default decay rates. `step(loss)` returns the loss before the step, and false in place of a step
// that would leave the finite numbers.
export function descent(initialLogits, learningRate, optimiser) {
  let logits = [...initialLogits];
  let steps = 0;
  const move = optimiser === "adam" ? adam(logits.length, learningRate) : (slopes) =>
    slopes.map((slope) => -learningRate * slope);
  const step = (lossOf) => {
    const policy = logSoftmax(logits);
    const { loss, gradient } = lossOf(policy);
    const total = gradient.reduce((sum, each) => sum + each, 0);
    const moves = move(gradient.map((each, i) => each - Math.exp(policy[i]) * total));
    const next = logits.map((logit, i) => logit + moves[i]);
    if (!next.every(Number.isFinite)) return false;
    logits = next;
    steps += 1;
    return loss;
  };
  return { step, policy: () => logSoftmax(logits), logits: () => logits, steps: () => steps };
}

function adam(size, learningRate, decays = [0.9, 0.999], floor = 1e-8) {
  const means = Array(size).fill(0);
  const squares = Array(size).fill(0);
  let [first, second] = [1, 1]; // powers of the decay rates
  return (slopes) => {
    first *= decays[0];
    second *= decays[1];
    return slopes.map((slope, i) => {
      means[i] += (slope - means[i]) * (1 - decays[0]);
      squares[i] = squares[i] * decays[1] + slope * slope * (1 - decays[1]);
      const size = Math.sqrt(squares[i]) / Math.sqrt(1 - second) + floor;
      return (-learningRate / (1 - first)) * (means[i] / size);
    });
  };
}
