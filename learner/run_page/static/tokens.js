/** A completion token by token, shaded by one figure; the figures of the token under the pointer. */

import { el, fill } from "./dom.js";
import { figure, isNumber, percent, signed } from "./format.js";
import { visible } from "./visible.js";

const FULL_NATS = 5;
const FULL_RATIO = Math.log(2);

/** By name: its label, the token's shade in [-1, 1] or null, and what stands in the legend. */
const MODES = {
  plain: { label: "Plain", shade: () => null, legend: [] },
  logprob: {
    label: "Logprob",
    shade: (token) =>
      isNumber(token.behaviour_logprob) ? Math.min(1, -token.behaviour_logprob / FULL_NATS) : null,
    legend: [
      [0, "certain"],
      [0.25, "1.25 nats"],
      [0.5, "2.5"],
      [0.75, "3.75"],
      [1, "5 nats: surprised"],
    ],
  },
  ratio: {
    label: "Importance ratio",
    shade: (token) =>
      token.importance_ratio > 0 ? clamp(Math.log(token.importance_ratio) / FULL_RATIO) : null,
    legend: [
      [-1, "½: now rarer"],
      [-0.5, "0.71"],
      [0, "1"],
      [0.5, "1.41"],
      [1, "2: now likelier"],
    ],
  },
  advantage: {
    label: "Advantage",
    shade: (token) => (isNumber(token.advantage) ? clamp(token.advantage / 2) : null),
    legend: [
      [-1, "−2"],
      [-0.5, "−1"],
      [0, "0"],
      [0.5, "+1"],
      [1, "+2"],
    ],
  },
};

export class Tokens {
  constructor() {
    this.mode = "logprob";
    this.text = el("div", {
      class: "tokens",
      tabindex: "0",
      role: "group",
      "aria-label": "Completion; left and right arrows walk its tokens",
    });
    this.legend = el("div", { class: "token-legend" });
    this.facts = el("div", { class: "token-facts", "aria-live": "polite" });
    this.modes = el("div", { class: "segments", role: "group", "aria-label": "Shade tokens by" });
    for (const [name, { label }] of Object.entries(MODES)) {
      this.modes.append(
        el(
          "button",
          { type: "button", "data-mode": name, onclick: () => this.#shade(name) },
          label,
        ),
      );
    }
    this.element = el(
      "div",
      {},
      el("div", { class: "section-head" }, el("h4", {}, "Completion"), this.modes),
      this.legend,
      this.text,
      this.facts,
    );
    this.text.addEventListener("pointerover", (event) => this.#point(event.target.dataset?.index));
    this.text.addEventListener("keydown", (event) => this.#walk(event));
  }

  show(tokens, completion) {
    this.tokens = tokens;
    const hasText = tokens.some((token) => token.text !== null);
    this.text.classList.toggle("ids", !hasText);
    const spans = tokens.map((token, index) =>
      el(
        "span",
        { class: "token", "data-index": String(index) },
        hasText ? shownText(token.text ?? "") : String(token.id),
      ),
    );
    this.spans = spans;
    const plain = hasText ? null : el("p", { class: "plain-text" }, completion);
    const note = hasText
      ? null
      : el(
          "p",
          { class: "note" },
          "The run's tokenizer is not on this machine: below are token ids.",
        );
    fill(
      this.text,
      plain,
      note,
      tokens.length ? spans : el("span", { class: "faint" }, "empty: no token was sampled"),
    );
    this.at = null;
    this.#shade(this.mode);
    this.#point(undefined);
  }

  #shade(name) {
    this.mode = name;
    const { shade, legend } = MODES[name];
    for (const button of this.modes.children)
      button.setAttribute("aria-pressed", String(button.dataset.mode === name));
    this.spans.forEach((span, index) => paint(span, shade(this.tokens[index])));
    fill(
      this.legend,
      legend.map(([value, label]) => paint(el("span", { class: "token-swatch" }, label), value)),
    );
    const isMissing =
      name !== "plain" && this.tokens.length && this.tokens.every((token) => shade(token) === null);
    if (isMissing)
      fill(
        this.legend,
        el(
          "span",
          {},
          "Not recorded: this rollout was left out of training, or its step was skipped.",
        ),
      );
  }

  #point(index) {
    if (index !== undefined) {
      this.spans[this.at]?.classList.remove("at");
      this.at = Number(index);
      this.spans[this.at].classList.add("at");
    }
    const token = this.tokens[this.at];
    fill(
      this.facts,
      token
        ? factsOf(token, this.at)
        : el("span", { class: "faint" }, "Point at a token for its figures."),
    );
  }

  #walk(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !this.tokens.length) return;
    event.preventDefault();
    this.#point(
      Math.max(0, Math.min(this.tokens.length - 1, (this.at ?? -by - (by < 0 ? 1 : 0)) + by)),
    );
  }
}

/** Colour by class and strength: orange above, blue below. */
function paint(span, value) {
  span.classList.toggle("high", value !== null && value > 0);
  span.classList.toggle("low", value !== null && value < 0);
  span.style.setProperty("--strength", `${Math.round(Math.abs(value ?? 0) * 60)}%`);
  return span;
}

function factsOf(token, index) {
  const facts = [
    ["token", String(index)],
    ["id", String(token.id)],
    [
      "when sampled",
      isNumber(token.behaviour_logprob)
        ? `${figure(token.behaviour_logprob)} nats, ${percent(Math.exp(token.behaviour_logprob))}`
        : "–",
    ],
    ["learner", isNumber(token.logprob) ? `${figure(token.logprob)} nats` : "–"],
    ["ratio", figure(token.importance_ratio)],
    ["advantage", signed(token.advantage)],
    ["version", figure(token.policy_version)],
  ];
  return facts.map(([name, text]) =>
    el("span", { class: "token-fact" }, el("span", { class: "figure-name" }, name), text),
  );
}

/** Whitespace alone would be an invisible token. */
function shownText(text) {
  if (text === "") return "∅";
  return visible(text).replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t");
}

function clamp(value) {
  return Math.max(-1, Math.min(1, value));
}
