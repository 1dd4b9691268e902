// The Boltzmann explorer: how beta, rewards and the reference shape the KL-regularised optimum.

import {
  entropy, expectedReward, frontier, kl, limits, logNormalise, logPartition, optimalPolicy,
} from "./maths.js";
import {
  axis, button, formatExact, formatNumber, html, minus, mount, numberBox, picture, roundUp, scale,
  setAttributes, setSlider, setText, slider, svg,
} from "./ui.js";

const TRAITS = ["beta", "rewards", "ref_probs", "labels"];
const BETA = { lowest: 1e-6, highest: 1e6, sliderLow: -2, sliderHigh: 2, step: 0.02 }; // log10
const WIDTH = 320;
const HEIGHT = 210;

function compute(model) {
  const [beta, rewards, weights, labels] = TRAITS.map((name) => model.get(name));
  const ref = logNormalise(weights);
  const policy = optimalPolicy(ref, rewards, beta);
  const logZ = logPartition(ref, rewards, beta);
  return {
    beta, rewards, weights, labels, ref, policy, logZ,
    value: beta * logZ,
    reward: expectedReward(policy, rewards),
    kl: kl(policy, ref),
    entropy: entropy(policy),
  };
}

function withSub(text, sub) {
  return html("span", { class: "dpo-symbol" }, text, html("sub", {}, sub));
}

