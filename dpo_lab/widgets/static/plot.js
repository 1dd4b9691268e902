// The parts that pictures share: grid lines, captions, legends.

import { html, svg } from "./ui.js";

// Grid lines with their numbers: upright ones for a horizontal axis, levels for a vertical one.
export function uprights({ marks, name }, x, { top, bottom }) {
  return marks.flatMap((mark) => [
    svg("line", { x1: x(mark), x2: x(mark), y1: top, y2: bottom, class: "dpo-grid" }),
    svg("text", { x: x(mark), y: bottom + 15, class: "dpo-middle" }, name(mark)),
  ]);
}

export function levels({ marks, name }, y, { left, right }) {
  return marks.flatMap((mark) => [
    svg("line", { x1: left, x2: right, y1: y(mark), y2: y(mark), class: "dpo-grid" }),
    svg("text", { x: left - 6, y: y(mark) + 4, class: "dpo-end" }, name(mark)),
  ]);
}

// A picture under its caption and over its legend of keys.
export function figure(caption, node, legend) {
  const name = html("div", { class: "dpo-caption", "aria-hidden": "true" }, caption);
  return html("div", { class: "dpo-figure" }, name, node, legend);
}

export function key(kind, text) {
  const swatch = html("span", { class: `dpo-key ${kind}`, "aria-hidden": "true" });
  return html("span", {}, swatch, text);
}
