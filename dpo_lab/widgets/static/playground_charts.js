// The playground's own pictures: rewards against rewards, and the way of a run below the frontier.

import { FRAME, frontierScenery } from "./frontier.js";
import { figure, key, levels, uprights } from "./plot.js";
import { axis, formatNumber, html, picture, scale, setAttributes, setText, svg } from "./ui.js";

const BOX = { left: 46, right: FRAME.width - 12, top: 24, bottom: FRAME.height - 34 };

// Each answer's implicit reward over its true one, and the line r - beta log Z of the optimum.
export function rewardChart(count) {
  const name = "Implicit against true reward";
  const { node, describe } = picture(FRAME.width, FRAME.height, name);
  const grid = svg("g");
  const line = svg("line", { class: "dpo-goal" });
  const answers = Array.from({ length: count }, () =>
    ({ dot: svg("circle", { r: 4, class: "dpo-policy" }), name: svg("text") }));
  node.append(grid, line, ...answers.flatMap((each) => [each.dot, each.name]),
    svg("text", { x: 0, y: 12 }, "β log(π / π_ref)"),
    svg("text", { x: BOX.right, y: FRAME.height - 4, class: "dpo-end" }, "true reward r"));
  let shown = "";
  const update = ({ rewards, implicit, offset, labels }) => {
    const across = axis(Math.min(...rewards), Math.max(...rewards));
    const ends = [across.low - offset, across.high - offset];
    const up = axis(Math.min(...ends, ...implicit), Math.max(...ends, ...implicit));
    const x = scale(across.low, across.high, BOX.left, BOX.right);
    const y = scale(up.low, up.high, BOX.bottom, BOX.top);
    const now = [across.low, across.high, up.low, up.high].join();
    if (now !== shown) grid.replaceChildren(...uprights(across, x, BOX), ...levels(up, y, BOX));
    shown = now;
    setAttributes(line, { x1: BOX.left, x2: BOX.right, y1: y(ends[0]), y2: y(ends[1]) });
    answers.forEach((each, i) => {
      const [cx, cy] = [x(rewards[i]), y(implicit[i])];
      setAttributes(each.dot, { cx, cy, "data-value": implicit[i] });
      setAttributes(each.name, { x: cx + 6, y: cy + 12 });
      setText(each.name, labels[i]);
    });
    describe(labels.map((label, i) =>
      `${label}: true ${formatNumber(rewards[i])}, implicit ${formatNumber(implicit[i])}`).join("; "));
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-point", "an answer"), key("dpo-key-goal", "r − β log Z, where π = π*"));
  return { node: figure(name, node, legend), update };
}

// Where the policy is, where it came along, and where it should be.
export function wayChart() {
  const name = "Reward–KL frontier";
  const { node, describe } = picture(FRAME.width, FRAME.height, name);
  const scenery = frontierScenery();
  const way = svg("polyline", { class: "dpo-way" });
  const goal = svg("path", { d: "M-6 0L0-6L6 0L0 6Z", class: "dpo-value" });
  const point = svg("circle", { r: 6, class: "dpo-point" });
  node.append(scenery.node, way, goal, point);
  let world = {};
  const update = (state) => {
    if (world.rewards !== state.rewards)
      world = { rewards: state.rewards, ...scenery.draw(state, true) };
    const place = ({ kl, reward }) => [world.x(kl).toFixed(2), world.y(reward).toFixed(2)];
    way.setAttribute("points", [...state.way, state].map(place).join(" "));
    goal.setAttribute("transform", `translate(${place(state.best)})`);
    const [cx, cy] = place(state);
    setAttributes(point, { cx, cy });
    describe(`KL ${formatNumber(state.kl)} nats, expected reward ${formatNumber(state.reward)}.`);
  };
  const legend = html("div", { class: "dpo-legend" }, key("dpo-key-point", "π now"),
    key("dpo-key-way", "its way"), key("dpo-key-value", "π*, the optimum at β"));
  return { node: figure(name, node, legend), update };
}
