// Columns of a run over its steps: training as lines, held-out values as dots with their errors.

import { figure, key, levels, uprights } from "./plot.js";
import { axis, formatNumber, html, picture, scale, setAttributes, svg } from "./ui.js";

const [WIDTH, HEIGHT] = [280, 172];
const BOX = { left: 46, right: WIDTH - 10, top: 8, bottom: HEIGHT - 22 };
const SHAPES = [ // a circle and a diamond
  "M-3.5 0A3.5 3.5 0 1 1 3.5 0A3.5 3.5 0 1 1-3.5 0Z", "M-4.5 0L0-4.5L4.5 0L0 4.5Z",
];

// `lines` is [{ name, kind, training, heldOut, errors }, ...], each a list of [step, number] and
// `errors` the standard errors of held-out ones. Drawn once; `update(step)` moves the cursor.
export function runChart({ title, zero, lines }, [first, last], signal, onPick) {
  const { node, describe } = picture(WIDTH, HEIGHT, title);
  const x = scale(first, last, BOX.left, BOX.right);
  const up = axis(...reach(lines, zero));
  const y = scale(up.low, up.high, BOX.bottom, BOX.top);
  const across = axis(first, last);
  across.marks = across.marks.filter((mark) => mark >= first && mark <= last && mark % 1 === 0);
  const cursor = svg("line", { y1: BOX.top, y2: BOX.bottom, class: "dpo-cursor" });
  const marks = lines.map(({ kind }) => svg("circle", { r: 5, class: `dpo-now dpo-${kind}` }));
  node.append(...levels(up, y, BOX), ...uprights(across, x, BOX), cursor,
    ...lines.flatMap((line, i) => drawn(line, SHAPES[i], x, y)), ...marks);
  node.classList.add("dpo-pick");
  const pick = ({ clientX }) => {
    const box = node.getBoundingClientRect();
    const share = (((clientX - box.left) / box.width) * WIDTH - BOX.left) / (BOX.right - BOX.left);
    onPick(first + share * (last - first));
  };
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    pick(event);
  }, { signal });
  node.addEventListener("pointermove", (event) => event.buttons && pick(event), { signal });

  const update = (step) => {
    setAttributes(cursor, { x1: x(step), x2: x(step) });
    const said = lines.map(({ name, training, heldOut }, i) => {
      const newest = [training, heldOut].map((each) => each.findLast(([at]) => at <= step));
      const [at, value] = newest[0] ?? newest[1] ?? [];
      const shown = Number.isFinite(value);
      marks[i].style.display = shown ? "" : "none";
      if (shown) setAttributes(marks[i], { cx: x(at), cy: y(value), "data-value": value });
      const words = newest.map((each, k) =>
        each && `${k ? "held out" : "training"} ${formatNumber(each[1])} at step ${each[0]}`);
      return `${name}: ${words.filter(Boolean).join(", ") || "nothing yet"}`;
    });
    describe(`${said.join("; ")}.`);
  };
  const named = lines.length > 1 ? lines : [];
  const legend = html("div", { class: "dpo-legend" },
    ...named.map(({ name, kind }) => key(`dpo-key-line dpo-${kind}`, name)));
  return { node: figure(title, node, legend), update };
}

function reach(lines, zero) {
  const values = lines.flatMap(({ training, heldOut, errors }) =>
    [...training, ...heldOut, ...heldOut.flatMap((dot) => bar(dot, errors))]
      .map(([, value]) => value)).concat(zero ? [0] : []).filter(Number.isFinite);
  return [Math.min(...values), Math.max(...values)];
}

// The two ends of the bar of two standard errors, if the dot has one.
function bar([step, value], errors) {
  const error = 2 * errors.find(([at]) => at === step)?.[1];
  return error > 0 && Number.isFinite(error) ? [[step, value - error], [step, value + error]] : [];
}

// A number that is not finite breaks the line, and has no dot.
function drawn({ kind, training, heldOut, errors }, shape, x, y) {
  let pen = "M";
  const path = training.map(([step, value]) => {
    const ends = Number.isFinite(value);
    const piece = ends ? `${pen}${x(step).toFixed(1)} ${y(value).toFixed(1)}h0` : "";
    pen = ends ? "L" : "M";
    return piece;
  });
  const dots = heldOut.filter(([, value]) => Number.isFinite(value)).flatMap((dot) => {
    const [step, value] = dot;
    const ends = bar(dot, errors).map((end) => y(end[1]));
    const error = svg("path", { class: `dpo-error dpo-${kind}`,
      d: ends.length ? `M${x(step)} ${ends[0]}V${ends[1]}` : "" });
    return [error, svg("path", { class: `dpo-dot dpo-${kind}`, d: shape, "data-value": value,
      transform: `translate(${x(step)} ${y(value)})` })];
  });
  return [svg("path", { class: `dpo-line dpo-${kind}`, d: path.join("") }), ...dots];
}
