// Curves over the steps of a run, with dashed lines where they should end.

import { figure, levels, uprights } from "./plot.js";
import { axis, formatExact, html, minus, picture, scale, setAttributes, svg } from "./ui.js";

const [WIDTH, HEIGHT] = [320, 210];
const BOX = { left: 48, right: WIDTH - 16, top: 8, bottom: HEIGHT - 34 };

// `kinds` are the classes of the curves, the last on top; `logX` and `logY` choose the axes.
// `update(until, curves, goals)` takes the last step of the axis, for each kind a list of
// [step, value], and a goal or null. What a logarithm cannot show is left out.
export function stepsChart(title, kinds, { logX = false, logY = false } = {}) {
  const { node, describe } = picture(WIDTH, HEIGHT, title);
  const grid = svg("g");
  const goals = kinds.map((kind) => svg("line", { class: `dpo-goal dpo-${kind}` }));
  const lines = kinds.map((kind) => svg("polyline", { class: `dpo-run dpo-${kind}` }));
  node.append(grid, ...goals, ...lines,
    svg("text", { x: BOX.right, y: HEIGHT - 3, class: "dpo-end" }, "steps"));
  const seen = { x: (step) => (logX ? Math.log10(step) : step),
    y: (value) => (logY ? Math.log10(value) : value) };
  let shown = "";
  const update = (until, curves, ends) => {
    const points = curves.map((curve) =>
      curve.map(([step, value]) => [seen.x(step), seen.y(value)]).filter(finite));
    const levelsOf = ends.map((end) => (end === null ? NaN : seen.y(end)));
    const values = [...points.flat().map(([, value]) => value), ...levelsOf.filter(Number.isFinite)];
    const across = logX ? decades(0, seen.x(until)) : axis(0, until);
    const up = logY ? decades(...span(values, -1)) : axis(...span([0, ...values], 0));
    const x = scale(across.low, across.high, BOX.left, BOX.right);
    const y = scale(up.low, up.high, BOX.bottom, BOX.top);
    const now = [across.high, up.low, up.high].join();
    if (now !== shown) grid.replaceChildren(...uprights(across, x, BOX), ...levels(up, y, BOX));
    shown = now;
    points.forEach((curve, i) => lines[i].setAttribute("points",
      curve.map(([at, value]) => `${x(at).toFixed(2)},${y(value).toFixed(2)}`).join(" ")));
    levelsOf.forEach((level, i) => {
      const drawn = Number.isFinite(level);
      goals[i].style.display = drawn ? "" : "none";
      const place = { x1: BOX.left, x2: BOX.right, y1: y(level), y2: y(level) };
      if (drawn) setAttributes(goals[i], { ...place, "data-value": ends[i] });
    });
  };
  const legend = html("div", { class: "dpo-legend" });
  return { node: figure(title, node, legend), describe, update, legend };
}

function finite([at, value]) {
  return Number.isFinite(at) && Number.isFinite(value);
}

function span(values, low) {
  return values.length ? [Math.min(...values), Math.max(...values)] : [low, low + 1];
}

// An axis of powers of ten, with at most six of them marked.
function decades(low, high) {
  const first = Math.floor(low + 1e-9);
  const last = Math.max(Math.ceil(high - 1e-9), first + 1);
  const every = Math.ceil((last - first) / 6);
  const marks = Array.from({ length: last - first + 1 }, (_, i) => first + i)
    .filter((mark) => (last - mark) % every === 0);
  const name = (mark) => (mark < -3 ? `1e${minus(String(mark))}` : formatExact(10 ** mark));
  return { low: first, high: last, marks, name };
}
