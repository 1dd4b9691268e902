// The implicit reward explorer: one answer token by token, all answers against their true reward.

import { betaRow, choice, numberRow } from "./controls.js";
import { bestConstants, distance, implicitRewards, rankedRight } from "./implicit.js";
import { mark, scatter } from "./scatter.js";
import { numberTiles } from "./tiles.js";
import { tokenStrip } from "./token_strip.js";
import { button, formatNumber, html, mount, roundUp, setText, svg } from "./ui.js";

const TRAITS = ["beta", "constants", "selected"];

function compute({ model, answers, prompts }) {
  const [beta, constants, asked] = TRAITS.map((name) => model.get(name));
  const selected = Math.min(asked, answers.length - 1);
  const implicit = implicitRewards(answers, beta);
  const best = bestConstants(answers, implicit, prompts.length);
  const { share, pairs } = rankedRight(answers, implicit);
  return {
    beta, constants, selected, implicit, best, pairs, accuracy: share,
    answer: answers[selected],
    ys: implicit.map((reward, i) => reward + constants[answers[i].prompt]),
    distance: distance(answers, implicit, constants),
    lowest: distance(answers, implicit, best),
  };
}

function head(context) {
  const { answers, prompts, set, signal } = context;
  const groups = prompts.map((prompt, group) => [shorten(prompt) || "(empty)", answers
    .map((answer, i) => [String(i), `${i + 1}. ${shorten(answer.tokens.join(""))}`])
    .filter((_, i) => answers[i].prompt === group)]);
  const list = choice({ label: "answer", groups, signal }, (index) =>
    set("selected", Number(index)));
  const prompt = html("p", { class: "dpo-said", "data-said": "prompt" });
  const beta = betaRow(context, { low: 0.01, high: 10 });
  const node = html("div", {}, beta.node,
    html("label", { class: "dpo-choices" }, html("span", {}, "Answer"), list.node), prompt);
  const update = (state) => {
    beta.update(state);
    list.update(String(state.selected));
    setText(prompt, `to “${prompts[state.answer.prompt]}”`);
  };
  return { node, update };
}

// The colours' end is the size that one token of twenty exceeds, over all answers.
function tokens({ answers, signal }) {
  const strip = tokenStrip(signal);
  const sizes = answers.flatMap(({ logratios }) => logratios.map(Math.abs)).sort((a, b) => a - b);
  const most = sizes[Math.ceil(0.95 * sizes.length) - 1];
  const sum = html("p", { class: "dpo-sum", "data-sum": "" });
  const update = ({ answer, beta, selected, implicit, constants, ys }) => {
    strip.update(answer, beta, beta * most);
    const [whole, c] = [implicit[selected], constants[answer.prompt]].map(formatNumber);
    setText(sum, `β Σ u = ${whole}, with c(x) = ${c}: ${formatNumber(ys[selected])}. ` +
      `True reward: ${formatNumber(answer.gold)}.`);
  };
  return { node: html("div", {}, strip.node, sum), update };
}

function plane({ answers, prompts, set, signal }) {
  const points = answers.map(({ prompt, gold, tokens: texts }, i) =>
    ({ group: prompt, x: gold, name: `Answer ${i + 1}, ${shorten(texts.join(""))}` }));
  const chart = scatter("Implicit against true reward", ["true reward", "β Σ u + c(x)"], points,
    signal, (index) => set("selected", index));
  chart.legend.append(...prompts.map((prompt, group) => html("span", {},
    svg("svg", { viewBox: "-7 -7 14 14", class: "dpo-mark", "aria-hidden": "true" },
      svg("path", mark(group))), shorten(prompt))),
  html("span", {}, html("span", { class: "dpo-key dpo-key-goal" }), "slope one"));
  return { node: chart.node, update: ({ ys, selected }) => chart.update(ys, selected) };
}

function constantsBox({ answers, prompts, model, set, signal }) {
  const row = numberRow({ label: "c(x) of this prompt", signal }, (value) => {
    const prompt = answers[Math.min(model.get("selected"), answers.length - 1)].prompt;
    set("constants", model.get("constants").map((old, i) => (i === prompt ? value : old)));
  });
  const best = button("Best constants", signal, () => {
    const implicit = implicitRewards(answers, model.get("beta"));
    set("constants", bestConstants(answers, implicit, prompts.length));
  });
  const node = html("div", { class: "dpo-constants" }, row.node, best);
  const update = ({ constants, best: goals, answer }) => {
    const end = roundUp(1.5 * Math.max(...[...constants, ...goals].map(Math.abs), 1));
    row.update(constants[answer.prompt], { min: -end, max: end, step: end / 200 });
  };
  return { node, update };
}

function tiles() {
  return numberTiles([
    ["accuracy", "pairs ranked right", "within prompts; the same at every β and c(x)"],
    ["distance", "distance", "from the line, root mean square"],
    ["lowest", "lowest distance", "with the best constants at this β"],
  ]);
}

function reading() {
  const node = html("p", { class: "dpo-reading", "data-reading": "" });
  return { node, update: (state) => setText(node, readingText(state)) };
}

function readingText({ accuracy, pairs, distance: now, lowest }) {
  const ranks = pairs
    ? `c(x) moves all answers of a prompt together, so ${percent(accuracy)} of ${pairs} pairs ` +
      "within prompts are ranked right whatever β and c(x) are."
    : "No prompt has two answers of different true reward, so no pair tests the ranking.";
  const near = now - lowest <= 1e-9 * (1 + now)
    ? `No constants bring the points nearer to the line than ${formatNumber(lowest)}: ` +
      "the rest is up to β and the policy."
    : `The points lie ${formatNumber(now)} from the line; the best constants would leave ` +
      `${formatNumber(lowest)}.`;
  return `${ranks} ${near}`;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

function shorten(text) {
  const letters = [...text.replace(/\s+/g, " ").trim()];
  return letters.length <= 50 ? letters.join("") : `${letters.slice(0, 49).join("")}…`;
}

function build(given) {
  const { model } = given;
  const context = { ...given, answers: model.get("responses"), prompts: model.get("prompts") };
  const parts = [head, tokens, plane, constantsBox, tiles, reading].map((part) => part(context));
  const [top, strip, chart, ...side] = parts.map((part) => part.node);
  const name = { role: "group", "aria-label": "Implicit reward explorer",
    class: "dpo-explorer dpo-implicit" };
  const root = html("div", name, top, strip,
    html("div", { class: "dpo-charts" }, chart, html("div", {}, ...side)));
  let state;
  const draw = () => {
    state = compute(context);
    for (const part of parts) part.update(state);
  };
  return { root, draw, summary: () => readingText(state) };
}

export default { render: (props) => mount(props, TRAITS, build) };
