// The reward-KL frontier: every policy of the family in one curve.

import { frontier, limits } from "./maths.js";
import { levels, uprights } from "./plot.js";
import { axis, formatNumber, scale, setAttributes, svg } from "./ui.js";

export const FRAME = { width: 320, height: 210 };

// What only rewards and reference decide: axes, curve and its two ends. With `all` there is room
// for every policy, the worst too.
export function frontierScenery() {
  const box = { left: 46, right: FRAME.width - 12, top: 24, bottom: FRAME.height - 34 };
  const marks = svg("g");
  const curve = svg("polyline", { class: "dpo-curve" });
  const ends = ["β → ∞", "β → 0"].map((name, i) => ({
    dot: svg("circle", { r: 4.5, class: "dpo-limit" }),
    name: svg("text", { class: i ? "dpo-end" : "" }, name),
  }));
  const node = svg("g", {}, marks,
    svg("text", { x: 0, y: 12 }, "expected reward"),
    svg("text", { x: box.right, y: FRAME.height - 4, class: "dpo-end" },
      "KL from the reference, nats"),
    curve, ...ends.flatMap((end) => [end.dot, end.name]));
  const draw = ({ ref, rewards }, all = false) => {
    const { betaToInfinity: first, betaToZero: last } = limits(ref, rewards);
    const kls = axis(0, all ? -Math.min(...ref) : last.kl);
    const gains = axis(all ? Math.min(...rewards) : first.expectedReward, last.expectedReward);
    const x = scale(kls.low, kls.high, box.left, box.right);
    const y = scale(gains.low, gains.high, box.bottom, box.top);
    marks.replaceChildren(...uprights(kls, x, box), ...levels(gains, y, box));
    const path = frontier(ref, rewards, betaGrid(ref, rewards));
    const between = path.kls.map((kl, i) => ({ kl, expectedReward: path.expectedRewards[i] }));
    const place = ({ kl, expectedReward }) => `${x(kl)},${y(expectedReward)}`;
    curve.setAttribute("points", [first, ...between, last].map(place).join(" "));
    [first, last].forEach(({ kl, expectedReward }, i) => {
      const [cx, cy] = [x(kl), y(expectedReward)];
      setAttributes(ends[i].dot, { cx, cy, "data-kl": kl, "data-reward": expectedReward });
      setAttributes(ends[i].name, { x: cx + (i ? 4 : 10), y: cy + (i ? 20 : 4) });
    });
    ends[1].name.style.display = last.kl > 0 ? "" : "none"; // both ends are one point
    const text = `The frontier runs from reward ${formatNumber(first.expectedReward)} at KL 0 ` +
      `to reward ${formatNumber(last.expectedReward)} at KL ${formatNumber(last.kl)} nats.`;
    return { x, y, right: box.right, top: box.top, text };
  };
  return { node, draw };
}

// 30 values of beta a decade around the spread of the rewards: there the policy moves.
function betaGrid(ref, rewards) {
  const supported = rewards.filter((_, i) => ref[i] > -Infinity);
  const spread = Math.max(...supported) - Math.min(...supported) || 1;
  return Array.from({ length: 151 }, (_, i) => spread * 10 ** (2 - i / 30));
}
