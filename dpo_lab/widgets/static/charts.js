// The pictures of policies on finitely many answers: bars of two policies, and the frontier.

import { frontier, limits } from "./maths.js";
import { figure, key, levels, uprights } from "./plot.js";
import {
  axis, formatExact, formatNumber, html, percent, picture, scale, setAttributes, setText, svg,
  withSub,
} from "./ui.js";

const WIDTH = 320;
const HEIGHT = 210;

// Two bars an answer: the reference hollow, the optimum filled, on a fixed axis from 0 to 1.
export function barChart(count) {
  const left = 30;
  const right = WIDTH - 4;
  const bottom = HEIGHT - 34;
  const y = scale(0, 1, bottom, 12);
  const band = (right - left) / count;
  const width = Math.min(18, band * 0.38);
  const { node, describe } = picture(WIDTH, HEIGHT, "Probability of each answer");
  node.append(...levels({ marks: [0, 0.5, 1], name: String }, y, { left, right }));
  const bar = (series, index) => {
    const x = left + band * (index + 0.5) + (series === "ref" ? -width - 1 : 1);
    const shape = svg("rect", { x, width, class: `dpo-${series}` });
    Object.assign(shape.dataset, { series, index });
    return shape;
  };
  const columns = Array.from({ length: count }, (_, i) => {
    const x = left + band * (i + 0.5);
    const name = svg("text", { x, y: bottom + 18, class: "dpo-middle" });
    const none = svg("text", { x, y: bottom - 4, class: "dpo-middle dpo-faint" }, "×");
    const column = { ref: bar("ref", i), policy: bar("policy", i), name, none };
    node.append(column.ref, column.policy, name, none);
    return column;
  });
  const grow = (shape, logp) => {
    const value = Math.exp(logp);
    setAttributes(shape, { y: y(value), height: bottom - y(value), "data-value": value });
  };
  const update = ({ labels, ref, policy }) => {
    columns.forEach((column, i) => {
      grow(column.ref, ref[i]);
      grow(column.policy, policy[i]);
      setText(column.name, shorten(labels[i], band / 7));
      column.none.style.display = ref[i] === -Infinity ? "" : "none";
    });
    const each = labels.map((label, i) => `${label} ${percent(ref[i])} to ${percent(policy[i])}`);
    describe(`From the reference to the optimum: ${each.join(", ")}.`);
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-ref", withSub("π", "ref")), key("dpo-key-policy", "π*, the optimum"));
  return { node: figure("Probability of each answer", node, legend), update };
}

// Every policy of the family in one curve. The tangent has slope beta and meets KL = 0 at V*.
export function frontierChart() {
  const { node, describe } = picture(WIDTH, HEIGHT, "Reward-KL frontier");
  const scenery = frontierScenery();
  const tangent = svg("line", { class: "dpo-tangent" });
  const value = svg("path", { d: "M-5 0L0-5L5 0L0 5Z", class: "dpo-value" });
  const point = svg("circle", { r: 6, class: "dpo-point" });
  node.append(tangent, scenery.node, value, point);
  let world = {};
  const update = (state) => {
    const { rewards, weights, beta, kl, reward } = state;
    if (world.rewards !== rewards || world.weights !== weights) {
      world = { rewards, weights, ...scenery.draw(state) };
    }
    const { x, y, right, top } = world;
    const slope = (y(0) - y(beta)) / (x(1) - x(0)); // in picture units, rightwards and up
    const [x1, y1] = [x(0), y(state.value)];
    const reach = Math.min(right - x1, (y1 - top) / slope);
    setAttributes(tangent, { x1, y1, x2: x1 + reach, y2: y1 - reach * slope });
    value.setAttribute("transform", `translate(${x1} ${y1})`);
    setAttributes(point, { cx: x(kl), cy: y(reward), "data-kl": kl, "data-reward": reward });
    describe(`At beta ${formatExact(beta)} the optimum has expected reward ` +
      `${formatNumber(reward)} at KL ${formatNumber(kl)} nats. ${world.text}`);
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-point", "π* at this β"), key("dpo-key-limit", "limits of β"),
    key("dpo-key-value", "V*, where the tangent of slope β meets KL = 0"));
  return { node: figure("Reward–KL frontier", node, legend), update };
}

// What only rewards and reference decide: axes, curve and its two ends.
function frontierScenery() {
  const box = { left: 46, right: WIDTH - 12, top: 24, bottom: HEIGHT - 34 };
  const marks = svg("g");
  const curve = svg("polyline", { class: "dpo-curve" });
  const ends = ["β → ∞", "β → 0"].map((name, i) => ({
    dot: svg("circle", { r: 4.5, class: "dpo-limit" }),
    name: svg("text", { class: i ? "dpo-end" : "" }, name),
  }));
  const node = svg("g", {}, marks,
    svg("text", { x: 0, y: 12 }, "expected reward"),
    svg("text", { x: box.right, y: HEIGHT - 4, class: "dpo-end" }, "KL from the reference, nats"),
    curve, ...ends.flatMap((end) => [end.dot, end.name]));
  const draw = ({ ref, rewards }) => {
    const { betaToInfinity: first, betaToZero: last } = limits(ref, rewards);
    const kls = axis(0, last.kl);
    const gains = axis(first.expectedReward, last.expectedReward);
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

function shorten(label, room) {
  const letters = [...label];
  return letters.length <= room ? label : `${letters.slice(0, Math.max(1, room - 1)).join("")}…`;
}
