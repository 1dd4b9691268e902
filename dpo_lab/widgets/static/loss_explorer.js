// The loss explorer: any loss of one pair, its two forces, and where labels that disagree lead.

import { betaRow, choice, numberRow } from "./controls.js";
import { lineChart } from "./line_chart.js";
import { fieldsOf, valuesAtRest } from "./loss_fields.js";
import { BATCH_LOSSES, evaluate, LOSSES } from "./losses.js";
import { atDifference, lowestDifference, meanLoss, swap } from "./pair.js";
import { key } from "./plot.js";
import { AVERAGED, reachOf } from "./reach.js";
import { formatExact, formatNumber, html, mount, setText } from "./ui.js";

const TRAITS = ["loss", "versus", "beta", "settings", "point", "win_probability"];
const PAIR = { refChosen: -20, refRejected: -20, chosenLength: 10, rejectedLength: 10 };
const CELLS = 160;
// Log-probabilities count besides log-ratios: then they must not rise above 0.
function readsPolicy(name, pair, beta, options) {
  const lower = { ...pair, refChosen: pair.refChosen - 1 };
  return evaluate(name, pair, beta, options).loss !== evaluate(name, lower, beta, options).loss;
}

function compute(model) {
  const [name, versus, given, settings, [a, b], p] = TRAITS.map((trait) => model.get(trait));
  const beta = given ?? LOSSES[name].beta;
  const options = { ...LOSSES[name].defaults, ...settings };
  const inputs = { ...valuesAtRest(versus), ...valuesAtRest(name) };
  const pair = { ...PAIR, ...inputs, ...settings, a, b };
  const bare = readsPolicy(name, pair, beta, options);
  if (bare) {
    pair.a = Math.min(a, -pair.refChosen);
    pair.b = Math.min(b, -pair.refRejected);
  }
  const far = (times) => Math.max(1, Math.min(times * reachOf(name, beta, pair),
    bare ? Math.min(room(pair), room(swap(pair))) : Infinity));
  const mean = { name, beta, options, p };
  const reach = far(1);
  return {
    ...mean, versus, pair, bare, reach, mean, difference: pair.a - pair.b,
    optimum: lowestDifference(mean, pair, -far(4), far(4)),
  };
}

// How far u_1 - u_2 may grow around its mean until the first answer has probability 1.
function room({ a, b, refChosen }) {
  return -2 * refChosen - (a + b);
}

// Mean loss, loss under one label, its two forces, and the same of the other loss.
function curves({ name, versus, beta, options, pair, mean, reach }) {
  const grid = Array.from({ length: CELLS + 1 }, (_, i) => reach * ((2 * i) / CELLS - 1));
  const pairs = grid.map((difference) => atDifference(pair, difference));
  const one = pairs.map((each) => evaluate(name, each, beta, options));
  const other = versus ? pairs.map((each) => evaluate(versus, each, beta)) : [];
  const along = (list, pick) => list.map((each, i) => [grid[i], pick(each)]);
  return {
    losses: {
      versus: along(other, (each) => each.loss),
      one: along(one, (each) => each.loss),
      mean: along(pairs, (each) => meanLoss(mean, each).loss),
    },
    forces: {
      "versus-up": along(other, (each) => -each.da),
      "versus-down": along(other, (each) => each.db),
      up: along(one, (each) => -each.da),
      down: along(one, (each) => each.db),
    },
  };
}

// Draws the curves of the other loss in the range of the first ones; its factor is returned.
function fit(drawn, own, others) {
  const reach = (names) =>
    Math.max(...names.flatMap((name) => drawn[name].map(([, value]) => Math.abs(value))));
  const ratio = reach(own) / reach(others);
  if (!(ratio < 0.25 || ratio > 4)) return 1;
  const factor = Number(ratio.toPrecision(1));
  for (const name of others) drawn[name] = drawn[name].map(([x, y]) => [x, factor * y]);
  return factor;
}

function charts({ set, model, signal }) {
  const pick = (difference) => {
    const { a, b } = atDifference(compute(model).pair, difference);
    set("point", [a, b]);
  };
  const losses = lineChart("Loss", ["versus", "one", "mean"], signal, pick);
  const forces = lineChart(
    "Force on each log-ratio", ["versus-up", "versus-down", "up", "down"], signal, pick,
  );
  losses.legend.append(
    key("dpo-key-mean", "mean over labels"), key("dpo-key-one", "y₁ labelled chosen"),
    key("dpo-key-value", "lowest"));
  forces.legend.append(
    key("dpo-key-up", "on chosen, up"), key("dpo-key-down", "on rejected, down"));
  const keys = [losses, forces].map((chart) => {
    const node = key("dpo-key-versus", "");
    chart.legend.append(node);
    return node;
  });
  const update = (state) => {
    const { difference: x, pair, mean, optimum, reach } = state;
    const drawn = curves(state);
    const factors = [
      fit(drawn.losses, ["one", "mean"], ["versus"]),
      fit(drawn.forces, ["up", "down"], ["versus-up", "versus-down"]),
    ];
    const at = (difference) => meanLoss(mean, atDifference(pair, difference)).loss;
    const { da, db } = meanLoss({ ...mean, p: 1 }, pair);
    const low = optimum === null ? null : [optimum, at(optimum)];
    losses.update(reach, drawn.losses, [[x, at(x)]], low);
    forces.update(reach, drawn.forces, [[x, -da], [x, db]], null);
    keys.forEach((node, i) => {
      const text = factors[i] === 1 ? state.versus : `${state.versus} × ${factors[i]}`;
      setText(node.lastChild, text);
      node.hidden = !state.versus;
    });
    losses.describe(lowestText(state));
    forces.describe(forceText(state));
  };
  return { node: html("div", { class: "dpo-charts" }, losses.node, forces.node), update };
}

