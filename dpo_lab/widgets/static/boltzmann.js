// The Boltzmann explorer: how beta, rewards and the reference shape the KL-regularised optimum.

import { barChart } from "./bars.js";
import { frontierChart } from "./charts.js";
import { betaRow } from "./controls.js";
import {
  entropy, expectedReward, kl, logNormalise, logPartition, optimalPolicy,
} from "./maths.js";
import { numberTiles } from "./tiles.js";
import {
  formatExact, formatNumber, html, minus, mount, percent, roundUp, setSlider, setText, slider,
  withSub,
} from "./ui.js";

const TRAITS = ["beta", "rewards", "ref_probs", "labels"];

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

function betaControl(context) {
  const ends = html("div", { class: "dpo-ends", "aria-hidden": "true" },
    html("span", {}, "0.01 · reward decides"),
    html("span", {}, "reference decides · 100"));
  return betaRow(context, { low: 0.01, high: 100, ends });
}

function tiles() {
  return numberTiles([
    ["reward", "E[r]", "mean reward"],
    ["kl", html("span", {}, "KL(π* ‖ ", withSub("π", "ref"), ")"), "nats"],
    ["entropy", "H(π*)", "entropy, nats"],
    ["logZ", "log Z", "log partition"],
    ["value", "V* = β log Z", "E[r] − β KL"],
  ]);
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
  const name = html("span", { class: "dpo-setting-name", "aria-hidden": "true" }, caption);
  return { input, text, node: html("div", { class: "dpo-control" }, name, input, text) };
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
    bars: barChart(count, "π*, the optimum"),
    frontier: frontierChart(),
    tiles: tiles(),
    rows: answerRows(context),
  };
  const charts = html("div", { class: "dpo-charts" }, parts.bars.node, parts.frontier.node);
  const name = { role: "group", "aria-label": "Boltzmann explorer",
    class: "dpo-explorer dpo-boltzmann" };
  const nodes = [parts.beta.node, charts, parts.tiles.node, parts.rows.node];
  const root = html("div", name, ...nodes);
  let state;
  const draw = () => {
    state = compute(context.model);
    for (const part of Object.values(parts)) part.update(state);
  };
  return { root, draw, summary: () => summary(state) };
}

export default { render: (context) => mount(context, TRAITS, build) };
