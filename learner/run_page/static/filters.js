/** What the reader of rollouts is asked to show: one form, each change told once. */

import { FILTERS } from "./address.js";
import { el, fill } from "./dom.js";

const TYPING_MS = 200;
const STATUSES = [
  "ok",
  "sandbox_error",
  "reward_error",
  "reward_timeout",
  "reward_memory",
  "reward_crashed",
];

export class Filters {
  /** `changed`: called with the new filters. */
  constructor(changed) {
    this.changed = changed;
    this.inputs = {
      text: el("input", {
        type: "search",
        placeholder: "in prompt or completion",
        "aria-label": "Text",
      }),
      step: el("input", { type: "number", min: "0", placeholder: "any", "aria-label": "Step" }),
      min_reward: el("input", {
        type: "number",
        step: "any",
        placeholder: "from",
        "aria-label": "Lowest reward",
      }),
      max_reward: el("input", {
        type: "number",
        step: "any",
        placeholder: "to",
        "aria-label": "Highest reward",
      }),
      status: choice("Status", [
        ["", "any"],
        ...STATUSES.map((status) => [status, status.replaceAll("_", " ")]),
      ]),
      finish_reason: choice("Finish reason", [
        ["", "any"],
        ["stop", "stopped"],
        ["length", "truncated"],
      ]),
    };
    this.promptId = "";
    this.promptChip = el("span", { class: "chip", hidden: true });
    const { text, step, min_reward, max_reward, status, finish_reason } = this.inputs;
    const clear = el("button", { type: "reset", class: "quiet" }, "Clear");
    this.element = el(
      "form",
      {
        class: "filters",
        role: "search",
        onsubmit: (event) => event.preventDefault(),
        onreset: (event) => this.#clear(event),
      },
      field("Text", text, "grow"),
      field("Step", step),
      field("Reward", el("span", { class: "range" }, min_reward, max_reward)),
      field("Status", status),
      field("Finish", finish_reason),
      this.promptChip,
      clear,
    );
    this.element.addEventListener("input", (event) => this.#input(event));
  }

  get values() {
    const read = Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]);
    return { ...Object.fromEntries(read), prompt_id: this.promptId };
  }

  /** Show filters that came from the address bar or from a button; tells nobody. */
  set(values) {
    for (const [name, input] of Object.entries(this.inputs)) {
      if (document.activeElement === input && input.value.trim() === values[name]) continue;
      if (name === "status" && values[name]) this.learnStatus(values[name]);
      input.value = values[name];
    }
    this.promptId = values.prompt_id;
    this.promptChip.hidden = !this.promptId;
    const drop = el(
      "button",
      {
        type: "button",
        "aria-label": "All prompts",
        onclick: () => this.changed({ ...this.values, prompt_id: "" }),
      },
      "×",
    );
    fill(this.promptChip, "prompt ", this.promptId, drop);
  }

  /** Offer a status that was seen, too. */
  learnStatus(status) {
    const { options } = this.inputs.status;
    if ([...options].some((option) => option.value === status)) return;
    this.inputs.status.append(el("option", { value: status }, status.replaceAll("_", " ")));
  }

  focus() {
    this.inputs.text.focus();
  }

  #input(event) {
    clearTimeout(this.timer);
    const isTyped = event.target.tagName === "INPUT";
    this.timer = setTimeout(() => this.changed(this.values), isTyped ? TYPING_MS : 0);
  }

  #clear(event) {
    event.preventDefault();
    this.changed(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  }
}

function choice(label, options) {
  return el(
    "select",
    { "aria-label": label },
    options.map(([value, text]) => el("option", { value }, text)),
  );
}

function field(label, input, kind = null) {
  return el("label", { class: kind }, el("span", { class: "field-label" }, label), input);
}
