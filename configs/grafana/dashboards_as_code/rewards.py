"""What reward functions say, how long they take, and how they fail."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code.board import board, some_peers, some_rewards, the_learner
from configs.grafana.dashboards_as_code.panels import (
    Panel,
    Query,
    graph,
    learner,
    peer,
    rate,
    rise,
)

NAME = "rewards"
WORKER = 'role="reward_worker"'
CHOSEN = 'reward=~"$reward"'


def make() -> Dashboard:
    """Of all reward functions and workers."""
    rows = {"Rewards": _rewards(), "Reward workers": _workers(), "Sandbox": _sandbox()}
    chosen = [the_learner(), some_peers("reward_worker"), some_rewards()]
    about = "What reward functions say, how long they take, and how they fail"
    return board(NAME, about, rows, chosen)


def _rewards() -> list[Panel]:
    seconds = rate(peer("mlxrl_reward_seconds_total", CHOSEN))
    samples = rate(peer("mlxrl_reward_samples_total", CHOSEN))
    return [
        graph(
            "Reward by function",
            "Mean of each reward function before its weight. One rises while the others fall: the "
            "policy buys it with them; change the weights. One that never moves teaches nothing.",
            "none",
            Query(learner("mlxrl_reward_function_mean", CHOSEN), "{{reward}}"),
        ),
        graph(
            "Samples without a reward",
            "Share of the scored samples that were masked, faults of the sandbox apart. Above 5 %: "
            "the alert RewardFailures has the remedy for each status.",
            "percentunit",
            Query(learner("mlxrl:samples_masked:ratio_rate5m"), "masked"),
            limits=((0.05, "red"),),
        ),
        graph(
            "Masked by status",
            "Samples that were left out of training. reward_timeout: raise the reward's "
            "timeout_seconds. reward_memory: raise reward_worker.memory_bytes. reward_error, "
            "reward_crashed: mend the function. sandbox_error: run mlx-doctor.",
            "none",
            Query(rise(learner("mlxrl_samples_masked_total")), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Failures by function",
            "Share of its completions on which a reward function failed. Above 5 % it needs to be "
            "mended, or more time; logs/reward_worker-*.log has its last error. The same as "
            "counts: mlxrl_reward_failures_total.",
            "percentunit",
            Query('mlxrl:reward_failures:ratio_rate5m{reward=~"$reward"}', "{{reward}}"),
            limits=((0.05, "red"),),
        ),
        graph(
            "Seconds a completion",
            "How long a reward function takes for one completion: in the last batch, and of all "
            "workers over time. The slowest decides how many reward workers are needed.",
            "s",
            Query(learner("mlxrl_reward_function_seconds", CHOSEN), "{{reward}} last batch"),
            Query(
                f"sum by (reward) ({seconds}) / sum by (reward) ({samples})", "{{reward}} workers"
            ),
        ),
        graph(
            "Groups that wait for scores",
            "scoring: share of the unscored groups in hand whose completions are complete. Above "
            "80 % reward workers are the bottleneck: mlx-train --set roles.reward_worker=N. The "
            "other is of all groups: at 100 % actors have no room.",
            "percentunit",
            Query(learner("mlxrl:groups_scoring:ratio"), "scoring"),
            Query(learner("mlxrl:groups_past_actors:ratio"), "scoring, scored or handed over"),
            limits=((0.8, "red"),),
        ),
    ]


def _workers() -> list[Panel]:
    busy = rate(peer("mlxrl_peer_busy_seconds_total", WORKER))
    alive = rate(peer("mlxrl_peer_alive_seconds_total", WORKER))
    return [
        graph(
            "Scores",
            "Scores a second by reward worker. One far below the others: its machine is slower or "
            "its children crash. 0 for all while groups wait: their log says why.",
            "short",
            Query(rate(peer("mlxrl_reward_worker_scores_total")), "{{instance}}"),
        ),
        graph(
            "Busy",
            "Share of its time in which a reward worker had work. Near 100 % for all: start more. "
            "Near 0: fewer do.",
            "percentunit",
            Query(f"{busy} / {alive}", "{{instance}}"),
        ),
        graph(
            "Calls and completions that wait",
            "Completions that wait for a child, and calls that run. Waiting ones always there: "
            "raise reward_worker.processes, or start more workers.",
            "none",
            Query(peer("mlxrl_reward_worker_samples_waiting"), "{{instance}} waiting"),
            Query(peer("mlxrl_reward_worker_batches_running"), "{{instance}} calls"),
        ),
        graph(
            "Children",
            "Processes that call reward functions, and how often one was started again. Restarts "
            "without end: a function crashes or is killed each time; see the panel beside.",
            "none",
            Query(peer("mlxrl_reward_worker_children"), "{{instance}} alive"),
            Query(rise(peer("mlxrl_reward_worker_child_restarts_total")), "{{instance}} restarts"),
        ),
        graph(
            "Killed and crashed calls",
            "Calls that ended with their child. timeout: raise the reward's timeout_seconds, or "
            "find the endless loop. memory: raise reward_worker.memory_bytes. crash: a segfault or "
            "exit in the function.",
            "none",
            Query(rise(peer("mlxrl_reward_worker_timeouts_total")), "{{instance}} timeout"),
            Query(rise(peer("mlxrl_reward_worker_memory_kills_total")), "{{instance}} memory"),
            Query(rise(peer("mlxrl_reward_worker_crashes_total")), "{{instance}} crash"),
        ),
        graph(
            "Failed completions",
            "Completions on which a reward function failed, by function, over all workers. Any: "
            "logs/reward_worker-*.log has the last error.",
            "none",
            Query(
                f"sum by (reward) ({rise(peer('mlxrl_reward_failures_total', CHOSEN))})",
                "{{reward}}",
            ),
        ),
    ]


def _sandbox() -> list[Panel]:
    jobs = rate(peer("mlxrl_sandbox_jobs_total"))
    return [
        graph(
            "Jobs",
            "Jobs of the sandbox that wait for a slot, that run, and confined processes that wait "
            "for one. Waiting jobs always there: raise sandbox.slots if cores are free. No warm "
            "processes: raise sandbox.warm. Empty: no reward runs code.",
            "none",
            Query(peer("mlxrl_sandbox_queue"), "{{instance}} waiting"),
            Query(peer("mlxrl_sandbox_running"), "{{instance}} running"),
            Query(peer("mlxrl_sandbox_warm"), "{{instance}} warm"),
            width=6,
        ),
        graph(
            "Verdicts",
            "Verdicts on candidates a second. Many timeouts or oom: candidates need more of "
            "the reward's limits, or loop. Any sandbox_error: run mlx-doctor.",
            "short",
            Query(
                f"sum by (verdict) ({rate(peer('mlxrl_sandbox_verdicts_total'))})", "{{verdict}}"
            ),
            stacked=True,
            width=6,
        ),
        graph(
            "Seconds a job",
            "Mean seconds of a job, waiting included, and errors of the sandbox itself. Long with "
            "few running: slots are too few or candidates slow. Any error: run mlx-doctor on that "
            "machine.",
            "s",
            Query(f"{rate(peer('mlxrl_sandbox_job_seconds_total'))} / {jobs}", "{{instance}}"),
            width=6,
        ),
        graph(
            "Processes, cache and errors",
            "Confined processes started, verdicts that were remembered, and tries that the sandbox "
            "itself failed. Errors: run mlx-doctor. No cache hits is no fault: all candidates "
            "differ.",
            "none",
            Query(rise(peer("mlxrl_sandbox_spawned_total")), "{{instance}} started"),
            Query(rise(peer("mlxrl_sandbox_cache_hits_total")), "{{instance}} remembered"),
            Query(rise(peer("mlxrl_sandbox_errors_total")), "{{instance}} errors"),
            width=6,
        ),
    ]
