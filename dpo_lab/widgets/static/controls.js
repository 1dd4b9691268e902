// Controls that several explorers share, each with its name for a screen reader.

import {
  button, formatExact, html, minus, numberBox, OWN_KEYS, setSlider, setText, slider,
} from "./ui.js";

const LIMITS = { lowest: 1e-6, highest: 1e6 };

// A positive number on a logarithmic slider from `low` to `high`, and a box for an exact value.
export function logControl({ name, symbol, low, high, signal }, onNumber) {
  const range = { min: Math.log10(low), max: Math.log10(high), step: 0.02 };
  const input = slider({ label: `${name}, logarithmic`, ...range, signal }, (position) =>
    onNumber(Number((10 ** position).toPrecision(3))),
  );
  const box = numberBox({ label: `${name}, exact value`, signal }, (value) => {
    if (!(value >= LIMITS.lowest && value <= LIMITS.highest))
      return `${symbol} must lie between 1e-6 and 1e6.`;
    onNumber(value);
  });
  const update = (value) => {
    const text = formatExact(value);
    setSlider(input, Math.log10(value), `${name} ${text}`);
    if (box.shown() !== text) box.show(text);
  };
  return { slider: input, box: box.input, message: box.message, update };
}

// Puts back the state that the explorer was made with.
export function resetButton({ model, set, signal }) {
  return button("Reset", signal, () => {
    for (const [name, value] of Object.entries(model.get("initial"))) set(name, value);
  });
}

// The row for beta: box, slider and reset, and what the slider's ends mean.
export function betaRow(context, { low, high, ends = "" }) {
  const { set, signal } = context;
  const beta = logControl({ name: "beta", symbol: "β", low, high, signal }, (value) =>
    set("beta", value));
  const name = html("span", { class: "dpo-beta-name", "aria-hidden": "true" }, "β =");
  const parts = [name, beta.box, beta.slider, resetButton(context), ends, beta.message];
  const node = html("div", { class: "dpo-beta" }, ...parts);
  return { node, update: (state) => beta.update(state.beta) };
}

// A slider between its name and its value.
export function numberRow({ label, signal }, onNumber) {
  const input = slider({ label, min: 0, max: 1, step: 1, signal }, onNumber);
  const text = html("span", { class: "dpo-setting" });
  const caption = html("span", { "aria-hidden": "true" }, label);
  const node = html("div", { class: "dpo-field" }, caption, input, text);
  const update = (value, range) => {
    Object.assign(input, range);
    setSlider(input, value, minus(formatExact(value)));
    setText(text, minus(formatExact(value)));
  };
  return { node, update };
}

// A list to choose from. `groups` is [[heading, [[value, text], ...]], ...]; "" is no heading.
export function choice({ label, groups, signal }, onChoice) {
  const node = html("select", { class: "dpo-choice", "aria-label": label, ...OWN_KEYS });
  for (const [heading, entries] of groups) {
    const options = entries.map(([value, text]) => html("option", { value }, text));
    node.append(...(heading ? [html("optgroup", { label: heading }, ...options)] : options));
  }
  node.addEventListener("change", () => onChoice(node.value), { signal });
  return { node, update: (value) => { if (node.value !== value) node.value = value; } };
}

// A box to tick, inside its label.
export function toggle({ text, signal }, onToggle) {
  const input = html("input", { type: "checkbox", ...OWN_KEYS });
  input.addEventListener("change", () => onToggle(input.checked), { signal });
  const node = html("label", { class: "dpo-toggle" }, input, text);
  return { node, update: (on) => { input.checked = on; } };
}
