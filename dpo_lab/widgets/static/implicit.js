// Implicit rewards of whole answers, and what a constant for each prompt can and cannot change.
// An answer is { prompt, logratios, gold }: the number of its prompt, u_t in nats, the true reward.

// beta sum_t u_t
export function implicitRewards(answers, beta) {
  return answers.map(({ logratios }) => beta * logratios.reduce((sum, u) => sum + u, 0));
}

// Pairs of one prompt and different true reward: how many there are, and the share of them that
// `rewards` rank alike, a tie as one half. NaN without a pair.
export function rankedRight(answers, rewards) {
  let [right, pairs] = [0, 0];
  answers.forEach((a, i) => answers.slice(0, i).forEach((b, j) => {
    if (a.prompt !== b.prompt || a.gold === b.gold) return;
    const order = Math.sign(rewards[i] - rewards[j]) * Math.sign(a.gold - b.gold);
    right += (1 + order) / 2;
    pairs += 1;
  }));
  return { share: right / pairs, pairs };
}

// c(x) = mean of (gold - implicit) over the answers of a prompt: nearest to the line in squares.
export function bestConstants(answers, rewards, prompts) {
  return Array.from({ length: prompts }, (_, prompt) => {
    const gaps = answers.map(({ gold }, i) => gold - rewards[i])
      .filter((_, i) => answers[i].prompt === prompt);
    return gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  });
}

// Root mean square of implicit + c(x) - gold.
export function distance(answers, rewards, constants) {
  const squares = answers.map(({ gold, prompt }, i) =>
    (rewards[i] + constants[prompt] - gold) ** 2);
  return Math.sqrt(squares.reduce((sum, each) => sum + each, 0) / squares.length);
}
