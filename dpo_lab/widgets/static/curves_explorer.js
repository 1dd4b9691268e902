// The curves explorer: one run, scrubbed step by step, with what the policy itself says.

import { choice, resetButton } from "./controls.js";
import { readingText, rowAt, series } from "./curves_reading.js";
import { key } from "./plot.js";
import { runChart } from "./run_chart.js";
import { formatNumber, html, mount, setSlider, setText, slider } from "./ui.js";

const TRAITS = ["step", "prompt"];
const PANELS = [
  { title: "Log-ratio to the reference, nats", zero: true,
    columns: [["logratios/chosen", "chosen"], ["logratios/rejected", "rejected"]] },
  { title: "Log-probability of the answer, nats",
    columns: [["logps/chosen", "chosen"], ["logps/rejected", "rejected"]] },
  { title: "Mean margin", zero: true, columns: [["rewards/margins", "margin"]] },
  { title: "Loss", columns: [["loss", "loss"]] },
  { title: "Mean force, grad_weight", zero: true, columns: [["grad_weight", "force"]] },
  { title: "KL on own answers, nats", zero: true, columns: [["kl/policy", "KL"]] },
  { title: "True reward of own answers", columns: [["gold/reward", "true reward"]] },
];
const WORDS = {
  "logratios/chosen": "log-ratio of chosen, nats",
  "logratios/rejected": "log-ratio of rejected, nats",
  "logps/chosen": "log-probability of chosen, nats",
  "logps/rejected": "log-probability of rejected, nats",
  "rewards/margins": "mean margin", "rewards/accuracies": "pairs ranked right",
  loss: "loss", grad_weight: "mean force, grad_weight",
  "kl/policy": "KL on own answers, nats", "gold/reward": "true reward of own answers",
  "lengths/policy": "length of own answers, tokens",
};

// All that never changes: the tables, the answers, and the steps at which anything was recorded.
function readRun(model) {
  const [training, heldOut, samples] = ["training", "held_out", "samples"]
    .map((name) => model.get(name));
  const answered = samples.flatMap(({ answers }) => answers.map(([step]) => step));
  const steps = [...new Set([...training.step, ...heldOut.step, ...answered])]
    .sort((a, b) => a - b);
  return { training, heldOut, samples, steps };
}

function stepRow(context) {
  const { set, signal, run: { steps } } = context;
  const range = { min: 0, max: steps.length - 1, step: 1 };
  const input = slider({ label: "step", ...range, signal }, (index) => set("step", steps[index]));
  const place = html("span", { class: "dpo-place", "aria-hidden": "true" });
  const node = html("div", { class: "dpo-steps" }, place, input, resetButton(context));
  const update = ({ index, step }) => {
    setSlider(input, index, `step ${step} of ${steps.at(-1)}`);
    setText(place, `step ${step}`);
  };
  return { node, update };
}

function reading() {
  const node = html("p", { class: "dpo-reading", "data-reading": "" });
  return { node, update: (state) => setText(node, state.text) };
}

function panels({ set, signal, run: { training, heldOut, steps } }) {
  const ends = [steps[0], Math.max(steps.at(-1), steps[0] + 1)];
  const nearest = (step) => steps.reduce((best, each) =>
    (Math.abs(each - step) < Math.abs(best - step) ? each : best));
  const filled = PANELS.map(({ columns, ...panel }) => ({ ...panel, lines: columns
    .map(([column, name], i) => ({
      name, kind: ["first", "second"][i],
      training: series(training, column), heldOut: series(heldOut, column),
      errors: series(heldOut, `${column}_error`),
    })) }));
  const charts = filled.filter(({ lines }) => lines.some(({ training: train, heldOut: held }) =>
    [...train, ...held].some(([, value]) => Number.isFinite(value))))
    .map((panel) => runChart(panel, ends, signal, (step) => set("step", nearest(step))));
  const legend = html("div", { class: "dpo-legend" },
    key("dpo-key-line", "line: training"),
    key("dpo-key-point", "dots: held out, bars ± 2 standard errors"),
    key("dpo-key-cursor", "the step"), html("span", {}, "across: optimiser steps"));
  const node = html("div", {},
    html("div", { class: "dpo-panels" }, ...charts.map((chart) => chart.node)), legend);
  return { node, update: ({ step }) => charts.forEach((chart) => chart.update(step)) };
}

