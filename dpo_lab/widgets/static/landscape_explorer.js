// The landscape explorer: a loss over the two log-ratios of a pair, and the way downhill.

import { betaRow, choice, numberRow, toggle } from "./controls.js";
import { descentPath } from "./descent.js";
import { heatMap } from "./heat_map.js";
import { LOSSES } from "./losses.js";
import { meanLoss } from "./pair.js";
import { figure, key, levels, uprights } from "./plot.js";
import { reachOf } from "./reach.js";
import { numberTiles } from "./tiles.js";
import {
  axis, formatExact, formatNumber, html, mount, OWN_KEYS, picture, scale, setAttributes, setText,
  svg,
} from "./ui.js";

const TRAITS = ["loss", "beta", "point", "win_probability", "penalised", "c", "half_width"];
const SIZE = 360;
const BOX = { left: 46, right: SIZE - 6, top: 6, bottom: SIZE - 46 };
const ARROW = 70; // its longest, in units of the picture

function compute(model) {
  const [name, given, [a, b], p, penalised, c, width] = TRAITS.map((trait) => model.get(trait));
  const beta = given ?? LOSSES[name].beta;
  const auto = reachOf(name, beta, { a: 0, b: 0 }) / 2;
  const half = width ?? Math.max(auto, Math.abs(a), Math.abs(b));
  const clip = (value) => Math.min(half, Math.max(-half, value));
  const setting = { name, beta, p, penalty: penalised ? c : 0 };
  const pair = { a: clip(a), b: clip(b) };
  const here = meanLoss(setting, pair);
  return {
    ...setting, ...here, setting, pair, auto, half, c, penalised,
    along: here.da + here.db,
    descent: descentPath(setting, pair, half),
  };
}

function wayText({ descent: { path, end }, setting }) {
  const [a, b] = path.at(-1);
  const { loss } = meanLoss(setting, { a, b });
  const place = `u₁ = ${formatNumber(a)}, u₂ = ${formatNumber(b)}, loss ${formatNumber(loss)}`;
  if (end === "left") return `Downhill leaves the picture: ${place}, and the ground still falls.`;
  return `Downhill ends at ${place}.`;
}

// What only the loss decides: the colours, and how steep the ground is at most.
function ground() {
  const map = heatMap(formatNumber);
  let [shown, steepest] = ["", 1];
  const update = ({ setting, half }) => {
    const now = JSON.stringify([setting, half]);
    if (now === shown) return steepest;
    shown = now;
    steepest = 1e-300;
    map.update((a, b) => {
      const { loss, da, db } = meanLoss(setting, { a, b });
      steepest = Math.max(steepest, Math.hypot(da, db));
      return loss;
    }, half);
    return steepest;
  };
  return { ...map, update };
}

function landscape({ model, set, signal }) {
  const land = ground();
  const { node, describe } = picture(SIZE, SIZE, "Loss over the two log-ratios");
  const grid = svg("g");
  const flat = ["dpo-null-halo", "dpo-null"].map((kind) => svg("line", { class: kind }));
  const [halo, path] = ["dpo-halo", "dpo-path"].map((kind) => svg("polyline", { class: kind }));
  const arrow = svg("path", { class: "dpo-arrow" });
  const end = svg("circle", { r: 4, class: "dpo-path-end" });
  const dot = svg("circle", { r: 7, class: "dpo-point" });
  const width = BOX.right - BOX.left;
  const inner = svg("svg", { x: BOX.left, y: BOX.top, width, height: BOX.bottom - BOX.top,
    viewBox: `${BOX.left} ${BOX.top} ${width} ${BOX.bottom - BOX.top}` });
  inner.append(...flat, halo, path, end);
  const hand = svg("rect", { x: BOX.left, y: BOX.top, width, height: BOX.bottom - BOX.top,
    class: "dpo-hand", tabindex: 0, role: "application",
    "aria-roledescription": "point in a plane", ...OWN_KEYS });
  node.append(grid, inner, arrow, dot, hand,
    svg("text", { x: BOX.right, y: SIZE - 6, class: "dpo-end" }, "log-ratio u₁ of y₁, nats"),
    svg("text", { transform: `translate(11 ${BOX.top}) rotate(-90)`, class: "dpo-end" },
      "log-ratio u₂ of y₂, nats"));
  node.removeAttribute("role");
  let state;
  let shown = 0;
  const move = (a, b) => {
    const clip = (value) => Math.min(state.half, Math.max(-state.half, value));
    set("point", [clip(a), clip(b)]);
  };
  const pick = (event) => {
    const box = hand.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (box.bottom - event.clientY) / box.height];
    const round = (value) => Number((state.half * (2 * value - 1)).toPrecision(3));
    move(round(share[0]), round(share[1]));
  };
  hand.addEventListener("pointerdown", (event) => {
    hand.setPointerCapture(event.pointerId);
    pick(event);
  }, { signal });
  hand.addEventListener("pointermove", (event) => event.buttons && pick(event), { signal });
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  hand.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    const [a, b] = model.get("point");
    const step = (event.shiftKey ? 10 : 1) * state.half / 50;
    const [right, up] = keys[event.key];
    const exact = (value) => Number(value.toPrecision(12));
    move(exact(a + right * step), exact(b + up * step));
  }, { signal });

  const update = (next) => {
    state = next;
    const { half, pair, descent, da, db } = state;
    const steepest = land.update(state);
    const marks = axis(-half, half);
    marks.marks = marks.marks.filter((mark) => Math.abs(mark) <= half);
    const x = scale(-half, half, BOX.left, BOX.right);
    const y = scale(-half, half, BOX.bottom, BOX.top);
    if (shown !== half) grid.replaceChildren(...uprights(marks, x, BOX), ...levels(marks, y, BOX));
    shown = half;
    const { a, b } = pair;
    const [cx, cy] = [x(a), y(b)];
    setAttributes(dot, { cx, cy });
    for (const line of flat)
      setAttributes(line, { x1: cx - SIZE, y1: cy + SIZE, x2: cx + SIZE, y2: cy - SIZE });
    const points = descent.path.map(([u, v]) => `${x(u)},${y(v)}`).join(" ");
    halo.setAttribute("points", points);
    path.setAttribute("points", points);
    const last = descent.path.at(-1);
    setAttributes(end, { cx: x(last[0]), cy: y(last[1]), "data-a": last[0], "data-b": last[1] });
    const steep = Math.hypot(da, db);
    const length = ARROW * Math.sqrt(steep / steepest);
    const turn = (Math.atan2(db, -da) * 180) / Math.PI; // the picture's y points down
    setAttributes(arrow, {
      d: `M0-1.5H${length - 9}V-6L${length} 0L${length - 9} 6V1.5H0Z`,
      transform: `translate(${cx} ${cy}) rotate(${turn})`,
    });
    arrow.style.display = length > 12 ? "" : "none";
    const text = `u₁ ${formatNumber(a)}, u₂ ${formatNumber(b)}, loss ${formatNumber(state.loss)}`;
    hand.setAttribute("aria-label", `${text}. Arrow keys move the point.`);
    describe(`${text}. ${wayText(state)}`);
  };
  const plot = html("div", { class: "dpo-plot" }, land.canvas, node);
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-point", "point"), key("dpo-key-arrow", "force downhill; its length is the root of its size"),
    key("dpo-key-path", "steepest descent"), key("dpo-key-null", "direction (1, 1)"));
  const scaled = html("div", {}, legend,
    html("div", { class: "dpo-faint" }, "loss at the bands' edges"), land.scale);
  return { node: figure("Loss over the two log-ratios", plot, scaled), update };
}

