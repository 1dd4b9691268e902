// A function of two numbers as bands of colour, each band with the same area.

import { html, setText } from "./ui.js";

// Viridis: from dark to light, in equal steps for the eye and without red against green.
const COLORS = [
  "440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b",
  "fde725",
];
const CELLS = 56;
const PIXELS = 224;

// `update(evaluate, half)` draws evaluate(x, y) over [-half, half] in both; y points up.
export function heatMap(format) {
  const canvas = html("canvas", { width: PIXELS, height: PIXELS, "aria-hidden": "true" });
  const context = canvas.getContext("2d", { willReadFrequently: true }); // drawn by the CPU
  const image = context.createImageData(PIXELS, PIXELS);
  const words = new Uint32Array(image.data.buffer);
  const paint = COLORS.map((color) => {
    const [red, green, blue] = [0, 2, 4].map((i) => parseInt(color.slice(i, i + 2), 16));
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // bytes from the low end
  });
  const texts = COLORS.map(() => html("span"));
  const lowest = html("span");
  const swatches = COLORS.map((color, i) =>
    html("span", { style: `border-top-color: #${color}` }, texts[i]));
  const scale = html("div", { class: "dpo-scale" }, html("span", {}, lowest), ...swatches);
  const update = (evaluate, half) => {
    const grid = sample(evaluate, half);
    const sorted = Float64Array.from(grid).sort();
    const edges = COLORS.map((_, i) =>
      sorted[Math.ceil(((i + 1) / COLORS.length) * (sorted.length - 1))]);
    for (let row = 0; row < PIXELS; row += 1)
      for (let column = 0; column < PIXELS; column += 1) {
        const value = between(grid, (column + 0.5) / PIXELS, 1 - (row + 0.5) / PIXELS);
        let band = 0;
        while (band < COLORS.length - 1 && value > edges[band]) band += 1;
        words[row * PIXELS + column] = paint[band];
      }
    context.putImageData(image, 0, 0);
    setText(lowest, format(sorted[0]));
    edges.forEach((edge, i) => setText(texts[i], format(edge)));
  };
  return { canvas, scale, update };
}

function sample(evaluate, half) {
  const at = (i) => half * ((2 * i) / CELLS - 1);
  const grid = new Float64Array((CELLS + 1) ** 2);
  for (let i = 0; i <= CELLS; i += 1)
    for (let k = 0; k <= CELLS; k += 1) grid[k * (CELLS + 1) + i] = evaluate(at(i), at(k));
  return grid;
}

// The value at the shares x and y of the way, linear between the four corners of a cell.
function between(grid, x, y) {
  const [i, k] = [Math.floor(x * CELLS), Math.floor(y * CELLS)];
  const [s, t] = [x * CELLS - i, y * CELLS - k];
  const low = k * (CELLS + 1) + i;
  const high = low + CELLS + 1;
  return (1 - t) * ((1 - s) * grid[low] + s * grid[low + 1]) +
    t * ((1 - s) * grid[high] + s * grid[high + 1]);
}
