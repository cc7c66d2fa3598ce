/** The top of the page: which run, how far, and how sure one can be that this is still so. */

import { el, fill, say } from "./dom.js";
import { duration, whole } from "./format.js";
import { visible } from "./visible.js";

export class Header {
  constructor(element) {
    this.name = el("h1", {}, "…");
    this.state = el("span", { class: "state" }, "loading");
    this.facts = el("dl", { class: "facts" });
    this.progress = el("progress", { max: "1", value: 0, "aria-label": "Steps done" });
    this.tabs = new Map([
      ["run", el("a", { href: "#run" }, "Run")],
      ["rollouts", el("a", { href: "#rollouts" }, "Rollouts")],
    ]);
    fill(
      element,
      el(
        "div",
        { class: "header-row" },
        el("div", { class: "title" }, this.name, this.state),
        el("nav", { "aria-label": "Views" }, [...this.tabs.values()]),
        this.facts,
      ),
      this.progress,
    );
  }

  showView(view) {
    for (const [name, tab] of this.tabs) {
      if (name === view) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
  }

  show(run, isLost) {
    const state = stateOf(run, isLost);
    say(this.name, run.name);
    say(this.state, state.text);
    this.state.className = `state ${state.kind}`;
    this.state.title = state.meaning;
    document.title = visible(`${run.name} ${run.step}/${run.max_steps ?? "?"}`);
    this.progress.max = Math.max(1, run.max_steps ?? 1);
    this.progress.value = run.max_steps ? run.step : 0;
    this.progress.classList.toggle("invisible", run.is_finished);
    fill(
      this.facts,
      facts(run, state).map(([name, text]) =>
        el("div", {}, el("dt", {}, name), el("dd", { title: text }, text)),
      ),
    );
  }
}

function stateOf(run, isLost) {
  if (run.is_finished)
    return { kind: "finished", text: "Finished", meaning: "All steps are done." };
  if (isLost) return { kind: "lost", text: "Connection lost", meaning: "Nobody answers." };
  if (run.is_live)
    return { kind: "live", text: "Live", meaning: "The learner itself serves this page." };
  return {
    kind: "folder",
    text: "From its folder",
    meaning: "Read from the run folder; no learner serves this page.",
  };
}

function facts(run, state) {
  const left =
    state.kind === "live" && run.eta_seconds !== null ? [["Left", duration(run.eta_seconds)]] : [];
  return [
    ["Step", `${whole(run.step)} / ${whole(run.max_steps)}`],
    ...left,
    ["A step takes", duration(run.seconds_per_step)],
    ["Policy version", whole(run.policy_version)],
    ["Model", run.model ?? "–"],
    ["Algorithm", run.algorithm ?? "–"],
  ];
}
