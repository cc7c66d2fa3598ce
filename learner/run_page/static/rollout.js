/** One rollout, read closely: its text, why it has its reward, and what its group did. */

import { get } from "./api.js";
import { el, fill } from "./dom.js";
import { figure, isNumber, signed, whole } from "./format.js";
import { ending, tone } from "./rollout_table.js";
import { Tokens } from "./tokens.js";
import { oneLine } from "./visible.js";

export class RolloutPanel {
  /** `closed()`, `opened(place)`, `moved(by)`, `samePrompt(promptId)`: what the reader does then. */
  constructor(told) {
    this.told = told;
    this.tokens = new Tokens();
    this.element = el("aside", { class: "panel", "aria-label": "Rollout", hidden: true });
  }

  close() {
    this.search?.abort();
    this.shown = null;
    this.element.hidden = true;
  }

  /** The place before or after this one in the run folder, or null. */
  neighbour(by) {
    const { previous, next } = this.shown?.neighbours ?? {};
    return (by > 0 ? next : previous) ?? null;
  }

  async open(place) {
    this.search?.abort();
    const search = (this.search = new AbortController());
    this.element.hidden = false;
    this.element.setAttribute("aria-busy", "true");
    try {
      const rollout = await get("rollout", place, search.signal);
      this.#show(rollout);
    } catch (error) {
      if (search.signal.aborted) return;
      this.shown = null;
      fill(
        this.element,
        this.#bar(place),
        el("p", { class: "empty-line" }, `This rollout could not be read: ${error.message}`),
      );
    }
    this.element.removeAttribute("aria-busy");
  }

  #show(rollout) {
    this.shown = rollout;
    this.tokens.show(rollout.tokens, rollout.completion);
    fill(
      this.element,
      this.#bar(rollout),
      figures(rollout),
      verdict(rollout),
      rewardTable(rollout),
      this.#prompt(rollout),
      el("section", {}, this.tokens.element),
      this.#group(rollout),
      el("p", { class: "origin" }, origin(rollout)),
    );
    this.element.scrollTop = 0;
  }

  #bar({ step, line, sample }) {
    const button = (label, name, act) =>
      el(
        "button",
        { type: "button", class: "quiet", "aria-label": name, title: name, onclick: act },
        label,
      );
    return el(
      "div",
      { class: "panel-bar" },
      el(
        "h2",
        {},
        `Step ${whole(step)}`,
        el(
          "span",
          { class: "faint" },
          sample === undefined ? ` line ${line}` : `, sample ${sample}`,
        ),
      ),
      button("‹", "Previous rollout (k)", () => this.told.moved(-1)),
      button("›", "Next rollout (j)", () => this.told.moved(1)),
      button("×", "Close (Esc)", () => this.told.closed()),
    );
  }

  #prompt({ prompt, prompt_id }) {
    const same = el(
      "button",
      {
        type: "button",
        class: "quiet",
        title: prompt_id,
        onclick: () => this.told.samePrompt(prompt_id),
      },
      "this prompt in all steps",
    );
    return el(
      "section",
      {},
      el("div", { class: "section-head" }, el("h4", {}, "Prompt"), same),
      el("div", { class: "text-block", tabindex: "0" }, prompt),
    );
  }

  #group({ step, line, group_rows }) {
    const rows = group_rows.map((row) => {
      const open = () => this.told.opened({ step, line: row.line });
      return el(
        "tr",
        { onclick: open, "aria-selected": row.line === line ? "true" : null },
        el(
          "td",
          { class: "number" },
          el(
            "a",
            {
              href: `#rollouts?open=${step}:${row.line}`,
              onclick: (event) => event.preventDefault(),
            },
            String(row.sample),
          ),
        ),
        el("td", { class: "number" }, figure(row.reward)),
        el("td", { class: `number ${tone(row.advantage)}` }, signed(row.advantage)),
        el("td", { class: "text" }, oneLine(row.completion)),
      );
    });
    const head = el(
      "tr",
      {},
      [
        ["Sample", "number"],
        ["Reward", "number"],
        ["Advantage", "number"],
        ["Completion", "text"],
      ].map(([name, kind]) => el("th", { scope: "col", class: kind }, name)),
    );
    return el(
      "section",
      {},
      el("h4", {}, `Its group: ${rows.length} samples of this prompt`),
      el("table", { class: "group" }, el("thead", {}, head), el("tbody", {}, rows)),
    );
  }
}

function figures(rollout) {
  const told = [
    ["Reward", figure(rollout.reward), ""],
    ["Advantage", signed(rollout.advantage), tone(rollout.advantage)],
    ["Tokens", whole(rollout.tokens.length), ""],
  ];
  return el(
    "dl",
    { class: "panel-figures" },
    told.map(([name, text, kind]) =>
      el("div", {}, el("dt", {}, name), el("dd", { class: kind }, text)),
    ),
    el("div", {}, el("dt", {}, "End"), el("dd", { class: "small" }, ending(rollout))),
  );
}

/** Why a rollout has no reward, in the words of the reward worker. */
function verdict({ status, detail }) {
  if (status === "ok" && !detail) return null;
  return el(
    "div",
    { class: "verdict" },
    el("b", {}, status.replaceAll("_", " ")),
    detail
      ? el("div", { class: "detail" }, detail)
      : " The sample is masked: nothing is learned from it.",
  );
}

function rewardTable({ rewards, facts }) {
  const rows = Object.entries(rewards ?? {}).map(([name, reward]) => {
    const said = Object.entries(facts?.[name] ?? {}).map(([fact, value]) =>
      el(
        "span",
        { class: "fact" },
        el("span", { class: "figure-name" }, fact.replaceAll("_", " ")),
        isNumber(value) ? figure(value) : oneLine(value),
      ),
    );
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", { class: "number" }, figure(reward)),
      el("td", { class: "facts-cell" }, said),
    );
  });
  return rows.length
    ? el(
        "section",
        {},
        el("h4", {}, "Reward by function"),
        el("table", { class: "rewards" }, el("tbody", {}, rows)),
      )
    : null;
}

function origin({ actor, group, attempt, prompt_id, policy_versions }) {
  const versions = (policy_versions ?? []).map(([version]) => version);
  const first = versions[0];
  const sampled = versions.length
    ? `sampled by version ${versions.length > 1 ? `${first} to ${versions.at(-1)}` : first}`
    : "";
  return [actor, sampled, `group ${group}`, attempt > 1 ? `attempt ${attempt}` : "", prompt_id]
    .filter(Boolean)
    .join(" · ");
}
