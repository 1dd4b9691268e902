// Where descent on a table of preferences ends, as far as there is an end: the closed forms.

import { logSoftmax } from "./maths.js";

// P(i wins over j): Bradley-Terry votes on rewards, or always the better one (ties: 1/2).
export function winTable(rewards, certain) {
  const chance = certain ? (gap) => (Math.sign(gap) + 1) / 2 : (gap) => 1 / (1 + Math.exp(-gap));
  return rewards.map((reward) => rewards.map((other) => chance(reward - other)));
}

// Every two answers equally often; the upper triangle sums to 1.
export function uniformPairs(answers) {
  const share = 2 / (answers * (answers - 1));
  return table(answers, (i, j) => (i < j ? share : 0));
}

export function table(size, entry) {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (__, j) => entry(i, j)));
}

// beta -> the policy of lowest loss for pairs shown equally often; null where the loss falls for
// ever. DPO: pi_ref exp(r / beta) with the rewards that Bradley-Terry fits to the table. IPO:
// pi_ref exp(h), where h is the mean of (2 P(i wins) - 1) / (2 tau) over opponents, itself included.
export function populationOptima(name, ref, preferences) {
  if (name === "ipo_sum") {
    const lead = (row, i) => row.reduce((sum, won, j) =>
      sum + (i === j ? 0 : (won - preferences[j][i]) / (won + preferences[j][i])), 0);
    const leads = preferences.map(lead);
    return (beta) => logSoftmax(ref.map((logp, i) => logp + leads[i] / (2 * beta * ref.length)));
  }
  const fitted = bradleyTerryFit(preferences); // no beta in it, so all runs share it
  return (beta) => fitted && logSoftmax(ref.map((logp, i) => logp + fitted[i] / beta));
}

// Rewards of highest likelihood, centred, by the iteration of Hunter 2004 (eq. 3); null where some
// answers never lose to the rest, so that their rewards run to infinity.
export function bradleyTerryFit(wins, most = 50000) {
  if (!connected(wins)) return null;
  const total = wins.map((row) => row.reduce((sum, each) => sum + each, 0));
  let strengths = wins.map(() => 1);
  for (let round = 0; round < most; round += 1) {
    const next = strengths.map((mine, i) => total[i] / strengths.reduce((sum, other, j) =>
      sum + (i === j ? 0 : (wins[i][j] + wins[j][i]) / (mine + other)), 0));
    const mean = next.reduce((sum, each) => sum + Math.log(each), 0) / next.length;
    const centred = next.map((each) => each / Math.exp(mean));
    const moved = Math.max(...centred.map((each, i) => Math.abs(each / strengths[i] - 1)));
    strengths = centred;
    if (moved < 1e-15) break;
  }
  return strengths.map(Math.log);
}

// Everybody can be reached from everybody along "has beaten".
function connected(wins) {
  const reached = (beats) => {
    const seen = new Set([0]);
    for (const i of seen) wins.forEach((_, j) => beats(i, j) && seen.add(j));
    return seen.size === wins.length;
  };
  return reached((i, j) => wins[i][j] > 0) && reached((i, j) => wins[j][i] > 0);
}
