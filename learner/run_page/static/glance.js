/** The run at a glance: five figures, each with where it came from. */

import { el, fill } from "./dom.js";
import { figure, isNumber, percent } from "./format.js";
import { meanOf } from "./series.js";

const ROWS = 10;
const MEANS = `Mean of the last ${ROWS} steps; below, of the first ${ROWS}`;

/** `[{label, now, before, format, because}]`: means of the last and of the first rows. */
function tiles(series) {
  const ends = (key) => ({
    now: meanOf(series.column(key), -ROWS),
    before: meanOf(series.column(key), ROWS),
  });
  const told = [...series.evaluations].slice(0, 1).map(([key, pairs]) => ({
    label: `Held-out ${key.split("/").at(-1).replaceAll("_", " ")}`,
    now: pairs.at(-1)?.[1],
    before: pairs[0]?.[1],
    format: figure,
    than: `at step ${pairs[0]?.[0]}`,
    title: `At step ${pairs.at(-1)?.[0]}; below, the first one`,
  }));
  return [
    { label: "Reward", ...ends("reward/mean"), format: figure },
    ...told,
    { label: "Entropy", ...ends("entropy"), format: figure },
    { label: "Truncated", ...ends("completion/truncated_fraction"), format: percent },
    {
      label: "Groups without a gradient",
      ...ends("groups/zero_advantage_fraction"),
      format: percent,
    },
  ];
}

export class Glance {
  constructor() {
    this.element = el("div", { class: "glance", "aria-label": "At a glance" });
  }

  show(series) {
    fill(
      this.element,
      tiles(series).map(({ label, now, before, format, than = "in the first steps", title = MEANS }) =>
        el(
          "div",
          { class: "tile" },
          el("span", { class: "tile-label", title }, label),
          el("span", { class: "tile-figure" }, format(now)),
          el(
            "span",
            { class: "tile-before" },
            isNumber(before) ? `${format(before)} ${than}` : "no figure yet",
          ),
        ),
      ),
    );
  }
}
