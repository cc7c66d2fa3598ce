/** The rows of the reader: one line a rollout, told apart by its place in the run folder. */

import { el, fill } from "./dom.js";
import { figure, signed, whole } from "./format.js";
import { oneLine } from "./visible.js";

const COLUMNS = [
  ["Step", "number"],
  ["Reward", "number"],
  ["Advantage", "number"],
  ["Tokens", "number"],
  ["End", "end"],
  ["Prompt", "text prompt-column"],
  ["Completion", "text"],
];

export class RolloutTable {
  /** `opened`: called with {step, line} of the row that was chosen. */
  constructor(opened) {
    this.opened = opened;
    this.rows = [];
    this.body = el("tbody");
    const head = el(
      "tr",
      {},
      COLUMNS.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)),
    );
    this.element = el("table", { class: "rollouts" }, el("thead", {}, head), this.body);
  }

  clear() {
    this.rows = [];
    fill(this.body);
  }

  add(rows) {
    for (const row of rows) {
      row.element = this.#line(row);
      this.rows.push(row);
      this.body.append(row.element);
    }
  }

  /** Mark the row that is open, and bring it into sight. */
  mark(place) {
    this.marked?.removeAttribute("aria-selected");
    this.marked = this.rows[this.indexOf(place)]?.element;
    this.marked?.setAttribute("aria-selected", "true");
    this.marked?.scrollIntoView({ block: "nearest" });
  }

  indexOf(place) {
    return place
      ? this.rows.findIndex((row) => row.step === place.step && row.line === place.line)
      : -1;
  }

  #line(row) {
    const above = this.rows.at(-1);
    const isSameGroup = above?.step === row.step && above.group === row.group;
    const open = (event) => {
      event.preventDefault();
      this.opened({ step: row.step, line: row.line });
    };
    const name = `Rollout ${row.line} of step ${row.step}`;
    return el(
      "tr",
      { onclick: open, class: isSameGroup && "same-group" },
      el(
        "td",
        { class: "number" },
        el(
          "a",
          { href: `#rollouts?open=${row.step}:${row.line}`, "aria-label": name },
          whole(row.step),
        ),
      ),
      el("td", { class: "number" }, figure(row.reward)),
      el("td", { class: `number ${tone(row.advantage)}` }, signed(row.advantage)),
      el("td", { class: "number" }, whole(row.num_tokens)),
      el("td", { class: "end" }, ending(row)),
      el("td", { class: "text prompt-column" }, oneLine(row.prompt)),
      el("td", { class: "text" }, oneLine(row.completion)),
    );
  }
}

/** How the rollout ended: what went wrong comes before how the text stopped. */
export function ending(row) {
  if (row.status !== "ok")
    return el("span", { class: "badge bad", title: row.status }, row.status.replaceAll("_", " "));
  if (row.finish_reason === "length") return el("span", { class: "badge warn" }, "truncated");
  return el("span", { class: "faint" }, row.finish_reason);
}

/** Above or below its group; class names of the style sheet. */
export function tone(advantage) {
  if (advantage > 0) return "above";
  return advantage < 0 ? "below" : "";
}