function betaControl({ model, set, signal }) {
  const range = { min: BETA.sliderLow, max: BETA.sliderHigh, step: BETA.step };
  const input = slider({ label: "beta, logarithmic", ...range, signal }, (position) =>
    set("beta", Number((10 ** position).toPrecision(3))),
  );
  const box = numberBox({ label: "beta, exact value", signal }, (beta) => {
    if (!(beta >= BETA.lowest && beta <= BETA.highest)) return "β must lie between 1e-6 and 1e6.";
    set("beta", beta);
  });
  const reset = button("Reset", signal, () => {
    for (const [name, value] of Object.entries(model.get("initial"))) set(name, value);
  });
  const node = html("div", { class: "dpo-beta" },
    html("span", { class: "dpo-beta-name", "aria-hidden": "true" }, "β ="),
    box.input, input, reset,
    html("div", { class: "dpo-ends", "aria-hidden": "true" },
      html("span", {}, "0.01 · reward decides"),
      html("span", {}, "reference decides · 100")),
    box.message,
  );
  const update = ({ beta }) => {
    const text = formatExact(beta);
    setSlider(input, Math.log10(beta), `beta ${text}`);
    if (box.shown() !== text) box.show(text);
  };
  return { node, update };
}
// Two bars an answer: the reference hollow, the optimum filled, on a fixed axis from 0 to 1.
function barChart(count) {
  const left = 30;
  const right = WIDTH - 4;
  const bottom = HEIGHT - 34;
  const y = scale(0, 1, bottom, 12);
  const band = (right - left) / count;
  const width = Math.min(18, band * 0.38);
  const { node, describe } = picture(WIDTH, HEIGHT, "Probability of each answer");
  for (const mark of [0, 0.5, 1]) {
    node.append(
      svg("line", { x1: left, x2: right, y1: y(mark), y2: y(mark), class: "dpo-grid" }),
      svg("text", { x: left - 6, y: y(mark) + 4, class: "dpo-end" }, String(mark)),
    );
  }
  const bar = (series, index) => {
    const x = left + band * (index + 0.5) + (series === "ref" ? -width - 1 : 1);
    const shape = svg("rect", { x, width, class: `dpo-${series}` });
    Object.assign(shape.dataset, { series, index });
    return shape;
  };
  const columns = Array.from({ length: count }, (_, i) => {
    const x = left + band * (i + 0.5);
    const name = svg("text", { x, y: bottom + 18, class: "dpo-middle" });
    const none = svg("text", { x, y: bottom - 4, class: "dpo-middle dpo-faint" }, "×");
    const column = { ref: bar("ref", i), policy: bar("policy", i), name, none };
    node.append(column.ref, column.policy, name, none);
    return column;
  });
  const grow = (shape, logp) => {
    const value = Math.exp(logp);
    setAttributes(shape, { y: y(value), height: bottom - y(value), "data-value": value });
  };
  const update = ({ labels, ref, policy }) => {
    columns.forEach((column, i) => {
      grow(column.ref, ref[i]);
      grow(column.policy, policy[i]);
      setText(column.name, shorten(labels[i], band / 7));
      column.none.style.display = ref[i] === -Infinity ? "" : "none";
    });
    const each = labels.map((label, i) => `${label} ${percent(ref[i])} to ${percent(policy[i])}`);
    describe(`From the reference to the optimum: ${each.join(", ")}.`);
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-ref", withSub("π", "ref")), key("dpo-key-policy", "π*, the optimum"));
  return { node: figure("Probability of each answer", node, legend), update };
}

// Every policy of the family in one curve. The tangent has slope beta and meets KL = 0 at V*.
function frontierChart() {
  const box = { left: 46, right: WIDTH - 12, top: 24, bottom: HEIGHT - 34 };
  const { node, describe } = picture(WIDTH, HEIGHT, "Reward-KL frontier");
  const marks = svg("g");
  const curve = svg("polyline", { class: "dpo-curve" });
  const tangent = svg("line", { class: "dpo-tangent" });
  const ends = ["β → ∞", "β → 0"].map((name) => ({
    dot: svg("circle", { r: 4.5, class: "dpo-limit" }),
    name: svg("text", { class: "dpo-label" }, name),
  }));
  const value = svg("path", { d: "M-5 0L0-5L5 0L0 5Z", class: "dpo-value" });
  const point = svg("circle", { r: 6, class: "dpo-point" });
  node.append(marks, tangent, curve, ...ends.flatMap((end) => [end.dot, end.name]), value, point);
  node.append(
    svg("text", { x: 0, y: 12 }, "expected reward"),
    svg("text", { x: box.right, y: HEIGHT - 4, class: "dpo-end" }, "KL from the reference, nats"),
  );
  let world;
  const update = (state) => {
    if (!world || world.rewards !== state.rewards || world.weights !== state.weights) {
      world = { rewards: state.rewards, weights: state.weights, ...drawWorld(state) };
    }
    const { x, y, top } = world;
    const slope = (y(0) - y(state.beta)) / (x(1) - x(0)); // in picture units, rightwards and up
    const start = { x: x(0), y: y(state.value) };
    const reach = Math.min(box.right - start.x, (start.y - y(top)) / slope);
    setAttributes(tangent, { x1: start.x, y1: start.y, x2: start.x + reach });
    tangent.setAttribute("y2", start.y - reach * slope);
    value.setAttribute("transform", `translate(${start.x} ${start.y})`);
    const { kl: divergence, reward } = state;
    setAttributes(point, { cx: x(divergence), cy: y(reward) });
    Object.assign(point.dataset, { kl: divergence, reward });
    describe(`At beta ${formatExact(state.beta)} the optimum has expected reward ` +
      `${formatNumber(state.reward)} at KL ${formatNumber(state.kl)} nats. ${world.text}`);
  };
  const drawWorld = ({ ref, rewards }) => {
    const { betaToZero, betaToInfinity } = limits(ref, rewards);
    const kls = axis(0, betaToZero.kl);
    const gains = axis(betaToInfinity.expectedReward, betaToZero.expectedReward);
    const x = scale(kls.low, kls.high, box.left, box.right);
    const y = scale(gains.low, gains.high, box.bottom, box.top);
    const family = frontier(ref, rewards, betaGrid(ref, rewards));
    const all = [
      betaToInfinity,
      ...family.kls.map((each, i) => ({ kl: each, expectedReward: family.expectedRewards[i] })),
      betaToZero,
    ];
    const place = (each) => `${x(each.kl)},${y(each.expectedReward)}`;
    curve.setAttribute("points", all.map(place).join(" "));
    [betaToInfinity, betaToZero].forEach((limit, i) => {
      const [cx, cy] = [x(limit.kl), y(limit.expectedReward)];
      setAttributes(ends[i].dot, { cx, cy });
      Object.assign(ends[i].dot.dataset, { kl: limit.kl, reward: limit.expectedReward });
      setAttributes(ends[i].name, { x: cx + (i ? 4 : 10), y: cy + (i ? 20 : 4) });
      ends[i].name.classList.toggle("dpo-end", i === 1);
    });
    marks.replaceChildren(
      ...kls.marks.flatMap((mark) => [
        svg("line", { x1: x(mark), x2: x(mark), y1: box.top, y2: box.bottom, class: "dpo-grid" }),
        svg("text", { x: x(mark), y: box.bottom + 15, class: "dpo-middle" }, kls.name(mark)),
      ]),
      ...gains.marks.flatMap((mark) => [
        svg("line", { x1: box.left, x2: box.right, y1: y(mark), y2: y(mark), class: "dpo-grid" }),
        svg("text", { x: box.left - 6, y: y(mark) + 4, class: "dpo-end" }, gains.name(mark)),
      ]),
    );
    const text = `The frontier runs from reward ${formatNumber(betaToInfinity.expectedReward)} ` +
      `at KL 0 to reward ${formatNumber(betaToZero.expectedReward)} ` +
      `at KL ${formatNumber(betaToZero.kl)} nats.`;
    return { x, y, top: gains.high, text };
  };
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-point", "π* at this β"), key("dpo-key-limit", "limits of β"),
    key("dpo-key-value", "V*, where the tangent of slope β meets KL = 0"));
  return { node: figure("Reward–KL frontier", node, legend), update };
}

