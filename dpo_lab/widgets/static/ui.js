// What every explorer shares: its life cycle, building blocks with labels, number formatting.
// Text reaches the page through text nodes and attributes only, so a label is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SUMMARY_DELAY = 700; // ms of rest before a screen reader hears the new numbers

export function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

export function withSub(text, sub) {
  return html("span", { class: "dpo-symbol" }, text, html("sub", {}, sub));
}

export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Builds an explorer once and redraws it at most once a frame after any of `traits` changes.
// `build(context)` returns { root, draw, summary }; the result undoes everything.
export function mount({ model, el }, traits, build) {
  const controller = new AbortController();
  const status = html("div", { role: "status", "aria-live": "polite", class: "dpo-hidden" });
  let frame = 0;
  let timer = 0;
  const redraw = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      view.draw();
      clearTimeout(timer);
      timer = setTimeout(() => setText(status, view.summary()), SUMMARY_DELAY);
    });
  };
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
    redraw();
  };
  const view = build({ model, set, redraw, signal: controller.signal });
  view.root.append(status);
  view.draw();
  el.append(view.root);
  for (const name of traits) model.on(`change:${name}`, redraw);
  return () => {
    for (const name of traits) model.off(`change:${name}`, redraw);
    controller.abort();
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    view.root.remove();
  };
}

// JupyterLab takes arrow keys for itself unless the control says otherwise.
export const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

export function slider({ label, min, max, step, signal }, onInput) {
  const type = { type: "range", class: "dpo-slider" };
  const input = html("input", { ...type, min, max, step, "aria-label": label, ...OWN_KEYS });
  input.addEventListener("input", () => onInput(Number(input.value)), { signal });
  return input;
}

export function setSlider(input, position, text) {
  if (Number(input.value) !== position) input.value = position;
  input.setAttribute("aria-valuetext", text);
}

// A text box for an exact number. `onNumber` returns a message when it refuses the number.
export function numberBox({ label, signal }, onNumber) {
  const attributes = { type: "text", inputmode: "decimal", size: 8, class: "dpo-box" };
  const input = html("input", { ...attributes, "aria-label": label, ...OWN_KEYS });
  const message = html("span", { role: "alert", class: "dpo-message" });
  let shown = "";
  const refuse = (text) => {
    input.setAttribute("aria-invalid", text !== "");
    setText(message, text);
  };
  const show = (text) => {
    shown = input.value = text;
    refuse("");
  };
  const read = () => {
    const text = input.value.trim().replace(",", ".");
    if (text === shown) return refuse("");
    refuse(onNumber(text === "" ? NaN : Number(text)) ?? "");
  };
  input.addEventListener("change", read, { signal });
  input.addEventListener("keydown", (event) => event.key === "Escape" && show(shown), { signal });
  return { input, message, show, shown: () => shown };
}

export function button(text, signal, onClick) {
  const node = html("button", { type: "button", class: "dpo-button", ...OWN_KEYS }, text);
  node.addEventListener("click", onClick, { signal });
  return node;
}

// An SVG picture with a name and a description that can be kept up to date.
export function picture(width, height, name) {
  const id = `dpo-${Math.random().toString(36).slice(2)}`;
  const title = svg("title", { id: `${id}-name` }, name);
  const description = svg("desc", { id: `${id}-text` });
  const node = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-labelledby": title.id,
    "aria-describedby": description.id,
    class: "dpo-picture",
  });
  node.append(title, description);
  return { node, describe: (text) => setText(description, text) };
}

// Maps [from, to] of the data onto [start, end] of the picture.
export function scale(from, to, start, end) {
  return (value) => start + ((value - from) / (to - from)) * (end - start);
}

// The smallest of 1, 2, 5 times a power of ten that is at least `size`.
export function roundUp(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= size * (1 - 1e-9));
}

// Round ends and marks for an axis that has to show [low, high]. Ends that only rounding keeps apart,
// in either order, are one value.
export function axis(low, high, intervals = 4) {
  const size = Math.max(Math.abs(low), Math.abs(high));
  const span = high - low > 1e-9 * size ? high - low : size;
  const step = roundUp((span || 1) / intervals);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  const marks = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  const digits = Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const plain = step >= 1e-4 && Math.max(...marks.map(Math.abs)) < 1e5;
  const name = (mark) => minus(plain ? mark.toFixed(digits) : mark.toExponential(1));
  return { low: first * step, high: last * step, marks, name };
}

// Three decimals where they say something, an exponent where they would not.
export function formatNumber(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (!Number.isFinite(value)) return minus(String(value).replace("Infinity", "∞"));
  if (size < 1e-3 || size >= 1e6) return minus(value.toExponential(2));
  return minus(value.toFixed(size < 100 ? 3 : 1));
}

// As few digits as give the number back, at most six: what a reader would type.
export function formatExact(value) {
  return String(Number(value.toPrecision(6)));
}

// A probability from its logarithm; only a true 0 reads as 0.
export function percent(logp) {
  const share = 100 * Math.exp(logp);
  if (share === 0) return "0 %";
  return share < 0.05 ? "<0.1 %" : `${share.toFixed(1)} %`;
}

export function minus(text) {
  return text.replaceAll("-", "−");
}