function rows({ model, set, signal }) {
  const point = (name, label, i) => [
    label, (value) => set("point", model.get("point").map((old, k) => (k === i ? value : old))),
    ({ half }) => ({ min: -half, max: half, step: half / 50 }), (state) => state.pair[name],
  ];
  const kinds = [
    ["P(y₁ wins) = p", (value) => set("win_probability", value),
      () => ({ min: 0, max: 1, step: 0.01 }), (state) => state.p],
    point("a", "log-ratio u₁", 0),
    point("b", "log-ratio u₂", 1),
    ["c", (value) => set("c", value), () => ({ min: 0, max: 0.2, step: 0.005 }),
      (state) => state.c],
    ["half-width, nats", (value) => set("half_width", value),
      ({ auto }) => ({ min: auto / 10, max: 4 * auto, step: auto / 10 }), (state) => state.half],
  ].map(([label, onNumber, range, read]) =>
    ({ row: numberRow({ label, signal }, onNumber), range, read }));
  const penalty = toggle({ text: "add c · u₁, the “KL on chosen answers”", signal }, (on) =>
    set("penalised", on));
  const node = html("div", { class: "dpo-fields" },
    ...kinds.map((kind) => kind.row.node), penalty.node);
  const update = (state) => {
    for (const { row, range, read } of kinds) row.update(read(state), range(state));
    penalty.update(state.penalised);
  };
  return { node, update };
}

function head(context) {
  const { model, set, signal } = context;
  const entries = model.get("names").map((name) => [name, name]);
  const loss = choice({ label: "loss", groups: [["losses of the log-ratios", entries]], signal },
    (name) => {
      set("loss", name);
      set("beta", null);
      set("half_width", null);
    });
  const beta = betaRow(context, { low: 1e-3, high: 10 });
  const node = html("div", {},
    html("div", { class: "dpo-choices" }, html("span", {}, "Loss ", loss.node)), beta.node);
  const update = (state) => {
    loss.update(state.name);
    beta.update(state);
  };
  return { node, update };
}

function way() {
  const node = html("p", { class: "dpo-lowest" });
  const update = (state) => {
    setText(node, wayText(state));
    node.dataset.value = state.descent.end;
  };
  return { node, update };
}

function build(context) {
  const tiles = numberTiles([
    ["loss", "loss", "at the point"],
    ["da", "∂/∂u₁", "pushes u₁ the other way"],
    ["db", "∂/∂u₂", "pushes u₂ the other way"],
    ["along", "∂/∂u₁ + ∂/∂u₂", "0 where (1, 1) is flat"],
  ]);
  const parts = [head(context), landscape(context), way(), tiles, rows(context)];
  const name = { role: "group", "aria-label": "Landscape explorer",
    class: "dpo-explorer dpo-landscape" };
  const root = html("div", name, ...parts.map((part) => part.node));
  let state;
  const draw = () => {
    state = compute(context.model);
    for (const part of parts) part.update(state);
  };
  const summary = () => `${state.name}, beta ${formatExact(state.beta)}: loss ` +
    `${formatNumber(state.loss)}. ${wayText(state)}`;
  return { root, draw, summary };
}

export default { render: (context) => mount(context, TRAITS, build) };
