// The playground: voters, a loss and a policy that follows it, all in the reader's hands.

import { barChart } from "./bars.js";
import { choice, logControl, numberRow, resetButton } from "./controls.js";
import { among, inside, listOf, readLink, writeLink } from "./link.js";
import { rewardChart, wayChart } from "./playground_charts.js";
import { startRun } from "./playground_run.js";
import { key } from "./plot.js";
import { stepsChart } from "./steps_chart.js";
import { OPTIMISERS } from "./tabular.js";
import { numberTiles } from "./tiles.js";
import { button, formatNumber, html, mount, setText, withSub } from "./ui.js";

const LISTS = {
  optimiser: ["optimiser", [["sgd", "gradient descent"], ["adam", "Adam"]]],
  coverage: ["pairs shown", [["all", "every pair alike"], ["reference", "drawn from the reference"],
    ["first", "the first k answers only"], ["blocks", "within A–D or within E–H"]]],
  arrival: ["votes come", [["0", "all at once"], ["1", "one a step"], ["10", "ten a step"]]],
  speed: ["steps a frame", [["1", "1"], ["10", "10"], ["100", "100"]]],
};
const NUMBERS = {
  pairs: ["votes", { min: 10, max: 1000, step: 10 }],
  flip_rate: ["flipped labels", { min: 0, max: 0.5, step: 0.01 }],
  first: ["first k answers", { min: 2, max: 8, step: 1 }],
};
const REWARD = { min: -4, max: 4, step: 0.1 };
const RATES = { sgd: 1, adam: 0.01 };
const SETTINGS = ["loss", "beta", "learning_rate", "seed", "rewards", ...Object.keys(LISTS),
  ...Object.keys(NUMBERS)];
const TRAITS = [...SETTINGS, "ref_probs", "labels"];

// What a link may say about each setting.
function readersFor(model) {
  const positive = inside(1e-6, 1e6);
  const word = (name) => among(LISTS[name][1].map(([value]) => value));
  const count = (name) => (text) => word(name)(text) && Number(text);
  return {
    loss: among(model.get("names").flatMap(([, names]) => names)),
    beta: positive, learning_rate: positive,
    optimiser: word("optimiser"), coverage: word("coverage"),
    arrival: count("arrival"), speed: count("speed"),
    first: inside(2, 8, true), pairs: inside(1, 1000, true), seed: inside(0, 2 ** 32 - 1, true),
    flip_rate: inside(0, 0.5), rewards: listOf(8, inside(REWARD.min, REWARD.max)),
  };
}

function settings({ model, set, signal }) {
  const losses = model.get("names").map(([group, names]) => [group, names.map((name) => [name, name])]);
  const loss = choice({ label: "loss", groups: losses, signal }, (name) => set("loss", name));
  const lists = Object.entries(LISTS).map(([name, [label, entries]]) => {
    const list = choice({ label, groups: [["", entries]], signal }, (value) => {
      set(name, Number.isInteger(model.get(name)) ? Number(value) : value);
      if (name === "optimiser") set("learning_rate", RATES[value]);
    });
    return { label, node: list.node, update: (state) => list.update(String(state[name])) };
  });
  const exact = (name, label, symbol, low, high) => {
    const control = logControl({ name: label, symbol, low, high, signal }, (value) =>
      set(name, value));
    const parts = [html("span", {}, label), control.slider, control.box, control.message];
    const node = html("div", { class: "dpo-field dpo-rate" }, ...parts);
    return { node, update: (state) => control.update(state[name]) };
  };
  const rows = [exact("beta", "beta", "β", 0.01, 10),
    exact("learning_rate", "learning rate", "The learning rate", 1e-3, 10),
    ...Object.entries(NUMBERS).map(([name, [label, range]]) => {
      const { node, update } = numberRow({ label, signal }, (value) => set(name, value));
      return { node, update: (state) => {
        update(state[name], range);
        if (name === "first") node.style.display = state.coverage === name ? "" : "none";
      } };
    })];
  const named = ([label, { node }]) => html("label", { class: "dpo-named" }, `${label} `, node);
  const all = [["loss", { ...loss, update: (state) => loss.update(state.loss) }],
    ...lists.map((list) => [list.label, list])];
  const node = html("div", {}, html("div", { class: "dpo-choices" }, ...all.map(named)),
    html("div", { class: "dpo-fields" }, ...rows.map((row) => row.node)));
  const parts = [...all.map(([, part]) => part), ...rows];
  return { node, update: (state) => parts.forEach((part) => part.update(state)) };
}

function rewardRows({ model, set, signal }) {
  const rows = model.get("rewards").map((_, i) => {
    const label = `reward of ${model.get("labels")[i]}`;
    return numberRow({ label, signal }, (value) =>
      set("rewards", model.get("rewards").map((old, k) => (k === i ? value : old))));
  });
  const node = html("div", {}, html("div", { class: "dpo-caption" }, "True reward"),
    html("div", { class: "dpo-fields" }, ...rows.map((row) => row.node)));
  return { node, update: ({ rewards }) => rows.forEach((row, i) => row.update(rewards[i], REWARD)) };
}

