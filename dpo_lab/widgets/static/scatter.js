// Points in a square plane with one scale for both axes, so that slope one is its diagonal.

import { figure, levels, uprights } from "./plot.js";
import { axis, formatNumber, html, OWN_KEYS, picture, scale, setAttributes, svg } from "./ui.js";

const [WIDTH, HEIGHT] = [330, 338];
const BOX = { left: 44, right: WIDTH - 8, top: 20, bottom: HEIGHT - 40 }; // a square
const SHAPES = [ // circle, diamond, square, triangles, cross
  "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1-5 0Z", "M-6 0L0-6L6 0L0 6Z", "M-4.5-4.5H4.5V4.5H-4.5Z",
  "M-5.5 4.5H5.5L0-5.5Z", "M-5.5-4.5H5.5L0 5.5Z", "M-6-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
];
const COLORS = 4;

// The mark of a group of points: its shape and its colour. 12 groups differ.
export function mark(group) {
  return { d: SHAPES[group % SHAPES.length], class: `dpo-dot dpo-group-${group % COLORS}` };
}

// `points` is [{ group, x, name }, ...] and stays; `update(ys, selected)` moves them up and down.
export function scatter(title, [acrossName, upName], points, signal, onSelect) {
  const { node, describe } = picture(WIDTH, HEIGHT, title);
  const id = node.querySelector("title").id;
  const [width, height] = [BOX.right - BOX.left, BOX.bottom - BOX.top];
  const grid = svg("g");
  const line = svg("line", { class: "dpo-goal", x1: BOX.left, y1: BOX.bottom, x2: BOX.right,
    y2: BOX.top });
  const ring = svg("circle", { r: 10, class: "dpo-ring" });
  const dots = points.map(({ group }, i) =>
    svg("path", { ...mark(group), role: "option", id: `${id}-${i}` }));
  const list = svg("g", { role: "listbox", tabindex: 0, class: "dpo-hand", "aria-label": title,
    ...OWN_KEYS }, svg("rect", { x: BOX.left, y: BOX.top, width, height, fill: "transparent" }),
  ...dots, ring);
  node.append(grid, line, list, svg("text", { x: 0, y: 12 }, upName),
    svg("text", { x: BOX.right, y: HEIGHT - 6, class: "dpo-end" }, acrossName));
  node.removeAttribute("role");
  let [places, chosen, shown] = [[], 0, ""];
  list.addEventListener("pointerdown", ({ clientX, clientY }) => {
    const box = node.getBoundingClientRect();
    const [px, py] = [clientX - box.left, clientY - box.top].map((at) => (at * WIDTH) / box.width);
    const far = places.map(([x, y]) => Math.hypot(x - px, y - py));
    const nearest = far.indexOf(Math.min(...far));
    if (far[nearest] < 24) onSelect(nearest);
  }, { signal });
  // Left and right go through the points by their place across.
  const order = points.map((_, i) => i).sort((a, b) => points[a].x - points[b].x);
  list.addEventListener("keydown", (event) => {
    const [at, last] = [order.indexOf(chosen), order.length - 1];
    const next = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    onSelect(order[Math.min(last, Math.max(0, next))]);
  }, { signal });

  const update = (ys, selected) => {
    chosen = selected;
    const all = [...ys, ...points.map((point) => point.x)];
    const both = axis(Math.min(...all), Math.max(...all));
    const x = scale(both.low, both.high, BOX.left, BOX.right);
    const y = scale(both.low, both.high, BOX.bottom, BOX.top);
    const now = [both.low, both.high].join();
    if (now !== shown) grid.replaceChildren(...uprights(both, x, BOX), ...levels(both, y, BOX));
    shown = now;
    places = ys.map((value, i) => [x(points[i].x), y(value)]);
    dots.forEach((dot, i) => setAttributes(dot, {
      transform: `translate(${places[i]})`, "data-x": points[i].x, "data-y": ys[i],
      "aria-selected": i === selected,
      "aria-label": `${points[i].name}: true ${formatNumber(points[i].x)}, ` +
        `implicit ${formatNumber(ys[i])}`,
    }));
    setAttributes(ring, { cx: places[selected][0], cy: places[selected][1] });
    list.setAttribute("aria-activedescendant", dots[selected].id);
    describe(`${points.length} answers; arrow keys choose one. ` +
      `Chosen: ${dots[selected].getAttribute("aria-label")}.`);
  };
  const legend = html("div", { class: "dpo-legend" });
  return { node: figure(title, node, legend), update, legend };
}
