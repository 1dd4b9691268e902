// One run of the playground: votes come in, a policy follows them, and its way is kept.

import { expectedReward, implicitReward, kl, logPartition, optimalPolicy } from "./maths.js";
import { winTable } from "./optima.js";
import { descent, tabularLoss } from "./tabular.js";
import { castVotes, countedPreferences, pairsShown } from "./votes.js";

const POINTS = 240; // of the way, before every second one goes

// A run from the reference. New settings take effect from where the policy is; the votes are cast
// again with the same random numbers, and a new optimiser or learning rate starts afresh.
export function startRun(ref) {
  let [settings, votes, walker, loss, preferences] = [];
  let [steps, seen, stride, broken] = [0, 0, 1, false];
  let way = [];

  const change = (next) => {
    const { optimiser, learning_rate: rate, rewards, flip_rate: flipRate, pairs: count } = next;
    if (optimiser !== settings?.optimiser || rate !== settings.learning_rate)
      walker = descent(walker?.logits() ?? ref, rate, optimiser);
    settings = next;
    const shown = pairsShown({ ...next, ref });
    votes = castVotes({ seed: next.seed, count, shown, wins: winTable(rewards, false), flipRate });
    [seen, broken] = [0, false];
    countVotes();
    if (!way.length) way.push(here());
  };
  // The votes that are in by now: all, or a few more with each step.
  const countVotes = () => {
    const { arrival, loss: name, beta } = settings;
    const now = arrival ? Math.min(votes.length, arrival * (steps + 1)) : votes.length;
    if (now === seen) return;
    seen = now;
    preferences = countedPreferences(votes.slice(0, seen), ref.length);
    loss = tabularLoss(name, ref, preferences, beta);
  };
  const advance = (most) => {
    for (let i = 0; i < most && !broken; i += 1) {
      broken = walker.step(loss) === false;
      if (broken) return;
      steps += 1;
      countVotes();
      if (steps % stride === 0) way.push(here());
      if (way.length > POINTS) {
        way = way.filter((_, k) => k % 2 === 0);
        stride *= 2;
      }
    }
  };
  const here = () => {
    const policy = walker.policy();
    const ratios = policy.map((logp, i) => logp - ref[i]);
    const mean = { chosen: 0, rejected: 0 };
    preferences.forEach((row, i) => row.forEach((weight, j) => {
      mean.chosen += weight * ratios[i];
      mean.rejected += weight * ratios[j];
    }));
    const reward = expectedReward(policy, settings.rewards);
    return { step: steps, ...mean, kl: kl(policy, ref), reward };
  };
  const measure = () => {
    const { rewards, beta } = settings;
    const policy = walker.policy();
    const goal = optimalPolicy(ref, rewards, beta);
    return {
      ...settings, ...here(), ref, policy, goal, way, seen, broken,
      value: loss(policy).loss,
      implicit: implicitReward(policy, ref, beta),
      offset: beta * logPartition(ref, rewards, beta),
      gap: beta * kl(policy, goal),
      best: { kl: kl(goal, ref), reward: expectedReward(goal, rewards) },
    };
  };
  return { change, advance, measure };
}