function charts({ model }) {
  const bars = barChart(8, "π now", "π*, the optimum at β");
  const ratios = stepsChart("Mean log-ratio of the votes' answers", ["one", "two"]);
  ratios.legend.append(key("dpo-key-line dpo-one", "chosen"), key("dpo-key-line dpo-two", "rejected"),
    html("span", {}, "log(π / ", withSub("π", "ref"), "), nats"));
  const [rewards, way] = [rewardChart(8), wayChart()];
  const node = html("div", { class: "dpo-charts" }, bars.node, way.node, rewards.node, ratios.node);
  const update = (state) => {
    for (const chart of [bars, way, rewards]) chart.update({ ...state, labels: model.get("labels") });
    const points = [...state.way, state];
    const curve = (name) => points.map((each) => [each.step, each[name]]);
    ratios.update(Math.max(10, state.step), [curve("chosen"), curve("rejected")], [null, null]);
    ratios.describe(`At step ${state.step}: chosen ${formatNumber(state.chosen)}, ` +
      `rejected ${formatNumber(state.rejected)} nats.`);
  };
  return { node, update };
}

// Play, pause, step; where the run is; and the link, in a page that has an address to give away.
function transport(context, hands) {
  const { model, set, signal } = context;
  const play = button("Play", signal, hands.toggle);
  const place = html("span", { class: "dpo-place" });
  const note = html("span", { role: "alert", class: "dpo-message" });
  const shared = html("input", { type: "text", readonly: "", class: "dpo-box dpo-shared",
    "aria-label": "link to this set-up" });
  shared.style.display = "none";
  const copy = async () => {
    const link = hands.link();
    try {
      await navigator.clipboard.writeText(link);
      setText(note, "Copied: the link opens this set-up at step 0.");
    } catch {
      shared.value = link;
      shared.style.display = "";
      shared.select();
      setText(note, "Copy the link from the box.");
    }
  };
  const buttons = [play, button("Step", signal, hands.step),
    button("Back to step 0", signal, hands.restart),
    button("New votes", signal, () => set("seed", (model.get("seed") + 1) % 2 ** 32)),
    resetButton(context), ...(context.ownsAddress ? [button("Copy link", signal, copy)] : [])];
  const node = html("div", { class: "dpo-transport" }, ...buttons, place, shared, note);
  const update = ({ playing, step, seen, pairs, broken }) => {
    setText(play, playing ? "Pause" : "Play");
    setText(place, `step ${step} · ${seen} of ${pairs} votes`);
    if (broken) setText(note, "The next step leaves the finite numbers: lower the learning rate.");
  };
  return { node, update, say: (text) => setText(note, text) };
}

// Keeps the address and the settings together, where the host gives the address away.
function address({ model, set, signal, ownsAddress }, say) {
  const hash = () => writeLink(Object.fromEntries(SETTINGS.map((name) => [name, model.get(name)])));
  const take = () => {
    const found = readLink(location.hash, readersFor(model));
    if (!found) return;
    for (const [name, value] of Object.entries(found.values)) set(name, value);
    const odd = found.ignored.slice(0, 5).join(", ");
    say(odd && `Not understood in the link, and left as it was: ${odd}.`);
  };
  let [timer, written] = [0, ""];
  const keep = () => {
    const now = hash();
    if (!ownsAddress || now === written) return;
    written = now;
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState(history.state, "", now), 300);
  };
  if (ownsAddress) {
    take();
    written = hash();
    addEventListener("hashchange", take, { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
  }
  return { keep, link: () => location.href.split("#")[0] + hash() };
}

function build(context) {
  const { model, redraw } = context;
  const ref = model.get("ref_probs").map(Math.log);
  const tiles = numberTiles([
    ["value", "loss", "mean over the votes"],
    ["reward", "E[r]", "true reward"],
    ["kl", html("span", {}, "KL(π ‖ ", withSub("π", "ref"), ")"), "nats"],
    ["gap", "V* − V(π)", "β KL(π ‖ π*)"],
  ]);
  let [run, playing, shown, state] = [startRun(ref), false, "", null];
  const hands = {
    toggle: () => { playing = !playing; redraw(); },
    step: () => { playing = false; run.advance(1); redraw(); },
    restart: () => { run = startRun(ref); shown = ""; redraw(); },
    link: () => place.link(),
  };
  const moves = transport(context, hands);
  const place = address(context, moves.say);
  const parts = [settings(context), moves, charts(context), tiles, rewardRows(context)];
  const name = { role: "group", "aria-label": "Playground", class: "dpo-explorer dpo-playground" };
  const root = html("div", name, ...parts.map((part) => part.node));
  const draw = () => {
    const values = Object.fromEntries(SETTINGS.map((each) => [each, model.get(each)]));
    const now = JSON.stringify(values);
    if (now !== shown) run.change(values);
    shown = now;
    if (playing) run.advance(values.speed);
    state = run.measure();
    playing &&= !state.broken;
    for (const part of parts) part.update({ ...state, playing });
    place.keep();
    if (playing) redraw();
  };
  const summary = () => `Step ${state.step}: loss ${formatNumber(state.value)}, expected reward ` +
    `${formatNumber(state.reward)}, KL ${formatNumber(state.kl)} nats.`;
  return { root, draw, summary };
}

// `ownsAddress`: the host lets this explorer write to the address of the page.
export default {
  render: (props) => mount(props, TRAITS, (context) =>
    build({ ...context, ownsAddress: props.ownsAddress })),
};
