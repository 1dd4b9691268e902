import { formatNumber, html, setText } from "./ui.js";

// Numbers in large digits; `kinds` is [[name, symbol, meaning], ...] and `update` takes an object
// with a number for each name.
export function numberTiles(kinds) {
  const tiles = kinds.map(([name, symbol, meaning]) => {
    const number = html("div", { "data-number": name });
    const note = html("div", { class: "dpo-faint" }, meaning);
    return { name, number, node: html("div", {}, html("span", {}, symbol), number, note) };
  });
  const update = (state) => {
    for (const { name, number } of tiles) {
      number.dataset.value = state[name];
      setText(number, formatNumber(state[name]));
    }
  };
  return { node: html("div", { class: "dpo-tiles" }, ...tiles.map((tile) => tile.node)), update };
}
