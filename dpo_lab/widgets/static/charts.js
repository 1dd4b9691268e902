// The point of one policy on the reward-KL frontier.

import { FRAME, frontierScenery } from "./frontier.js";
import { figure, key } from "./plot.js";
import { formatExact, formatNumber, html, picture, setAttributes, svg } from "./ui.js";

// Every policy of the family in one curve. The tangent has slope beta and meets KL = 0 at V*.
export function frontierChart() {
  const { node, describe } = picture(FRAME.width, FRAME.height, "Reward-KL frontier");
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