// 30 values of beta a decade around the spread of the rewards: there the policy moves.
function betaGrid(ref, rewards) {
  const supported = rewards.filter((_, i) => ref[i] > -Infinity);
  const spread = Math.max(...supported) - Math.min(...supported) || 1;
  return Array.from({ length: 151 }, (_, i) => spread * 10 ** (2 - i / 30));
}

function numberTiles() {
  const kinds = [
    ["reward", html("span", {}, "E[r]"), "mean reward of π*"],
    ["kl", html("span", {}, "KL(π* ‖ ", withSub("π", "ref"), ")"), "nats"],
    ["entropy", html("span", {}, "H(π*)"), "entropy, nats"],
    ["logZ", html("span", {}, "log Z"), "log partition"],
    ["value", html("span", {}, "V* = β log Z"), "E[r] − β KL at π*"],
  ];
  const tiles = kinds.map(([name, symbol, meaning]) => {
    const number = html("dd", { "data-number": name });
    const node = html("div", {}, html("dt", {}, symbol), number, html("dd", {}, meaning));
    return { name, number, node };
  });
  const update = (state) => {
    for (const { name, number } of tiles) {
      number.dataset.value = state[name];
      setText(number, formatNumber(state[name]));
    }
  };
  return { node: html("dl", { class: "dpo-tiles" }, ...tiles.map((tile) => tile.node)), update };
}

// One row an answer. Slider ranges follow the world the explorer was made with and stay put.
function answerRows({ model, set, redraw, signal }) {
  const { rewards, ref_probs: weights } = model.get("initial");
  const rewardEnd = roundUp(1.2 * Math.max(...rewards.map(Math.abs), 0.5));
  const weightEnd = roundUp(2 * Math.max(...weights));
  const change = (name, index, value) =>
    set(name, model.get(name).map((old, i) => (i === index ? value : old)));
  const weigh = (index, weight) => {
    const others = model.get("ref_probs").some((each, i) => i !== index && each > 0);
    setText(refusal, weight > 0 || others ? "" : "One answer must keep a positive weight.");
    if (weight > 0 || others) change("ref_probs", index, weight);
    else redraw();
  };
  const rows = rewards.map((_, i) => {
    const reward = { min: -rewardEnd, max: rewardEnd, step: rewardEnd / 50, signal };
    const weight = { min: 0, max: weightEnd, step: weightEnd / 100, signal };
    const row = {
      label: html("span", { class: "dpo-answer" }),
      chance: html("span", { class: "dpo-chance" }),
      reward: control("reward", slider(reward, (value) => change("rewards", i, value))),
      weight: control("weight", slider(weight, (value) => weigh(i, value))),
    };
    const parts = [row.label, row.reward.node, row.weight.node, row.chance];
    return { ...row, node: html("div", { role: "group", class: "dpo-row" }, ...parts) };
  });
  const head = html("div", { class: "dpo-row dpo-head", "aria-hidden": "true" },
    html("span", {}, "answer"), html("span", {}, "reward r"),
    html("span", {}, "reference weight"), html("span", {}, withSub("π", "ref"), " → π*"));
  const refusal = html("span", { role: "alert", class: "dpo-message" });
  const note = { total: html("span"), outside: html("span") };
  const text = html("p", { class: "dpo-note" },
    "The weights sum to ", note.total, ". Each divided by that sum is ", withSub("π", "ref"), ". ",
    note.outside);
  const parts = [head, ...rows.map((row) => row.node), text, refusal];
  const node = html("div", { class: "dpo-rows" }, ...parts);
  return { node, update: (state) => updateRows(rows, note, state) };
}

