// The picture of two policies on finitely many answers.

import { figure, key, levels } from "./plot.js";
import {
  html, percent, picture, scale, setAttributes, setText, svg, withSub,
} from "./ui.js";

const WIDTH = 320;
const HEIGHT = 210;

// Two bars an answer: the reference hollow, the policy filled, on a fixed axis from 0 to 1; with
// `goal` a mark where the policy should be. `names` says what policy and goal are.
export function barChart(count, ...names) {
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
    const goal = svg("line", { x1: x - 1, x2: x + width + 3, class: "dpo-goal" });
    const column = { ref: bar("ref", i), policy: bar("policy", i), name, none, goal };
    node.append(column.ref, column.policy, name, none, ...(names[1] ? [goal] : []));
    return column;
  });
  const grow = (shape, logp) => {
    const value = Math.exp(logp);
    setAttributes(shape, { y: y(value), height: bottom - y(value), "data-value": value });
  };
  const update = ({ labels, ref, policy, goal }) => {
    columns.forEach((column, i) => {
      grow(column.ref, ref[i]);
      grow(column.policy, policy[i]);
      setText(column.name, shorten(labels[i], band / 7));
      column.none.style.display = ref[i] === -Infinity ? "" : "none";
      const level = goal ? y(Math.exp(goal[i])) : 0;
      setAttributes(column.goal, { y1: level, y2: level });
    });
    const each = labels.map((label, i) => `${label} ${percent(ref[i])} to ${percent(policy[i])}`);
    describe(`From the reference to ${names[0]}: ${each.join(", ")}.`);
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-ref", withSub("π", "ref")), key("dpo-key-policy", names[0]),
    ...names.slice(1).map((name) => key("dpo-key-goal", name)));
  return { node: figure("Probability of each answer", node, legend), update };
}

function shorten(label, room) {
  const letters = [...label];
  return letters.length <= room ? label : `${letters.slice(0, Math.max(1, room - 1)).join("")}…`;
}