function lowestText({ optimum, p, pair, name, beta }) {
  const line = `p = ${formatExact(p)}, mean log-ratio ${formatNumber((pair.a + pair.b) / 2)}`;
  if (optimum === null) return `No lowest point (${line}): the mean loss is lowest at an end.`;
  const margin = AVERAGED.includes(name) ? "" : `, times β ${formatNumber(beta * optimum)}`;
  return `Lowest mean loss (${line}): u₁ − u₂ = ${formatNumber(optimum)} nats${margin}.`;
}

function forceText({ mean, pair, name, beta }) {
  const { loss, da, db } = meanLoss({ ...mean, p: 1 }, pair);
  return `${name}, beta ${formatExact(beta)}, at u₁ − u₂ = ${formatNumber(pair.a - pair.b)}: loss ` +
    `${formatNumber(loss)}, force ${formatNumber(-da)} up on chosen, ${formatNumber(db)} down on ` +
    `rejected.`;
}

// Loss and derivatives at the point, for both labels and their mean.
function table() {
  const rows = ["y₁ chosen", "y₂ chosen", "mean"].map((title, i) => {
    const cells = ["loss", "da", "db"].map((column) =>
      html("td", { "data-number": `${["one", "two", "mean"][i]}-${column}` }));
    return { cells, node: html("tr", {}, html("th", { scope: "row" }, title), ...cells) };
  });
  const heads = ["at the point", "loss", "∂ℓ/∂u₁", "∂ℓ/∂u₂"];
  const head = html("tr", {}, ...heads.map((text) => html("th", { scope: "col" }, text)));
  const node = html("table", { class: "dpo-table" },
    html("thead", {}, head), html("tbody", {}, ...rows.map((row) => row.node)));
  const update = ({ mean, pair }) => {
    [1, 0, mean.p].forEach((p, i) => {
      Object.values(meanLoss({ ...mean, p }, pair)).forEach((value, k) => {
        rows[i].cells[k].dataset.value = value;
        setText(rows[i].cells[k], formatNumber(value));
      });
    });
  };
  return { node, update };
}

// What the loss is, in the words of the library's table.
function card({ model }) {
  const about = model.get("catalogue");
  const [formula, link, needs] = ["code", "a", "p"].map((tag) => html(tag));
  const text = html("span");
  const lowest = html("p", { class: "dpo-lowest" });
  const node = html("div", { class: "dpo-card" },
    html("p", {}, formula), html("p", {}, text, " (", link, ")."), needs, lowest);
  const update = (state) => {
    const entry = about[state.name];
    setText(formula, entry.formula);
    setText(text, entry.summary);
    setText(link, entry.source);
    link.href = entry.address;
    setText(needs, `Needs ${entry.needs}. Population optimum: ${entry.optimum}.`);
    setText(lowest, lowestText(state));
    lowest.dataset.value = state.optimum;
  };
  return { node, update };
}

function settings({ model, set, signal }) {
  const node = html("div", { class: "dpo-fields" });
  const change = (name, value) => {
    const [a, b] = model.get("point");
    if (name === "p") set("win_probability", value);
    else if (name === "a") set("point", [value, b]);
    else if (name === "b") set("point", [a, value]);
    else set("settings", { ...model.get("settings"), [name]: value });
  };
  let [rows, names] = [[], ""];
  const update = (state) => {
    const fields = fieldsOf(state);
    const now = fields.map(([name]) => name).join();
    if (now !== names) {
      rows = fields.map(([name, label]) =>
        numberRow({ label, signal }, (value) => change(name, value)));
      node.replaceChildren(...rows.map((row) => row.node));
      names = now;
    }
    fields.forEach(([, , range, value], i) => rows[i].update(value, range));
  };
  return { node, update };
}

function head(context) {
  const { model, set, signal } = context;
  const groups = {};
  for (const [name, { group }] of Object.entries(model.get("catalogue")))
    (groups[group] ??= []).push([name, name]);
  const entries = Object.entries(groups);
  const loss = choice({ label: "loss", groups: entries, signal }, (name) => {
    const kept = Object.entries(model.get("settings")).filter(([each]) => each in PAIR);
    set("loss", name);
    set("beta", null);
    set("settings", Object.fromEntries(kept));
  });
  const none = ["", [["", "no other loss"]]];
  const versus = choice({ label: "compare with", groups: [none, ...entries], signal }, (name) =>
    set("versus", name));
  const beta = betaRow(context, { low: 1e-3, high: 10 });
  const node = html("div", {},
    html("div", { class: "dpo-choices" },
      html("span", {}, "Loss ", loss.node), html("span", {}, "beside ", versus.node)),
    beta.node);
  const update = (state) => {
    loss.update(state.name);
    versus.update(state.versus);
    beta.update(state);
  };
  return { node, update };
}

function build(context) {
  const parts = [head, card, charts, table, settings].map((part) => part(context));
  const name = { role: "group", "aria-label": "Loss explorer", class: "dpo-explorer dpo-losses" };
  const note = html("p", { class: "dpo-card" }, `Not here: ${BATCH_LOSSES.join(", ")}. They mix ` +
    "the pairs of a batch. For one pair AOT is cdpo with its own label smoothing, 0 at first.");
  const root = html("div", name, ...parts.map((part) => part.node), note);
  let state;
  const draw = () => {
    state = compute(context.model);
    for (const part of parts) part.update(state);
  };
  return { root, draw, summary: () => `${forceText(state)} ${lowestText(state)}` };
}

export default { render: (context) => mount(context, TRAITS, build) };
