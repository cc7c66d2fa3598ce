"""The one table of all Prometheus metrics; docs/metrics.md is made from it.

A metric belongs to the learner, or to every peer of a role (`of`). `source` says where its value
comes from: `row KEY` of metrics.jsonl, `count KEY` of the exchange, `figure KEY` of a heartbeat; a
`*` in KEY becomes the label's value. Other metrics are set by the code that names them.
"""

from protocol.metric import Metric, count, each, figure, row
from protocol.metric_labels import (
    CHANNELS,
    DISCARDS,
    DROPS,
    MASKS,
    REFUSALS,
    REJECTIONS,
    ROLES,
    SECONDS_BUCKETS,
    SKIPS,
    STAGES,
    STALENESS_BUCKETS,
    STATES,
    SYMPTOMS,
    TOKEN_BUCKETS,
    VERDICTS,
)

_RUN: dict[str, Metric] = {
    "mlxrl_run_info": Metric(
        "gauge", "learner", "1; names the run", labels=("run", "model", "algorithm")
    ),
    "mlxrl_run_active": Metric("gauge", "learner", "1 until the run is over, then 0"),
    "mlxrl_run_epoch": Metric("gauge", "learner", "Starts of the learner on this run folder"),
    "mlxrl_max_steps": Metric("gauge", "learner", "run.max_steps"),
    "mlxrl_max_off_policy_steps": Metric("gauge", "learner", "learner.max_off_policy_steps"),
    "mlxrl_max_groups": Metric(
        "gauge", "learner", "Groups that may be leased, scoring, scored and handed over together"
    ),
    "mlxrl_no_progress_seconds": Metric(
        "gauge", "learner", "learner.no_progress_seconds: the run ends after so long in silence"
    ),
    "mlxrl_peers_wanted": Metric(
        "gauge", "learner", "roles: what mlx-train starts", labels=("role",), children=each(*ROLES)
    ),
    "mlxrl_step": Metric("gauge", "learner", "Batches handed to the trainer", "row step"),
    "mlxrl_policy_version": Metric(
        "gauge", "learner", "The newest version that actors can have, one more a trained batch"
    ),
    "mlxrl_last_step_timestamp_seconds": Metric(
        "gauge", "learner", "When the last step ended, in seconds since 1970", "row time"
    ),
    "mlxrl_last_progress_timestamp_seconds": Metric(
        "gauge",
        "learner",
        "When the last rollout, score or version came, in seconds since 1970",
    ),
    "mlxrl_steps_skipped_total": Metric(
        "counter",
        "learner",
        "Steps that changed nothing, by reason",
        labels=("reason",),
        children=each(*SKIPS),
    ),
    "mlxrl_health_warning": Metric(
        "gauge",
        "learner",
        "1 while a symptom of bad learning has lasted for three steps (learner/health.py)",
        labels=("symptom",),
        children=each(*SYMPTOMS),
    ),
}

_LEARNING: dict[str, Metric] = {
    "mlxrl_reward_mean": row("reward/mean", "Mean reward of the last step's batch"),
    "mlxrl_reward_std": row("reward/std", "Standard deviation of these rewards"),
    "mlxrl_reward_function_mean": Metric(
        "gauge",
        "learner",
        "Mean reward by reward function, before weights",
        "row reward/<reward>/mean",
        ("reward",),
    ),
    "mlxrl_reward_function_seconds": Metric(
        "gauge",
        "learner",
        "Mean seconds that a reward function took for one completion",
        "row reward/<reward>/seconds/mean",
        ("reward",),
    ),
    "mlxrl_evaluation": Metric(
        "gauge",
        "learner",
        "Figures of the last evaluation on held-out prompts",
        labels=("evaluator", "figure"),
    ),
    "mlxrl_evaluating": Metric(
        "gauge", "learner", "1 while held-out prompts are completed and scored"
    ),
    "mlxrl_evaluation_step": Metric("gauge", "learner", "Step of the last evaluation"),
    "mlxrl_loss": row("loss", "Loss of the last step"),
    "mlxrl_kl_ref": row("kl_ref", "KL to the reference policy, nats a token; NaN without one"),
    "mlxrl_mismatch_kl": row(
        "mismatch_kl", "KL between the policy that sampled and the learner's, nats a token"
    ),
    "mlxrl_entropy": row("entropy", "Entropy of the policy, nats a token"),
    "mlxrl_grad_norm": row("grad_norm", "Global norm of the gradient before clipping"),
    "mlxrl_learning_rate": row("learning_rate", "Learning rate of the last step"),
    "mlxrl_clip_fraction": row("clip_fraction", "Share of tokens whose ratio was clipped"),
    "mlxrl_importance_ratio": row("importance_ratio", "Mean importance ratio of the tokens"),
    "mlxrl_effective_sample_ratio": row(
        "ess", "Effective sample size of the importance weights over the number of tokens"
    ),
    "mlxrl_staleness_mean": row("staleness/mean", "Mean staleness of the batch, in versions"),
    "mlxrl_staleness_max": row("staleness/max", "Largest staleness of the batch, in versions"),
    "mlxrl_completion_tokens_mean": row("completion_tokens/mean", "Mean tokens a completion"),
    "mlxrl_truncated_fraction": row(
        "completion/truncated_fraction", "Share of completions cut off at max_completion_tokens"
    ),
    "mlxrl_zero_advantage_fraction": row(
        "groups/zero_advantage_fraction", "Share of groups that teach nothing"
    ),
    "mlxrl_completion_tokens": Metric(
        "histogram", "learner", "Tokens of completions trained on", buckets=TOKEN_BUCKETS
    ),
    "mlxrl_staleness": Metric(
        "histogram",
        "learner",
        "Staleness of completions trained on, in versions, by their oldest token",
        buckets=STALENESS_BUCKETS,
    ),
    "mlxrl_step_metric": Metric(
        "gauge", "learner", "Keys of metrics.jsonl that have no metric of their own", "", ("key",)
    ),
}

