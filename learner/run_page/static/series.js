/** The run's columns as far as they are known here; new rows are added, nothing is drawn. */

import { isNumber } from "./format.js";

const MAX_ROWS = 6000;

/** Rows of metrics.jsonl by column, and evaluations by figure. Keys are a run's: Maps, never objects. */
export class Series {
  constructor() {
    this.token = null;
    this.columns = new Map([
      ["step", []],
      ["time", []],
    ]);
    this.evaluations = new Map();
  }

  get length() {
    return this.columns.get("step").length;
  }

  get lastStep() {
    return this.columns.get("step").at(-1) ?? 0;
  }

  /** Whether all of it should be asked for again, thinned by the server. */
  get isLong() {
    return this.length > MAX_ROWS;
  }

  /** Add an answer of /api/series that goes on from `lastStep`; says whether there was anything new. */
  add(answer) {
    const before = this.length;
    const evaluated = this.#numEvaluations();
    const added = answer.columns.step.length;
    for (const [key, values] of Object.entries(answer.columns)) {
      if (!this.columns.has(key)) this.columns.set(key, new Array(before).fill(null));
      this.columns.get(key).push(...values);
    }
    for (const values of this.columns.values()) {
      while (values.length < before + added) values.push(null);
    }
    for (const [key, figures] of Object.entries(answer.evaluations)) {
      const known = new Map(this.evaluations.get(key) ?? []);
      figures.step.forEach((step, index) => known.set(step, figures.value[index]));
      this.evaluations.set(
        key,
        [...known].sort((a, b) => a[0] - b[0]),
      );
    }
    this.token = answer.token;
    return added > 0 || this.#numEvaluations() > evaluated;
  }

  #numEvaluations() {
    return [...this.evaluations.values()].reduce((sum, pairs) => sum + pairs.length, 0);
  }

  column(key) {
    return this.columns.get(key) ?? [];
  }

  has(key) {
    return this.column(key).some(isNumber);
  }

  /** Keys with at least one figure, step and time left out. */
  keys() {
    return [...this.columns.keys()]
      .filter((key) => key !== "step" && key !== "time" && this.has(key))
      .sort();
  }

  /** Where rows stand on the axis: steps, or seconds since the first row. */
  places(axis) {
    if (axis === "step") return this.column("step");
    const times = this.column("time");
    return times.map((time) => time - times[0]);
  }

  /** Where an evaluation of `step` stands: before the first row at its place, else at its row's. */
  placeOf(step, axis) {
    if (axis === "step") return step;
    const steps = this.column("step");
    const index = steps.findIndex((known) => known >= step);
    return this.places(axis)[index === -1 ? steps.length - 1 : index] ?? 0;
  }
}

/** Exponential mean, free of the start's pull to zero; gaps stay gaps. weight 0 changes nothing. */
export function smoothed(values, weight) {
  if (!weight) return values;
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (!isNumber(value)) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

/** Mean of the figures among the first or last `n` rows; null where there are none. */
export function meanOf(values, n) {
  const part = (n >= 0 ? values.slice(0, n) : values.slice(n)).filter(isNumber);
  return part.length ? part.reduce((sum, value) => sum + value, 0) / part.length : null;
}
