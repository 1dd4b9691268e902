// Curves over a difference of log-ratios, and points on them that follow the pointer.

import { figure, levels, uprights } from "./plot.js";
import { axis, html, picture, scale, svg } from "./ui.js";

const [WIDTH, HEIGHT] = [320, 210];
const BOX = { left: 50, right: WIDTH - 8, top: 8, bottom: HEIGHT - 36 };

// `names` are the classes of the curves, the last on top. `update(reach, curves, points, lowest)`
// takes lists of [x, y] by name over [-reach, reach], points [x, y] to mark, and one or null.
export function lineChart(title, names, signal, onPick) {
  const { node, describe } = picture(WIDTH, HEIGHT, title);
  const [width, height] = [BOX.right - BOX.left, BOX.bottom - BOX.top];
  const grid = svg("g");
  // A picture within the picture cuts off what leaves it.
  const inner = svg("svg", { x: BOX.left, y: BOX.top, width, height });
  const lines = names.map((name) => svg("polyline", { class: `dpo-line dpo-${name}` }));
  const lowest = svg("path", { d: "M-6 0L0-6L6 0L0 6Z", class: "dpo-value" });
  const dots = svg("g");
  inner.append(...lines);
  node.append(grid, inner, lowest, dots,
    svg("text", { x: BOX.right, y: HEIGHT - 4, class: "dpo-end" }, "u₁ − u₂, nats"));
  node.classList.add("dpo-pick");
  let [reach, shown] = [1, ""];
  const pick = ({ clientX }) => {
    const box = node.getBoundingClientRect();
    const share = (((clientX - box.left) / box.width) * WIDTH - BOX.left) / width;
    onPick(reach * (2 * Math.min(1, Math.max(0, share)) - 1));
  };
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    pick(event);
  }, { signal });
  node.addEventListener("pointermove", (event) => event.buttons && pick(event), { signal });

  const update = (half, curves, points, low) => {
    reach = half;
    const values = names.flatMap((name) => curves[name].map(([, value]) => value));
    const [across, up] = [axis(-reach, reach), axis(Math.min(0, ...values), Math.max(...values))];
    const x = scale(-reach, reach, BOX.left, BOX.right);
    const y = scale(up.low, up.high, BOX.bottom, BOX.top);
    const now = [reach, up.low, up.high].join();
    across.marks = across.marks.filter((mark) => Math.abs(mark) <= reach);
    if (now !== shown) grid.replaceChildren(...uprights(across, x, BOX), ...levels(up, y, BOX));
    shown = now;
    names.forEach((name, i) => {
      const place = ([at, value]) => `${x(at) - BOX.left},${y(value) - BOX.top}`;
      lines[i].setAttribute("points", curves[name].map(place).join(" "));
    });
    const inside = low && Math.abs(low[0]) <= reach;
    lowest.style.display = inside ? "" : "none";
    if (inside) lowest.setAttribute("transform", `translate(${x(low[0])} ${y(low[1])})`);
    dots.replaceChildren(...points.map(([at, value]) =>
      svg("circle", { r: 6, class: "dpo-point", cx: x(at), cy: y(value) })));
  };
  const legend = html("div", { class: "dpo-legend" });
  return { node: figure(title, node, legend), describe, update, legend };
}
