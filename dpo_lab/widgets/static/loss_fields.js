// Which numbers a reader may set for a loss, and how far.

import { LOSSES } from "./losses.js";
import { roundUp } from "./ui.js";

const FACTS = {
  refChosen: "log π_ref(y₁)", refRejected: "log π_ref(y₂)",
  chosenLength: "tokens of y₁", rejectedLength: "tokens of y₂",
};

// The inputs of a loss at the values that change nothing; none for no loss.
export function valuesAtRest(name) {
  const inputs = Object.entries(LOSSES[name]?.inputs ?? {});
  return Object.fromEntries(inputs.map(([each, { value }]) => [each, value]));
}

// [name, label, range, value] of each: label order, point, and what this loss reads besides.
export function fieldsOf({ name, bare, reach, pair, options, p }) {
  const { options: own, inputs, lengths } = LOSSES[name];
  const near = { min: -reach / 2, max: reach / 2, step: reach / 100 };
  const fields = [
    ["p", "P(y₁ wins) = p", { min: 0, max: 1, step: 0.01 }, p],
    ["a", "log-ratio u₁", near, pair.a],
    ["b", "log-ratio u₂", near, pair.b],
  ];
  for (const [each, what] of Object.entries({ ...own, ...inputs }))
    fields.push([each, each, rangeOf(what), options[each] ?? pair[each]]);
  for (const [each, label] of Object.entries(FACTS)) {
    const range = each in { refChosen: 1, refRejected: 1 } ? [-100, 0] : [1, 60];
    if (range[0] === 1 ? lengths : bare)
      fields.push([each, label, { min: range[0], max: range[1], step: 1 }, pair[each]]);
  }
  return fields;
}

// A hundred steps; an end that is not allowed is left out.
function rangeOf({ value, low, high, interval }) {
  const span = roundUp(3 * Math.abs(value) || 3);
  const [min, max] = [low === -Infinity ? -span : Math.round(low), Math.min(high, span)];
  const step = (max - min) / 100;
  const open = { min: interval[0] === "(" ? step : 0, max: interval.endsWith("]") ? 0 : step };
  return { min: min + open.min, max: max - open.max, step };
}