_RATES: dict[str, Metric] = {
    "mlxrl_step_seconds": Metric(
        "gauge",
        "learner",
        "Seconds of the last step by stage: waiting for rollouts, training, publishing, other",
        labels=("stage",),
        children=each(*STAGES),
    ),
    "mlxrl_step_duration_seconds": Metric(
        "histogram", "learner", "Seconds a step, all stages", buckets=SECONDS_BUCKETS
    ),
    "mlxrl_tokens_per_second": row("tokens_per_second", "Completion tokens a second, last step"),
    "mlxrl_samples_per_second": row("samples_per_second", "Completions a second, last step"),
    "mlxrl_tokens_trained_total": Metric(
        "counter", "learner", "Completion tokens of batches handed to the trainer"
    ),
    "mlxrl_samples_trained_total": Metric(
        "counter", "learner", "Completions of batches handed to the trainer"
    ),
    "mlxrl_idle_ratio": Metric(
        "gauge",
        "learner",
        "Share of its time in which a role had nothing to do, over the last step",
        "row idle/*",
        ("role",),
        each("learner", *ROLES),
    ),
    "mlxrl_memory_peak_bytes": Metric(
        "gauge",
        "learner",
        "Peak resident memory of the role's largest process",
        "count memory/*/peak_bytes",
        ("role",),
        each("learner", *ROLES),
    ),
}

_GROUPS: dict[str, Metric] = {
    "mlxrl_groups": Metric(
        "gauge", "learner", "Groups by state", "count *", ("state",), each(*STATES)
    ),
    "mlxrl_groups_trained_total": count("trained", "Groups trained on"),
    "mlxrl_groups_dropped_total": Metric(
        "counter",
        "learner",
        "Groups given up, by reason",
        "count dropped/*",
        ("reason",),
        each(*DROPS),
    ),
    "mlxrl_attempts_discarded_total": Metric(
        "counter",
        "learner",
        "Attempts at a group that were begun again, by reason",
        "count discarded/*",
        ("reason",),
        each(*DISCARDS),
    ),
    "mlxrl_rollouts_total": count("rollouts", "Completions taken from actors"),
    "mlxrl_scores_total": count("scores", "Scores taken from reward workers"),
    "mlxrl_samples_masked_total": Metric(
        "counter",
        "learner",
        "Completions without a reward, by status",
        "count masked/*",
        ("status",),
        each(*MASKS),
    ),
    "mlxrl_duplicates_total": count("duplicates", "Rollouts and scores that came twice"),
    "mlxrl_fenced_total": count("fenced", "Messages of an earlier run epoch"),
    "mlxrl_results_rejected_total": Metric(
        "counter",
        "learner",
        "Rollouts and scores of no use, by reason",
        "count rejected/*",
        ("reason",),
        each(*REFUSALS),
    ),
}

_TRANSPORT: dict[str, Metric] = {
    "mlxrl_peers": Metric(
        "gauge", "learner", "Registered peers", "count peers/*", ("role",), each(*ROLES)
    ),
    "mlxrl_peers_lost_total": Metric(
        "counter",
        "learner",
        "Peers whose connection ended, or that fell silent, without a goodbye",
        labels=("role",),
        children=each(*ROLES),
    ),
    "mlxrl_messages_total": Metric(
        "counter",
        "learner",
        "Messages that came in, by channel",
        labels=("channel",),
        children=each(*CHANNELS),
    ),
    "mlxrl_wire_rejected_total": Metric(
        "counter",
        "learner",
        "Messages that were dropped, by channel and reason",
        labels=("channel", "reason"),
        children=tuple((c, reason) for c in CHANNELS for reason in REJECTIONS),
    ),
    "mlxrl_publish_bytes": row(
        "publish_bytes", "What an actor fetches that has the version before"
    ),
    "mlxrl_publish_full_bytes": row("publish_full_bytes", "The same version whole"),
    "mlxrl_publish_encode_seconds": row(
        "seconds/publish_encode", "Packing and encoding a version, beside training"
    ),
    "mlxrl_weights_sent_bytes_total": Metric(
        "counter", "learner", "Bytes of weights sent to actors in chunks"
    ),
    "mlxrl_weights_manifests_total": Metric(
        "counter",
        "learner",
        "Manifests sent to actors, by the kind of what follows",
        labels=("kind",),
        children=each("full", "lora", "delta"),
    ),
}

