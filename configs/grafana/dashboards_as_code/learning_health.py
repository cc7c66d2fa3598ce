"""Whether what is learned is sound: the loss's figures, staleness, and what is left out."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code.board import board, the_learner
from configs.grafana.dashboards_as_code.panels import (
    Panel,
    Query,
    graph,
    learner,
    rise,
    spread,
    states,
)

NAME = "learning_health"


def make() -> Dashboard:
    """Of the policy and its batches."""
    rows = {"Policy": _policy(), "Off-policy": _off_policy(), "Batches": _batches()}
    about = "Whether what is learned is sound, and what to change where it is not"
    return board(NAME, about, rows, [the_learner()])


def _policy() -> list[Panel]:
    return [
        states(
            "Symptoms",
            "Signs of bad learning that have lasted for three steps. Red: the learner's log names "
            "figures and remedy (logs/learner.log in the run folder).",
            Query(learner("mlxrl_health_warning"), "{{symptom}}"),
            words={0: ("well", "green"), 1: ("symptom", "red")},
        ),
        graph(
            "Loss",
            "Loss of each step. Its height says little in policy gradient; jumps say that steps "
            "are too large: lower learner.optimizer.learning_rate. A gap: the step was skipped.",
            "none",
            Query(learner("mlxrl_loss"), "loss"),
        ),
        graph(
            "Entropy",
            "Nats a token: how open the policy is. Near 0 before the reward is high: it has "
            "stopped to explore; raise generation.temperature, the algorithm's clip_high or "
            "entropy_coefficient. Rising without end: the learning rate is too high.",
            "none",
            Query(learner("mlxrl_entropy"), "entropy"),
            limits=((0.01, "green"),),
        ),
        graph(
            "KL to the reference policy",
            "Nats a token. Healthy runs stay under 0.1; above 1 the policy has left the model that "
            "it began as: go back to a checkpoint, lower learner.optimizer.learning_rate or raise "
            "algorithm.kl.coefficient. Empty: the algorithm has no reference policy.",
            "none",
            Query(learner("mlxrl_kl_ref"), "kl_ref"),
            limits=((1, "red"),),
        ),
        graph(
            "Gradient and learning rate",
            "Global norm of the gradient before clipping, and the learning rate. Norms that jump "
            "to many times the usual: lower the rate or learner.optimizer.max_grad_norm.",
            "none",
            Query(learner("mlxrl_grad_norm"), "gradient norm"),
            Query(learner("mlxrl_learning_rate"), "learning rate"),
        ),
        graph(
            "Other figures",
            "Figures of the algorithm and of reward functions that have no panel of their own, by "
            "their key in metrics.jsonl. The plug-in's file says what they are and when bad.",
            "none",
            Query(learner("mlxrl_step_metric"), "{{key}}"),
        ),
    ]


def _off_policy() -> list[Panel]:
    return [
        graph(
            "Actors against learner",
            "KL between the policy that sampled and the learner's, nats a token. Above 0.15: with "
            "stale batches lower learner.max_off_policy_steps or the learning rate; without, "
            "actors and learner compute different numbers: set policy.compute_dtype=float32.",
            "none",
            Query(learner("mlxrl_mismatch_kl"), "mismatch_kl"),
            limits=((0.15, "red"),),
        ),
        graph(
            "Importance ratio",
            "Mean importance ratio of the tokens (1 on policy) and effective sample size of their "
            "weights. A ratio far from 1, or a size under a half: batches say little about "
            "the policy now; lower learner.max_off_policy_steps or the learning rate.",
            "none",
            Query(learner("mlxrl_importance_ratio"), "mean ratio"),
            Query(learner("mlxrl_effective_sample_ratio"), "effective sample size"),
        ),
        graph(
            "Clipped tokens",
            "Share of tokens whose ratio was clipped. Above a half most of the batch teaches "
            "nothing: lower learner.optimizer.learning_rate or learner.max_off_policy_steps.",
            "percentunit",
            Query(learner("mlxrl_clip_fraction"), "clipped"),
            limits=((0.5, "red"),),
        ),
        graph(
            "Staleness",
            "How many versions old the oldest token of a completion is: mean and largest of each "
            "batch, and learner.max_off_policy_steps. Always at the bound: actors are too many for "
            "the learner; fewer cost no speed.",
            "none",
            Query(learner("mlxrl_staleness_mean"), "mean"),
            Query(learner("mlxrl_staleness_max"), "largest"),
            Query(learner("mlxrl_max_off_policy_steps"), "bound"),
            width=12,
        ),
        spread(
            "Spread of staleness",
            "Completions trained on, by their staleness in versions. All in the highest rows: see "
            "beside. A second group far above the first: one actor is much slower than the others.",
            "none",
            learner("mlxrl_staleness_bucket"),
            width=12,
        ),
    ]


def _batches() -> list[Panel]:
    return [
        graph(
            "Groups without advantage",
            "Share of groups whose completions are equally good: they teach nothing. Near 1: "
            "prompts are too easy or too hard; take others, raise generation.group_size, or set "
            "learner.max_refill_groups.",
            "percentunit",
            Query(learner("mlxrl_zero_advantage_fraction"), "equal rewards"),
            limits=((0.9, "orange"),),
            width=6,
        ),
        graph(
            "Groups given up",
            "Groups that were dropped, by reason. attempts: given out learner.max_attempts times "
            "for nothing; the actors' logs say why. masked: no reward. retired: solved, as asked. "
            "zero_advantage: replaced by fresh prompts.",
            "none",
            Query(rise(learner("mlxrl_groups_dropped_total")), "{{reason}}"),
            stacked=True,
            width=6,
        ),
        graph(
            "Groups trained on",
            "Groups that were trained on. A lower rate than before: steps take longer, or more "
            "groups are dropped; see the overview.",
            "none",
            Query(rise(learner("mlxrl_groups_trained_total")), "groups"),
            width=6,
        ),
        graph(
            "Skipped steps",
            "Steps that changed nothing. non_finite: lower learner.optimizer.learning_rate; "
            "learner.max_skipped_in_row of them end the run. no_advantage: all rewards are equal. "
            "masked: no sample has a reward.",
            "none",
            Query(rise(learner("mlxrl_steps_skipped_total")), "{{reason}}"),
            limits=((1, "red"),),
            stacked=True,
            width=6,
        ),
    ]
