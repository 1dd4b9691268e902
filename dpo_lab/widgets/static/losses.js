// The loss family of dpo_lab/losses for one pair, under the names of its table.
// A pair is { a, b, refChosen, refRejected, chosenLength, rejectedLength, ...inputs }: a and b are
// log pi - log pi_ref of the chosen and the rejected answer, summed, in nats. What a loss does not
// need may be left out.
import { MARGIN } from "./losses_margin.js";
import { POINTWISE } from "./losses_pointwise.js";

const POSITIVE = "[0, inf)";
const KLS = {
  chosen_kl: setting(0, "[-1e-4, inf)"),
  rejected_kl: setting(0, "[-1e-4, inf)"),
};
const WEIGHTS = {
  desirable_weight: setting(1, POSITIVE),
  undesirable_weight: setting(1, POSITIVE),
};

// Each beta and option has Python's default, each input the value that changes nothing; a test
// holds this table and Python's together. Token tables are not inputs here: `ld_dpo` spreads a
// log-ratio evenly over its tokens.
export const LOSSES = {
  dpo: entry(0.1),
  cdpo: entry(0.1, { label_smoothing: setting(0.1, "[0, 0.5)") }),
  robust: entry(0.1, { label_smoothing: setting(0.1, "[0, 0.5)") }),
  hinge: entry(0.05),
  exo_pair: entry(0.1, { label_smoothing: setting(1e-3, "(0, 0.5)") }),
  discopop: entry(0.05, { discopop_tau: setting(0.05, "(0, 1]") }),
  rdpo: entry(0.1, { rdpo_alpha: setting(0.01, POSITIVE) }, "reference lengths"),
  odpo: entry(0.1, { odpo_alpha: setting(1, POSITIVE) }, "reference", {
    score_difference: setting(1, "(0, inf)"),
  }),
  dpop: entry(0.3, { dpop_lambda: setting(50, POSITIVE) }),
  fdpo_forward_kl: entry(0.1),
  fdpo_js: entry(0.1),
  fdpo_alpha: entry(0.1, { f_alpha: setting(0.5, "(0, 1)") }),
  tdpo1: entry(0.1, {}, "reference", KLS),
  tdpo2: entry(0.1, { tdpo_alpha: setting(0.5, POSITIVE) }, "reference", KLS),
  wpo: entry(0.01, {}, "reference", {
    chosen_weights: setting(1, POSITIVE),
    rejected_weights: setting(1, POSITIVE),
  }),
  nca_pair: entry(0.01),
  bco_pair: entry(0.01, { shift: setting(0, "(-inf, inf)") }),
  sppo_hard: entry(1e-3),
  apo_zero: entry(0.1),
  apo_down: entry(0.1),
  kto: entry(0.1, WEIGHTS, "reference", { mismatched_logratios: setting(0, "(-inf, inf)") }),
  kto_simplified: entry(0.1, WEIGHTS),
  ipo_sum: entry(0.1),
  ipo_avg: entry(0.1, {}, "reference lengths"),
  sigmoid_norm: entry(5, {}, "reference lengths"),
  simpo: entry(2, { gamma_beta_ratio: setting(0.5, POSITIVE) }, "lengths"),
  alphapo: entry(
    2.5,
    { alphapo_alpha: setting(0.25, "(-inf, inf)"), gamma_beta_ratio: setting(0.1, POSITIVE) },
    "lengths",
  ),
  rainbowpo: entry(
    10,
    { rainbow_alpha: setting(0.25, "[0, 1]"), rainbow_gamma: setting(0.1, POSITIVE) },
    "reference lengths",
    { phi: setting(1, POSITIVE, false) },
  ),
  ld_dpo: entry(0.1, { ld_alpha: setting(0.5, "[0, 1]") }, "reference lengths"),
  orpo: entry(0.1, {}, "lengths"),
  cpo: entry(0.1, { cpo_alpha: setting(1, POSITIVE) }, ""),
  slic: entry(1, { slic_lambda: setting(0.1, POSITIVE) }, ""),
  sft: entry(1, {}, "lengths"),
  rpo: entry(0.1, { rpo_alpha: setting(1, POSITIVE) }, "reference lengths"),
};

// These mix the pairs of a batch. For a batch of one pair both kinds of AOT are `cdpo` with their
// own label_smoothing, so `dpo` without it.
export const BATCH_LOSSES = ["aot", "aot_unpaired", "beta_dpo"];

const FORMULAS = { ...MARGIN, ...POINTWISE };

// The loss and its derivatives by the policy's log-probability of chosen and rejected.
export function evaluate(name, pair, beta = LOSSES[name].beta, options = {}) {
  const [loss, da, db] = FORMULAS[name](pair, beta, { ...LOSSES[name].defaults, ...options });
  return { loss, da, db };
}

function entry(beta, options = {}, needs = "reference", inputs = {}) {
  return {
    beta,
    options,
    inputs,
    reference: needs.includes("reference"),
    lengths: needs.includes("lengths"),
    defaults: Object.fromEntries(Object.entries(options).map(([key, each]) => [key, each.value])),
  };
}

function setting(value, interval, required = true) {
  const [low, high] = interval
    .slice(1, -1)
    .split(", ")
    .map((end) => Number(end.replace("inf", "Infinity")));
  return { value, low, high, interval, required };
}
