// The beta explorer: descent at several beta at once, beside the policies where it should end.

import { choice, logControl, numberRow, resetButton } from "./controls.js";
import { kl } from "./maths.js";
import { populationOptima, uniformPairs, winTable } from "./optima.js";
import { key } from "./plot.js";
import { stepsChart } from "./steps_chart.js";
import { descent, expectedPreferences, tabularLoss } from "./tabular.js";
import {
  formatExact, formatNumber, html, mount, numberBox, setText, withSub,
} from "./ui.js";

const SETTINGS = ["loss", "labels", "flip_rate", "optimiser", "learning_rate", "betas"];
const TRAITS = [...SETTINGS, "ref_probs", "rewards"];
const STOPS = [10, 100, 1000, 10000];
const LAST = STOPS.at(-1);
const RECORD = new Set(Array.from({ length: 81 }, (_, k) => Math.round(10 ** (k / 20))));
const AT_A_TIME = 20; // steps of each run between two looks at the clock
const BUDGET = 8; // ms of a frame
const RATES = { sgd: 1, adam: 0.01 };
const KINDS = ["one", "two", "three"];

// One run: what it has reached, and what it should reach.
function startRun(world, beta) {
  const { name, ref, table, rate, optimiser, optima } = world;
  const loss = tabularLoss(name, ref, table, beta);
  const run = descent(ref, rate, optimiser);
  const measure = (policy) => ({ kl: kl(policy, ref), margin: meanMargin(policy, world, beta) });
  const optimum = optima(beta);
  const records = new Map();
  const advance = () => {
    if (run.step(loss) === false) return false;
    if (RECORD.has(run.steps())) records.set(run.steps(), measure(run.policy()));
    return true;
  };
  return { beta, records, advance, goal: optimum && measure(optimum), broken: null, run };
}

// beta times (log-ratio of chosen - of rejected), averaged over the labels.
function meanMargin(policy, { ref, table }, beta) {
  const ratios = policy.map((logp, i) => logp - ref[i]);
  return beta * table.reduce((sum, row, i) =>
    row.reduce((part, weight, j) => part + weight * (ratios[i] - ratios[j]), sum), 0);
}

function startRuns(model) {
  const [name, labels, flips, optimiser, rate, betas, probs, rewards] =
    TRAITS.map((trait) => model.get(trait));
  const ref = probs.map(Math.log);
  const wins = winTable(rewards, labels === "certain");
  const table = expectedPreferences(uniformPairs(ref.length), wins, flips);
  const optima = populationOptima(name, ref, table);
  const world = { name, ref, table, rate, optimiser, optima };
  return { ...world, labels, flips, betas, runs: betas.map((beta) => startRun(world, beta)) };
}

// Goes on with every run for at most BUDGET ms; true when all have ended.
function goOn({ runs }) {
  const until = performance.now() + BUDGET;
  const open = () => runs.filter((each) => each.broken === null && each.run.steps() < LAST);
  while (open().length && performance.now() < until) {
    for (const each of open()) {
      for (let i = 0; i < AT_A_TIME; i += 1) {
        if (!each.advance()) {
          each.broken = each.run.steps();
          break;
        }
      }
    }
  }
  return open().length === 0;
}

function settings(context) {
  const { set, signal } = context;
  const pick = (label, name, entries) =>
    choice({ label, groups: [["", entries]], signal }, (value) => set(name, value));
  const loss = pick("loss", "loss", [["dpo", "DPO"], ["ipo_sum", "IPO, τ = β"]]);
  const labels = pick("labels", "labels",
    [["bradley-terry", "voters differ: σ(rᵢ − rⱼ)"], ["certain", "certain: the better one wins"]]);
  const optimiser = choice({ label: "optimiser", signal,
    groups: [["", [["sgd", "gradient descent"], ["adam", "Adam"]]]] }, (value) => {
    set("optimiser", value);
    set("learning_rate", RATES[value]);
  });
  const flips = numberRow({ label: "flipped labels", signal }, (value) => set("flip_rate", value));
  const rate = logControl({ name: "learning rate", symbol: "The learning rate",
    low: 1e-3, high: 10, signal }, (value) => set("learning_rate", value));
  const named = (text, { node }) => html("span", { class: "dpo-named" }, text, node);
  const node = html("div", {},
    html("div", { class: "dpo-choices" }, named("Loss ", loss), named("labels ", labels),
      named("optimiser ", optimiser), resetButton(context)),
    html("div", { class: "dpo-fields" }, flips.node,
      html("div", { class: "dpo-field dpo-rate" }, html("span", {}, "learning rate"),
        rate.slider, rate.box, rate.message)));
  const update = (state) => {
    loss.update(state.name);
    labels.update(state.labels);
    optimiser.update(state.optimiser);
    flips.update(state.flips, { min: 0, max: 0.5, step: 0.01 });
    rate.update(state.rate);
  };
  return { node, update };
}

