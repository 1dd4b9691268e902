// The KL-regularised problem on finitely many answers, in natural logarithms.
// One function for each of dpo_lab/boltzmann.py that an explorer needs; the tests compare the two.
// Policies are arrays of log-probabilities. An answer outside the support has -Infinity.

export function logSumExp(values) {
  const top = Math.max(...values);
  if (!Number.isFinite(top)) return top;
  const first = values.indexOf(top);
  // The largest term is exactly 1; log1p of the others keeps their digits when they are tiny.
  return top + Math.log1p(sum(values.map((v, i) => (i === first ? 0 : Math.exp(v - top)))));
}

export function logSoftmax(logits) {
  const total = logSumExp(logits);
  return logits.map((logit) => logit - total);
}

// Weights of any positive sum, zeros allowed -> log-probabilities.
export function logNormalise(weights) {
  return logSoftmax(weights.map(Math.log));
}

// log Z = log sum_y pi_ref(y) exp(r(y) / beta); beta log Z is the optimal value V*.
export function logPartition(refLogps, rewards, beta) {
  return logSumExp(tilt(refLogps, rewards, beta)) + bestReward(refLogps, rewards) / beta;
}

// pi*(y) = pi_ref(y) exp(r(y) / beta) / Z
export function optimalPolicy(refLogps, rewards, beta) {
  return logSoftmax(tilt(refLogps, rewards, beta));
}

// beta log(pi / pi_ref); NaN where both are 0: there it is not defined.
export function implicitReward(policyLogps, refLogps, beta) {
  return policyLogps.map((logp, i) => beta * (logp - refLogps[i]));
}

export function expectedReward(logps, rewards) {
  return sum(logps.map((logp, i) => Math.exp(logp) * rewards[i]));
}

export function entropy(logps) {
  return 0 - sum(logps.map((logp) => (logp === -Infinity ? 0 : Math.exp(logp) * logp)));
}

export function kl(pLogps, qLogps) {
  return sum(pLogps.map((p, i) => klTerm(p, qLogps[i])));
}

// J(pi) = E_pi[r] - beta KL(pi || pi_ref)
export function objective(policyLogps, refLogps, rewards, beta) {
  return expectedReward(policyLogps, rewards) - beta * kl(policyLogps, refLogps);
}

// KL and expected reward of the optimal policy at each beta.
export function frontier(refLogps, rewards, betas) {
  const policies = betas.map((beta) => optimalPolicy(refLogps, rewards, beta));
  return {
    kls: policies.map((policy) => kl(policy, refLogps)),
    expectedRewards: policies.map((policy) => expectedReward(policy, rewards)),
  };
}

// The two ends of the frontier. beta -> 0: the reference conditioned on its best answers, so
// KL -> -log pi_ref(best answers). beta -> infinity: the reference.
export function limits(refLogps, rewards) {
  const best = bestReward(refLogps, rewards);
  const winners = refLogps.map((logp, i) => (rewards[i] === best ? logp : -Infinity));
  return {
    betaToZero: { policy: logSoftmax(winners), kl: 0 - logSumExp(winners), expectedReward: best },
    betaToInfinity: {
      policy: [...refLogps],
      kl: 0,
      expectedReward: expectedReward(refLogps, rewards),
    },
  };
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function bestReward(refLogps, rewards) {
  return Math.max(...rewards.filter((_, i) => refLogps[i] > -Infinity));
}

// log pi_ref + (r - max r) / beta. The maximum goes first: at beta = 1e-6 the quotient of a reward
// of 1e4 would swallow the digits of log pi_ref.
function tilt(refLogps, rewards, beta) {
  const best = bestReward(refLogps, rewards);
  return refLogps.map((logp, i) => logp + (rewards[i] - best) / beta);
}

// p log(p/q) - p + q: its sum is the KL of two distributions, and no term is negative, so equal
// policies give 0 and not a rounding error below it.
function klTerm(p, q) {
  if (p === -Infinity) return Math.exp(q);
  const gap = p - q;
  if (gap === Infinity) return Infinity;
  if (Math.abs(gap) > 1) return Math.exp(p) * gap - Math.exp(p) + Math.exp(q);
  return Math.exp(q) * (Math.exp(gap) * gap - Math.expm1(gap));
}