// The numbers of the newest rows, in words.
function numbersTable({ run: { training, heldOut } }) {
  const tables = [["training", training], ["held out", heldOut]];
  const heads = tables.map(() => html("th", { scope: "col" }));
  const names = Object.keys(WORDS).filter((name) => name in training || name in heldOut);
  const cells = names.map((name) =>
    tables.map(([kind]) => html("td", { "data-cell": `${kind} ${name}` })));
  const rows = names.map((name, i) =>
    html("tr", {}, html("th", { scope: "row" }, WORDS[name]), ...cells[i]));
  const node = html("table", { class: "dpo-table" },
    html("thead", {}, html("tr", {},
      html("th", { scope: "col" }, "mean ± standard error"), ...heads)),
    html("tbody", {}, ...rows));
  const update = ({ step }) => tables.forEach(([kind, table], k) => {
    const row = rowAt(table, step);
    setText(heads[k], row ? `${kind}, step ${row.step}` : kind);
    names.forEach((name, i) => setText(cells[i][k], cellText(row, name)));
  });
  return { node, update };
}

function cellText(row, name) {
  const value = row?.[name];
  if (value === undefined) return "–";
  if (name === "rewards/accuracies" && Number.isFinite(value))
    return `${(100 * value).toFixed(1)} %`;
  const error = row[`${name}_error`];
  return formatNumber(value) + (error === undefined ? "" : ` ± ${formatNumber(error)}`);
}

// The answers to one prompt: the first ones recorded, and the newest at the step.
function answersBox({ set, signal, run: { samples } }) {
  if (!samples.length) return { node: html("div"), update: () => {} };
  const entries = samples.map(({ prompt }, i) => [String(i), `${i + 1}. ${shorten(prompt)}`]);
  const list = choice({ label: "prompt", groups: [["", entries]], signal }, (index) =>
    set("prompt", Number(index)));
  const prompt = html("p", { class: "dpo-said", "data-said": "prompt" });
  const heads = ["first", "now"].map(() => html("th", { scope: "col" }));
  const body = html("tbody");
  const node = html("div", { role: "group", "aria-label": "Answers of the policy" },
    html("label", { class: "dpo-choices" }, html("span", {}, "Prompt"), list.node), prompt,
    html("table", { class: "dpo-table dpo-answers" },
      html("thead", {}, html("tr", {}, ...heads)), body));
  let shown = "";
  const update = ({ step, prompt: index }) => {
    const { prompt: text, answers } = samples[index];
    const [first] = answers[0];
    const newest = answers.findLast(([at]) => at <= step)?.[0];
    if (shown === `${index} ${newest}`) return;
    shown = `${index} ${newest}`;
    list.update(String(index));
    setText(prompt, text);
    setText(heads[0], `answer at step ${first}`);
    setText(heads[1], newest === undefined ? "no answer yet" : `answer at step ${newest}`);
    const [left, right] = [first, newest].map((at) => answers.filter((each) => each[0] === at));
    const rows = (left.length > right.length ? left : right).map((_, i) =>
      html("tr", {}, ...[left[i], right[i]].map((each) => html("td", {}, ...said(each)))));
    body.replaceChildren(...rows);
  };
  return { node, update };
}

function said(answer) {
  if (!answer) return [];
  const [, text, ratio, gold] = answer;
  const number = (name, value, unit) =>
    (value === null ? [] : [`${name} ${formatNumber(Number(value))}${unit}`]);
  const facts = [...number("log-ratio", ratio, " nats"), ...number("true reward", gold, "")];
  return [html("p", { class: "dpo-said" }, text.trim() || "(nothing)"),
    html("p", { class: "dpo-facts" }, facts.join(" · "))];
}

function shorten(text) {
  const letters = [...text.replace(/\s+/g, " ").trim()];
  return letters.length <= 60 ? letters.join("") : `${letters.slice(0, 59).join("")}…`;
}

function build(given) {
  const context = { ...given, run: readRun(given.model) };
  const { model, run } = context;
  const parts = [stepRow, reading, panels, numbersTable, answersBox].map((part) => part(context));
  const [steps, text, charts, table, answers] = parts.map((part) => part.node);
  const name = { role: "group", "aria-label": "Curves explorer", class: "dpo-explorer dpo-log" };
  const root = html("div", name,
    html("div", { class: "dpo-stack" }, steps, text, charts,
      html("div", { class: "dpo-charts" }, table, answers)));
  let state;
  const draw = () => {
    // A step set from outside stands for the newest recorded one that is not after it.
    const index = Math.max(0, run.steps.findLastIndex((each) => each <= model.get("step")));
    const step = run.steps[index];
    const prompt = Math.min(model.get("prompt"), run.samples.length - 1);
    state = { index, step, prompt, text: readingText(run.training, run.heldOut, step) };
    for (const part of parts) part.update(state);
  };
  return { root, draw, summary: () => `Step ${state.step}. ${state.text}` };
}

export default { render: (props) => mount(props, TRAITS, build) };
