/** The run's page in its order: what was learned, how healthy it is, where the time goes, who takes part. */

import { Configuration } from "./configuration.js";
import { Curves } from "./curves.js";
import { el, fill, say } from "./dom.js";
import { Glance } from "./glance.js";
import { Peers, Warnings } from "./peers.js";
import { bottleneck } from "./step_time.js";

export class RunView {
  constructor(element) {
    this.glance = new Glance();
    this.curves = new Curves();
    this.peers = new Peers();
    this.warnings = new Warnings();
    this.configuration = new Configuration();
    this.pace = el("p", { class: "section-note" });
    fill(
      element,
      this.glance.element,
      heading("What the model learns", this.curves.element),
      this.curves.grid("learning"),
      heading("Health of the training"),
      this.curves.grid("health"),
      heading("Where the time goes", this.pace),
      this.curves.grid("time"),
      heading("Who takes part"),
      el("div", { class: "stack" }, this.peers.element, this.warnings.element),
      heading("Everything else"),
      el("div", { class: "stack" }, this.curves.any.element, this.configuration.element),
    );
  }

  showRun(run, isLost) {
    this.peers.show(run, isLost);
    this.warnings.show(run);
    this.configuration.show(run.config);
  }

  showSeries(series, run) {
    this.glance.show(series);
    this.curves.show(series, run);
    say(this.pace, bottleneck(series));
  }
}

function heading(text, ...beside) {
  return el("div", { class: "section-title" }, el("h2", {}, text), beside);
}
