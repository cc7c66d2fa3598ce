/** Where the time of a step goes: the stacked lines, and one sentence on what that means. */

import { isNumber, percent } from "./format.js";
import { meanOf } from "./series.js";

const PARTS = [
  ["training", "seconds/train"],
  ["waiting for rollouts", "seconds/wait"],
  ["publishing", "seconds/publish"],
];
const LAST_ROWS = -50;

/** One line a part of a step, and what is left of it. */
export function stepTimeLines(series, axis) {
  const places = series.places(axis);
  const lines = PARTS.map(([label, key]) => ({ label, places, values: series.column(key) }));
  const rest = series.column("seconds/step").map((seconds, row) => {
    if (!isNumber(seconds)) return null;
    return Math.max(
      0,
      lines.reduce((left, line) => left - (line.values[row] ?? 0), seconds),
    );
  });
  return [...lines, { label: "other", places, values: rest }];
}

/** What holds the run up, in words; the last 50 rows decide. */
export function bottleneck(series) {
  const step = meanOf(series.column("seconds/step"), LAST_ROWS);
  if (!step) return "The first step will show where the time goes.";
  const wait = (meanOf(series.column("seconds/wait"), LAST_ROWS) ?? 0) / step;
  const train = (meanOf(series.column("seconds/train"), LAST_ROWS) ?? 0) / step;
  if (wait < 0.2)
    return `The learner sets the pace: it trains ${percent(train)} of the time and waits ${percent(wait)}. More actors would not help.`;
  const actors = meanOf(series.column("idle/actor"), LAST_ROWS);
  const workers = meanOf(series.column("idle/reward_worker"), LAST_ROWS);
  const waits = `The learner waits for rollouts ${percent(wait)} of the time`;
  if (workers !== null && workers < 0.2 && (actors === null || workers < actors))
    return `${waits}; reward workers are idle only ${percent(workers)}. More of them would help.`;
  if (actors !== null && actors < 0.35)
    return `${waits}; actors are idle only ${percent(actors)}. More actors would help.`;
  return `${waits}, and actors are idle ${percent(actors)}: a larger max_off_policy_steps or more groups in flight would overlap the two.`;
}