_PEERS: dict[str, Metric] = {
    "mlxrl_peer_policy_version": Metric(
        "gauge", "peer", "The version that it holds; -1 before the first and for reward workers"
    ),
    "mlxrl_peer_capacity": Metric("gauge", "peer", "Completions that it can hold at once"),
    "mlxrl_peer_heartbeat_age_seconds": Metric("gauge", "peer", "Since its last heartbeat"),
    "mlxrl_peer_busy_seconds_total": figure("peer", "busy_seconds", "Seconds with work in hand"),
    "mlxrl_peer_alive_seconds_total": figure("peer", "alive_seconds", "Seconds since its start"),
    "mlxrl_peer_memory_peak_bytes": figure("peer", "peak_rss_bytes", "Peak resident memory"),
    "mlxrl_actor_tokens_sampled_total": figure("actor", "tokens_sampled", "Tokens sampled"),
    "mlxrl_actor_completions": figure("actor", "completions", "Completions in its batch now"),
    "mlxrl_actor_groups": figure("actor", "groups", "Groups that it has leases for"),
    "mlxrl_actor_switch_seconds": figure(
        "actor", "switch_seconds", "For how long the last switch of weights stopped it"
    ),
    "mlxrl_actor_weights_fetched_bytes_total": figure(
        "actor", "weights_fetched_bytes", "Bytes of weights that it has fetched"
    ),
    "mlxrl_actor_weights_mismatches_total": figure(
        "actor", "weights_mismatches", "Versions whose digest was wrong; they were fetched anew"
    ),
}

_REWARD_WORKERS: dict[str, Metric] = {
    "mlxrl_reward_worker_scores_total": figure("reward_worker", "scores_total", "Scores given"),
    "mlxrl_reward_worker_batches_running": figure(
        "reward_worker", "batches_running", "Calls of reward functions that run now"
    ),
    "mlxrl_reward_worker_samples_waiting": figure(
        "reward_worker", "samples_waiting", "Completions that wait for a child"
    ),
    "mlxrl_reward_worker_children": figure("reward_worker", "children", "Children alive"),
    "mlxrl_reward_worker_child_restarts_total": figure(
        "reward_worker", "child_restarts_total", "Children that were started again"
    ),
    "mlxrl_reward_worker_timeouts_total": figure(
        "reward_worker", "reward_timeouts_total", "Calls killed for their time"
    ),
    "mlxrl_reward_worker_crashes_total": figure(
        "reward_worker", "reward_crashes_total", "Calls whose child died"
    ),
    "mlxrl_reward_worker_memory_kills_total": figure(
        "reward_worker", "reward_memory_total", "Calls killed for their memory"
    ),
    "mlxrl_reward_failures_total": Metric(
        "counter",
        "reward_worker",
        "Completions on which a reward function failed, by its name",
        "figure reward_failures/*",
        ("reward",),
    ),
    "mlxrl_reward_seconds_total": Metric(
        "counter",
        "reward_worker",
        "Seconds in reward functions, by name; children report through their worker",
        "figure reward_seconds/*",
        ("reward",),
    ),
    "mlxrl_reward_samples_total": Metric(
        "counter",
        "reward_worker",
        "Completions given to a reward function, by its name",
        "figure reward_samples/*",
        ("reward",),
    ),
    "mlxrl_sandbox_queue": figure("reward_worker", "sandbox_queue", "Jobs that wait for a slot"),
    "mlxrl_sandbox_running": figure("reward_worker", "sandbox_running", "Jobs that run now"),
    "mlxrl_sandbox_warm": figure("reward_worker", "sandbox_warm", "Confined processes waiting"),
    "mlxrl_sandbox_spawned_total": figure(
        "reward_worker", "sandbox_spawned_total", "Confined processes started"
    ),
    "mlxrl_sandbox_cache_hits_total": figure(
        "reward_worker", "sandbox_cache_hits_total", "Verdicts that were remembered"
    ),
    "mlxrl_sandbox_errors_total": figure(
        "reward_worker", "sandbox_sandbox_errors_total", "Jobs that the sandbox itself failed"
    ),
    "mlxrl_sandbox_jobs_total": figure("reward_worker", "sandbox_jobs_total", "Jobs done"),
    "mlxrl_sandbox_job_seconds_total": figure(
        "reward_worker", "sandbox_job_seconds_total", "Seconds of these jobs"
    ),
    "mlxrl_sandbox_verdicts_total": Metric(
        "counter",
        "reward_worker",
        "Verdicts on candidates",
        "figure sandbox_verdicts_*_total",
        ("verdict",),
        each(*VERDICTS),
    ),
}

METRICS: dict[str, Metric] = {
    **_RUN,
    **_LEARNING,
    **_RATES,
    **_GROUPS,
    **_TRANSPORT,
    **_PEERS,
    **_REWARD_WORKERS,
}
