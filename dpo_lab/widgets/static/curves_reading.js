// What the numbers of a run say at one step, in a few short sentences.

import { formatNumber } from "./ui.js";

// The newest row of a table of columns not after `step`: { step, name: number }, or null.
export function rowAt(table, step) {
  const index = table.step.findLastIndex((each) => each <= step);
  if (index < 0) return null;
  const numbers = Object.entries(table).filter(([, column]) => column[index] !== null)
    .map(([name, column]) => [name, Number(column[index])]);
  return Object.fromEntries(numbers);
}

// A column as [step, number]; a number may be one that is not finite.
export function series(table, name) {
  return (table[name] ?? []).map((each, i) => [table.step[i], each])
    .filter(([, each]) => each !== null).map(([step, each]) => [step, Number(each)]);
}

export function readingText(training, heldOut, step) {
  const [train, held] = [training, heldOut].map((table) => rowAt(table, step));
  if (!train && !held) return "Nothing is logged yet at this step.";
  return [notFinite(train, held), force(training, train), ratios(training, heldOut, train, held),
    reward(heldOut, held)].filter(Boolean).join(" ");
}

function notFinite(...rows) {
  const bad = rows.flatMap((row) => Object.keys(row ?? {}).filter((name) =>
    !Number.isFinite(row[name])).map((name) => `${name} at step ${row.step}`));
  return bad.length ? `Not finite: ${bad.join(", ")}.` : "";
}

// How much of the first logged push is left, by the run's own record of it.
function force(training, train) {
  const margin = train?.["rewards/margins"];
  const [first] = series(training, "grad_weight").filter(([, each]) => Number.isFinite(each));
  const share = train?.grad_weight / first?.[1];
  const known = Number.isFinite(share) && first[1] > 0 && first[0] < train.step;
  const start = Number.isFinite(margin) ? `Margin ${formatNumber(margin)}` : "";
  if (!known) return start && `${start}.`;
  const left = share < 0 ? "the mean force now pushes the chosen answers down"
    : `the mean force left is ${Math.round(100 * share)} % of that at step ${first[0]}`;
  return start ? `${start}: ${left}.` : `${left[0].toUpperCase()}${left.slice(1)}.`;
}

const NEAR = 0.005; // nats; less is rounding in what a page shows

function ratios(training, heldOut, train, held) {
  const sided = (row, kind) => ["chosen", "rejected"].map((side) => row?.[`${kind}/${side}`]);
  for (const [table, row, where] of [[heldOut, held, "Held out"], [training, train, "In training"]])
    for (const kind of ["logratios", "logps"]) {
      const now = sided(row, kind);
      const start = kind === "logps" ? sided(rowAt(table, table.step[0]), kind) : [0, 0];
      const [up, down] = now.map((each, i) => each - start[i]);
      const than = kind === "logps" ? `at step ${table.step[0]}` : "under the reference";
      if (Number.isFinite(up) && Number.isFinite(down))
        return `${where}, ${moves(up, down, than)}.`;
    }
  return "";
}

function moves(chosen, rejected, than) {
  if (Math.max(Math.abs(chosen), Math.abs(rejected)) < NEAR)
    return `chosen and rejected answers are as likely as ${than}`;
  const farther = Math.abs(chosen) > Math.abs(rejected) ? "chosen" : "rejected";
  const both = (word, went) =>
    `chosen and rejected answers are both ${word} likely than ${than}, ` +
    `and the ${farther} ones ${went} further`;
  const [up, down] = chosen >= rejected ? ["chosen", "rejected"] : ["rejected", "chosen"];
  const words = chosen < 0 && rejected < 0 ? both("less", "fell")
    : chosen > 0 && rejected > 0 ? both("more", "rose")
      : `${up} answers are more likely than ${than} and ${down} ones less`;
  return `${words} (${formatNumber(chosen)} and ${formatNumber(rejected)} nats)`;
}

// True reward against the first evaluation, and against the best one where it is clearly lower.
function reward(heldOut, held) {
  const name = "gold/reward";
  const before = heldOut.step.filter((step) => step <= held?.step)
    .map((step) => rowAt(heldOut, step)).filter((row) => Number.isFinite(row[name]));
  if (before.length < 2 || !Number.isFinite(held[name])) return "";
  const clear = (low, high) => high[name] - low[name] >
    2 * Math.hypot(low[`${name}_error`] ?? 0, high[`${name}_error`] ?? 0);
  const [first] = before;
  const best = before.reduce((top, row) => (row[name] > top[name] ? row : top));
  const verb = clear(first, held) ? "rose" : clear(held, first) ? "fell" : "";
  const change = formatNumber(held[name] - first[name]);
  const kl = held["kl/policy"];
  const at = Number.isFinite(kl) ? ` at a KL of ${formatNumber(kl)} nats` : "";
  const moved = verb ? `${verb} by ${change.replace("−", "")} since step ${first.step}${at}`
    : `changed by ${change}${at}: within two standard errors of step ${first.step}`;
  const fallen = best !== first && clear(held, best)
    ? `, and is clearly lower than at step ${best.step}` : "";
  return `True reward ${moved}${fallen}.`;
}
