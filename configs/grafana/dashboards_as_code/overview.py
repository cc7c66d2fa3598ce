"""Is the run alive, does it learn, and where does the time of a step go?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code.board import board, the_learner
from configs.grafana.dashboards_as_code.panels import Panel, Query, graph, learner, number, rate

NAME = "overview"


def make() -> Dashboard:
    """The first page to look at."""
    rows = {"Run": _run(), "Learning": _learning(), "Time": _time()}
    return board(NAME, "Is the run alive, does it learn, and how fast?", rows, [the_learner()])


def _run() -> list[Panel]:
    step, last = learner("mlxrl_step"), learner("mlxrl_last_step_timestamp_seconds")
    return [
        number(
            "Run",
            "Name, model and algorithm of the run that this learner trains. Empty: no learner "
            "answers at the chosen address; see configs/prometheus/prometheus.yml.",
            "none",
            Query(learner("mlxrl_run_info"), "{{run}}: {{model}}, {{algorithm}}"),
            shows_names=True,
            width=8,
        ),
        number(
            "State",
            "Whether the run is going on. No value though it was not over: the learner died; "
            "mlx-train --config CONFIG --resume continues from the newest checkpoint.",
            "none",
            Query(learner("mlxrl_run_active"), "run"),
            words={1: ("running", "green"), 0: ("over", "blue")},
            width=3,
        ),
        number(
            "Step",
            "Batches handed to the trainer, run.max_steps, and the step of the last evaluation. "
            "If it does not move, see the time since the last step, beside.",
            "none",
            Query(step, "step"),
            Query(learner("mlxrl_max_steps"), "of"),
            Query(learner("mlxrl_evaluation_step"), "evaluated"),
            width=4,
        ),
        number(
            "Time left",
            "Steps that are left, each as long as the last one. Too long: see below which stage of "
            "a step takes the time.",
            "s",
            Query(
                f"({learner('mlxrl_max_steps')} - {step}) "
                f"* sum without (stage) ({learner('mlxrl_step_seconds')})",
                "left",
            ),
            width=3,
        ),
        number(
            "Since the last step",
            "Far above the seconds of a step: the run stands still, and ends by itself after "
            "learner.no_progress_seconds, beside. The groups by state, below, say who is waited "
            "for; a long evaluation looks the same.",
            "s",
            Query(f"time() - {last}", "step"),
            Query(f"time() - {learner('mlxrl_last_progress_timestamp_seconds')}", "any work"),
            Query(learner("mlxrl_no_progress_seconds"), "limit"),
            width=6,
        ),
        graph(
            "Alerts",
            "Alerts that fire, by name. Each one's description, on Prometheus's page /alerts, says "
            "the cause and the remedy. A flat 0 is right.",
            "none",
            Query(
                'count by (alertname) (ALERTS{alertstate="firing"}) or vector(0)', "{{alertname}}"
            ),
            limits=((1, "red"),),
            stacked=True,
            width=12,
        ),
        graph(
            "Peers",
            "Registered actors and reward workers, and how many mlx-train starts here. Fewer than "
            "wanted for long: they crash at the start; logs/ in the run folder says why.",
            "none",
            Query(learner("mlxrl_peers"), "{{role}}"),
            Query(learner("mlxrl_peers_wanted"), "{{role}} wanted"),
            width=12,
        ),
    ]


def _learning() -> list[Panel]:
    mean, std = learner("mlxrl_reward_mean"), learner("mlxrl_reward_std")
    return [
        graph(
            "Reward",
            "Mean reward of each batch and its standard deviation. Flat with a deviation of 0: "
            "nothing is learned, as all completions are equally good; take prompts of another "
            "difficulty. Falling: lower learner.optimizer.learning_rate.",
            "none",
            Query(mean, "mean"),
            Query(std, "standard deviation"),
            width=12,
        ),
        graph(
            "Held-out evaluation",
            "Figures of each evaluator on prompts that are never trained on. Falling while the "
            "reward rises: the policy learns what the reward function overlooks, or the training "
            "prompts by heart. Empty: the config has no data.heldout.",
            "none",
            Query(learner("mlxrl_evaluation", 'figure!="n"'), "{{evaluator}} {{figure}}"),
            width=12,
        ),
    ]


def _time() -> list[Panel]:
    return [
        graph(
            "Where the time of a step goes",
            "Seconds of the last step by stage. Mostly wait: the learner has too few rollouts, so "
            "add actors or reward workers. Mostly train: the learner is the bottleneck.",
            "s",
            Query(learner("mlxrl_step_seconds"), "{{stage}}"),
            stacked=True,
        ),
        graph(
            "Length of steps",
            "Median and 95th percentile of the seconds of a step. Far apart: single steps take "
            "much longer than others, by very long completions or lost actors.",
            "s",
            *(
                Query(
                    f"histogram_quantile({q}, sum by (le) "
                    f"({rate(learner('mlxrl_step_duration_seconds_bucket'))}))",
                    name,
                )
                for q, name in ((0.5, "median"), (0.95, "95 %"))
            ),
        ),
        graph(
            "Tokens",
            "Completion tokens a second: of the last step, and trained over time. Lower than "
            "before with equal prompts: an actor is missing, or completions became short.",
            "short",
            Query(learner("mlxrl_tokens_per_second"), "last step"),
            Query(rate(learner("mlxrl_tokens_trained_total")), "trained"),
        ),
        graph(
            "Completions",
            "Completions a second: sampled, scored and trained. Sampled stays above scored: reward "
            "workers are too slow. Scored stays above trained: groups are dropped or the learner "
            "is the bottleneck.",
            "short",
            Query(learner("mlxrl:rollouts:rate2m"), "rollouts"),
            Query(rate(learner("mlxrl_scores_total")), "scores"),
            Query(rate(learner("mlxrl_samples_trained_total")), "trained"),
            Query(learner("mlxrl_samples_per_second"), "last step"),
        ),
        graph(
            "Idle",
            "Share of its time in which a role had nothing to do. The role that is never idle is "
            "the bottleneck: give it more processes or a faster machine; one that is idle for most "
            "of the time has too many.",
            "percentunit",
            Query(learner("mlxrl_idle_ratio"), "{{role}}"),
        ),
        graph(
            "Groups by state",
            "Groups in hand, and how many there may be. Most leased: actors are the bottleneck. "
            "Most scoring: reward workers. Most scored or handed over: the learner.",
            "none",
            Query(learner("mlxrl_groups", 'state!="ready"'), "{{state}}"),
            Query(learner("mlxrl_max_groups"), "limit"),
        ),
        graph(
            "Memory",
            "Peak resident memory of each role's largest process. Rising without end, or near what "
            "the machine has: lower generation.max_sequences (actors), learner.microbatch_tokens "
            "(learner) or reward_worker.memory_bytes.",
            "bytes",
            Query(learner("mlxrl_memory_peak_bytes"), "{{role}}"),
            width=24,
        ),
    ]
