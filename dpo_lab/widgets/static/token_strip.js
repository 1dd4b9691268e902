// An answer token by token, each coloured by a number: blue above 0, orange below.

import { formatNumber, html, OWN_KEYS, setText } from "./ui.js";

// `update(answer, beta, most)` colours by beta u_t; a size of `most` has the full colour.
export function tokenStrip(signal) {
  const strip = html("div", { class: "dpo-tokens", role: "group", "aria-label": "Tokens" });
  const note = html("p", { class: "dpo-token-note", "data-token-note": "" });
  const ends = [html("span"), html("span")];
  const legend = html("div", { class: "dpo-legend dpo-token-scale" }, ends[0],
    html("span", { class: "dpo-ramp", "aria-hidden": "true" }), ends[1]);
  let [buttons, told, at] = [[], [], 0];
  // One stop of the tab key for all tokens; arrow keys go from one to the next.
  const show = (index) => {
    buttons[at]?.setAttribute("tabindex", -1);
    buttons[index].setAttribute("tabindex", 0);
    at = index;
    setText(note, told[at]);
  };
  for (const kind of ["focusin", "pointerover", "click"])
    strip.addEventListener(kind, ({ target }) => {
      const index = buttons.indexOf(target.closest("button"));
      if (index >= 0) show(index);
    }, { signal });
  strip.addEventListener("keydown", (event) => {
    const last = buttons.length - 1;
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    buttons[Math.min(last, Math.max(0, next))].focus();
  }, { signal });

  let shown = null;
  const update = (answer, beta, most) => {
    const { tokens, logratios } = answer;
    if (shown !== answer) {
      buttons = tokens.map((text) => html("button",
        { type: "button", class: "dpo-token", tabindex: -1, ...OWN_KEYS }, visible(text)));
      strip.replaceChildren(...buttons);
      at = 0;
    }
    shown = answer;
    let sum = 0;
    told = tokens.map((text, i) => {
      const value = beta * logratios[i];
      sum += value;
      const strength = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
      buttons[i].style.setProperty("--dpo-strength", strength.toFixed(3));
      buttons[i].classList.toggle("dpo-down", value < 0);
      buttons[i].setAttribute("aria-label", `${visible(text)}: ${signed(value)}`);
      buttons[i].dataset.value = value;
      return `Token ${i + 1} of ${tokens.length}, “${visible(text)}”: ` +
        `β u = ${signed(value)}, u = ${signed(logratios[i])} nats, sum so far ${signed(sum)}`;
    });
    show(at);
    setText(ends[0], `β u ≤ ${signed(-most)}: less likely`);
    setText(ends[1], `≥ ${signed(most)}: more likely than under the reference`);
  };
  return { node: html("div", {}, strip, note, legend), update };
}

function signed(value) {
  return (value > 0 ? "+" : "") + formatNumber(value);
}

// Line ends and nothing at all would not be seen.
function visible(text) {
  return text.replaceAll("\n", "↵") || "∅";
}
