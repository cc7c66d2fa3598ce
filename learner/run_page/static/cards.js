/** Which charts there are: what each shows, and in words what to read from it. */

import { percent } from "./format.js";
import { stepTimeLines } from "./step_time.js";

const IDLE = ["idle/learner", "idle/actor", "idle/reward_worker"];

/**
 * One entry a card: its `section`, what its Chart is made with, the `keys` or `lines` it shows, and
 * whether smoothing would lie (`isRaw`).
 */
export const CARDS = [
  {
    section: "learning",
    title: "Reward",
    hint: "Mean over the rollouts trained on, in all and by reward function",
    isWide: true,
    lines: rewardLines,
    emptyText: "The first figures come with the first step.",
  },
  {
    section: "learning",
    title: "Held-out evaluation",
    hint: "On prompts that are never trained on",
    isWide: true,
    hasPoints: true,
    isRaw: true,
    lines: evaluationLines,
    emptyText:
      "No evaluation yet: data.heldout, evaluation.interval and evaluation.evaluators say which and when.",
  },
  {
    section: "health",
    title: "KL to the reference",
    hint: "Nats a token from where the policy began",
    keys: ["kl_ref"],
    emptyText: "This algorithm keeps no reference policy.",
  },
  {
    section: "health",
    title: "Mismatch KL",
    hint: "Actor against learner on the same tokens; near 0",
    keys: ["mismatch_kl"],
  },
  {
    section: "health",
    title: "Entropy",
    hint: "Nats a token; at 0 nothing new is tried",
    keys: ["entropy"],
  },
  {
    section: "health",
    title: "Completion length",
    hint: "Mean tokens of a completion",
    keys: ["completion_tokens/mean"],
  },
  {
    section: "health",
    title: "Truncated",
    hint: "Share of completions cut at max_completion_tokens",
    keys: ["completion/truncated_fraction"],
    format: percent,
  },
  {
    section: "health",
    title: "Staleness",
    hint: "Policy versions between sampling and training",
    keys: ["staleness/mean", "staleness/max"],
    isRaw: true,
  },
  {
    section: "health",
    title: "Loss",
    hint: "What the optimizer descends; its level says little",
    keys: ["loss"],
  },
  {
    section: "health",
    title: "Gradient norm",
    hint: "Before clipping; spikes come before trouble",
    keys: ["grad_norm"],
  },
  {
    section: "time",
    title: "Seconds of a step",
    hint: "What the learner's main thread did, stacked",
    isWide: true,
    isStacked: true,
    lines: stepTimeLines,
  },
  {
    section: "time",
    title: "Idle",
    hint: "Share of the time in which a role had nothing to do",
    keys: IDLE,
    format: percent,
  },
  {
    section: "time",
    title: "Tokens per second",
    hint: "Completion tokens trained on, over the whole step",
    keys: ["tokens_per_second"],
  },
];

/** One line a key of metrics.jsonl; where there is one key, the title says enough. */
export function keyLines(series, axis, keys) {
  const places = series.places(axis);
  return keys.map((key, index) => ({
    label: label(key),
    places,
    values: series.column(key),
    isTitled: keys.length === 1,
    dash: key.endsWith("/max") && index ? [5, 4] : undefined,
  }));
}

/** Reward in all, then each function's own; where one function is all there is, one line. */
function rewardLines(series, axis, run) {
  const named = run.rewards.filter((name) => series.has(`reward/${name}/mean`));
  const places = series.places(axis);
  const total = series.column("reward/mean");
  const lines = named.map((name) => ({
    label: name,
    places,
    values: series.column(`reward/${name}/mean`),
  }));
  const isOne = lines.length === 1 && lines[0].values.every((value, row) => value === total[row]);
  if (isOne) return [{ ...lines[0], label: `reward = ${named[0]}` }];
  return [{ label: "reward", places, values: total }, ...lines];
}

/** All evaluations on the places of any of them. */
function evaluationLines(series, axis) {
  const steps = [...new Set([...series.evaluations.values()].flat().map(([step]) => step))].sort(
    (a, b) => a - b,
  );
  const places = steps.map((step) => series.placeOf(step, axis));
  const bound = ([key]) => /_(low|high)$/.test(key) && series.evaluations.has(key.replace(/_(low|high)$/, ""));
  const figures = [...series.evaluations].filter((entry) => !bound(entry)); // of intervals the middle
  return figures.map(([key, pairs]) => {
    const values = new Map(pairs);
    const [evaluator, name] = [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)];
    return {
      label: evaluator === name ? name : key,
      places,
      values: steps.map((step) => values.get(step) ?? null),
    };
  });
}

function label(key) {
  return key.replace(/^(idle|staleness)\//, "").replaceAll("_", " ");
}