// The boxes for beta carry the colours of the curves: they are the legend too.
function betaBoxes({ model, set, signal }) {
  const boxes = KINDS.map((kind, i) => {
    const box = numberBox({ label: `beta ${i + 1}`, signal }, (value) => {
      if (!(value >= 1e-6 && value <= 1e6)) return "β must lie between 1e-6 and 1e6.";
      set("betas", model.get("betas").map((old, k) => (k === i ? value : old)));
    });
    const node = html("div", { class: "dpo-beta-box" }, key(`dpo-key-line dpo-${kind}`, "β ="),
      box.input, box.message);
    return { node, box };
  });
  const node = html("div", { class: "dpo-choices" }, ...boxes.map((each) => each.node),
    key("dpo-key-line dpo-key-goal", "dashed: the lowest loss"));
  const update = ({ betas }) => boxes.forEach(({ box }, i) => {
    const text = formatExact(betas[i]);
    if (box.shown() !== text) box.show(text);
  });
  return { node, update };
}

function charts() {
  const kls = stepsChart("KL from the reference", KINDS, { logX: true, logY: true });
  const margins = stepsChart("Mean margin of the labels", KINDS, { logX: true });
  kls.legend.append(html("span", {}, "KL(π ‖ ", withSub("π", "ref"), "), nats, logarithmic"));
  margins.legend.append(html("span", {},
    "β (u chosen − u rejected), u = log(π / ", withSub("π", "ref"), ")"));
  const node = html("div", { class: "dpo-charts" }, kls.node, margins.node);
  const update = ({ runs }) => {
    for (const [chart, what] of [[kls, "kl"], [margins, "margin"]]) {
      const curve = ({ records }) => [...records].map(([step, each]) => [step, each[what]]);
      chart.update(LAST, runs.map(curve), runs.map(({ goal }) => goal && goal[what]));
      chart.describe(runs.map((each) => ends(each, what)).join(" "));
    }
  };
  return { node, update };
}

function ends({ beta, records, goal }, what) {
  const [step, now] = [...records].at(-1) ?? [0, { [what]: 0 }];
  const end = goal ? `the lowest loss is at ${formatNumber(goal[what])}` : "no end exists";
  return `Beta ${formatExact(beta)}: ${formatNumber(now[what])} at step ${step}, ${end}.`;
}

function numbersTable() {
  const head = html("tr", {}, html("th", { scope: "col" }, "KL at step"),
    ...STOPS.map((stop) => html("th", { scope: "col" }, String(stop))),
    html("th", { scope: "col" }, "end"));
  const rows = KINDS.map(() => {
    const name = html("th", { scope: "row" });
    const cells = [...STOPS, "end"].map((stop) => html("td", { "data-stop": stop }));
    return { name, cells, node: html("tr", {}, name, ...cells) };
  });
  const node = html("table", { class: "dpo-table" }, html("thead", {}, head),
    html("tbody", {}, ...rows.map((row) => row.node)));
  const update = ({ runs }) => rows.forEach(({ name, cells }, i) => {
    const { beta, records, goal, broken } = runs[i];
    setText(name, `β = ${formatExact(beta)}`);
    cells.forEach((cell, k) => {
      const value = k < STOPS.length ? records.get(STOPS[k])?.kl : goal?.kl;
      const none = k === STOPS.length ? "none" : broken === null ? "…" : "×";
      cell.dataset.value = value ?? "";
      setText(cell, value === undefined ? none : formatNumber(value));
    });
  });
  return { node, update };
}

// What a reader should see in the two pictures, in one or two sentences.
function reading() {
  const node = html("p", { class: "dpo-reading", "data-reading": "" });
  return { node, update: (state) => setText(node, readingText(state)) };
}

function readingText({ runs, labels, flips, name }) {
  const broken = runs.filter((each) => each.broken !== null);
  if (broken.length) {
    const { beta, broken: step } = broken[0];
    return `β = ${formatExact(beta)} left the finite numbers at step ${step + 1}: the steps are ` +
      "too large for it. Lower the learning rate.";
  }
  const farthest = (stop) => {
    const reached = runs.filter(({ records }) => records.has(stop));
    const far = reached.reduce((best, each) =>
      (each.records.get(stop).kl > best.records.get(stop).kl ? each : best), reached[0]);
    return far && `step ${stop} it is β = ${formatExact(far.beta)}`;
  };
  const found = [STOPS[0], LAST].map(farthest).filter(Boolean);
  const first = found.length ? `Farthest from the reference: at ${found.join(", at ")}.` : "";
  const second = labels === "certain" && flips === 0 && name === "dpo"
    ? " With certain labels DPO has no lowest loss at any β: the margin keeps growing." : "";
  return first + second;
}

function build(context) {
  const parts = [settings, betaBoxes, charts, numbersTable, reading].map((part) => part(context));
  const name = { role: "group", "aria-label": "Beta explorer", class: "dpo-explorer dpo-betas" };
  const root = html("div", name, ...parts.map((part) => part.node));
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let state;
  let shown;
  const draw = () => {
    const now = JSON.stringify(TRAITS.map((trait) => context.model.get(trait)));
    const fresh = now !== shown;
    if (fresh) state = startRuns(context.model);
    shown = now;
    const done = goOn(state);
    root.toggleAttribute("aria-busy", !done);
    if (fresh || done || !still.matches) for (const part of parts) part.update(state);
    if (!done) context.redraw();
  };
  return { root, draw, summary: () => readingText(state) };
}

export default { render: (props) => mount(props, TRAITS, build) };