function updateRows(rows, note, { labels, rewards, weights, ref, policy }) {
  rows.forEach((row, i) => {
    const reward = minus(formatExact(rewards[i]));
    const weight = formatExact(weights[i]);
    setText(row.label, labels[i]);
    row.node.setAttribute("aria-label", `Answer ${labels[i]}`);
    setText(row.reward.text, reward);
    setText(row.weight.text, weight);
    row.reward.input.setAttribute("aria-label", `reward of ${labels[i]}`);
    row.weight.input.setAttribute("aria-label", `reference weight of ${labels[i]}`);
    setSlider(row.reward.input, rewards[i], reward);
    setSlider(row.weight.input, weights[i], `${weight}, probability ${percent(ref[i])}`);
    setText(row.chance, `${percent(ref[i])} → ${percent(policy[i])}`);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const zero = labels.filter((_, i) => weights[i] === 0);
  setText(note.total, formatExact(total));
  setText(note.outside, zero.length
    ? `Outside the support, so at 0 for every β: ${zero.join(", ")}.` : "");
}

function control(caption, input) {
  const text = html("span", { class: "dpo-setting" });
  const name = html("span", { class: "dpo-caption", "aria-hidden": "true" }, caption);
  return { input, text, node: html("div", { class: "dpo-control" }, name, input, text) };
}

function figure(caption, node, legend) {
  const name = html("figcaption", { "aria-hidden": "true" }, caption);
  return html("figure", { class: "dpo-figure" }, name, node, legend);
}

function key(kind, text) {
  const swatch = html("span", { class: `dpo-key ${kind}`, "aria-hidden": "true" });
  return html("span", {}, swatch, text);
}

function percent(logp) {
  const share = 100 * Math.exp(logp);
  if (share === 0) return "0 %";
  return share < 0.05 ? "<0.1 %" : `${share.toFixed(1)} %`;
}

function shorten(label, room) {
  const letters = [...label];
  return letters.length <= room ? label : `${letters.slice(0, Math.max(1, room - 1)).join("")}…`;
}

function summary({ beta, reward, kl: divergence, value, labels, policy }) {
  const likely = policy.indexOf(Math.max(...policy));
  return `beta ${formatExact(beta)}: expected reward ${formatNumber(reward)}, ` +
    `KL ${formatNumber(divergence)} nats, optimal value ${formatNumber(value)}. ` +
    `Most likely answer: ${labels[likely]}, ${percent(policy[likely])}.`;
}

function build(context) {
  const count = context.model.get("initial").rewards.length;
  const parts = {
    beta: betaControl(context),
    bars: barChart(count),
    frontier: frontierChart(),
    tiles: numberTiles(),
    rows: answerRows(context),
  };
  const charts = html("div", { class: "dpo-charts" }, parts.bars.node, parts.frontier.node);
  const root = html("section", { class: "dpo-explorer", "aria-label": "Boltzmann explorer" },
    parts.beta.node, charts, parts.tiles.node, parts.rows.node);
  let state;
  const draw = () => {
    state = compute(context.model);
    for (const part of Object.values(parts)) part.update(state);
  };
  return { root, draw, summary: () => summary(state) };
}

export default { render: (context) => mount(context, TRAITS, build) };
