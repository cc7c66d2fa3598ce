"""What each actor does, and what becomes of what it samples."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code.board import board, some_peers, the_learner
from configs.grafana.dashboards_as_code.panels import (
    Panel,
    Query,
    graph,
    learner,
    peer,
    rate,
    rise,
    spread,
    states,
)

NAME = "actors"
ACTOR = 'role="actor"'


def make() -> Dashboard:
    """Of all actors, wherever they run."""
    rows = {"Actors": _actors(), "Work": _work(), "Completions": _completions()}
    chosen = [the_learner(), some_peers("actor")]
    return board(NAME, "What each actor does, and what becomes of what it samples", rows, chosen)


def _actors() -> list[Panel]:
    return [
        states(
            "Up",
            "Which actors the learner hears. Red: it was lost without a goodbye, and its groups "
            "went to others; one that mlx-train started again has a new name. Start one on another "
            "machine: python -m actors --learner tcp://LEARNER:19550.",
            Query(peer("up", 'job="mlxrl-peer"', ACTOR), "{{instance}} on {{host}}"),
            words={1: ("up", "green"), 0: ("down", "red")},
        ),
        graph(
            "Silence",
            "Seconds since an actor's last heartbeat. Above a few network.heartbeat_seconds: it "
            "hangs, or its network does; after ten of them it is lost.",
            "s",
            Query(peer("mlxrl_peer_heartbeat_age_seconds", ACTOR), "{{instance}}"),
        ),
        graph(
            "Lost",
            "Actors and reward workers that went without a goodbye. More than now and then: look "
            "at the last lines of their logs; a killed process without any often ran out of "
            "memory.",
            "none",
            Query(rise(learner("mlxrl_peers_lost_total")), "{{role}}"),
        ),
    ]


def _work() -> list[Panel]:
    busy = rate(peer("mlxrl_peer_busy_seconds_total", ACTOR))
    alive = rate(peer("mlxrl_peer_alive_seconds_total", ACTOR))
    return [
        graph(
            "Tokens sampled",
            "Completion tokens a second by actor. One far below others of the same machine: it has "
            "few completions in its batch, or shares its cores. 0: it has no lease, or waits for "
            "weights.",
            "short",
            Query(rate(peer("mlxrl_actor_tokens_sampled_total")), "{{instance}}"),
        ),
        graph(
            "Busy",
            "Share of its time in which an actor had work. Low for all: the learner or the reward "
            "workers are the bottleneck, or learner.max_off_policy_steps leaves no room ahead.",
            "percentunit",
            Query(f"{busy} / {alive}", "{{instance}}"),
        ),
        graph(
            "Completions in the batch",
            "How many completions an actor decodes now, and how many it can hold. Always at the "
            "limit: generation.max_sequences may be raised if there is memory. Mostly far below "
            "it: long completions hold groups up.",
            "none",
            Query(peer("mlxrl_actor_completions"), "{{instance}}"),
            Query(peer("mlxrl_peer_capacity", ACTOR), "{{instance}} limit"),
        ),
        graph(
            "Groups leased",
            "Groups that an actor has leases for. 0 while others have some: it holds no version "
            "that is new enough; see weights and transport.",
            "none",
            Query(peer("mlxrl_actor_groups"), "{{instance}}"),
        ),
        graph(
            "Memory",
            "Peak resident memory by actor. Rising without end, or near what the machine has: "
            "lower generation.max_sequences or generation.max_completion_tokens.",
            "bytes",
            Query(peer("mlxrl_peer_memory_peak_bytes", ACTOR), "{{instance}}"),
        ),
        graph(
            "Rollouts taken",
            "Completions a second that the learner took from actors. 0 though there is room for "
            "groups: the alert NoRollouts says what to do.",
            "short",
            Query(rate(learner("mlxrl_rollouts_total")), "rollouts"),
        ),
    ]


def _completions() -> list[Panel]:
    return [
        spread(
            "Length of completions",
            "Tokens of the completions that were trained on. All in the highest row: they are cut "
            "off; raise generation.max_completion_tokens. Shrinking to a few: the reward favours "
            "short ones.",
            "short",
            learner("mlxrl_completion_tokens_bucket"),
        ),
        graph(
            "Mean length",
            "Mean tokens of a completion in each batch. Doubled within few steps: the policy "
            "rambles or repeats itself; read some completions on the run page.",
            "short",
            Query(learner("mlxrl_completion_tokens_mean"), "tokens"),
        ),
        graph(
            "Cut off",
            "Share of completions that ended at generation.max_completion_tokens. Above 0.9 hardly "
            "any reaches its end: raise that, or reward short completions.",
            "percentunit",
            Query(learner("mlxrl_truncated_fraction"), "cut off"),
            limits=((0.9, "red"),),
        ),
        graph(
            "Attempts begun again",
            "Attempts at a group that came to nothing, by reason. deadline: no progress within "
            "learner.lease_seconds; raise it for slow actors. actor_lost: see above. stale: too "
            "old when its turn came. failed: the actor's log says why.",
            "none",
            Query(rise(learner("mlxrl_attempts_discarded_total")), "{{reason}}"),
            stacked=True,
            width=12,
        ),
        graph(
            "Rollouts and scores of no use",
            "What was refused because it came for an attempt that is over, by reason. Some after a "
            "lost peer is right; always some: learner.lease_seconds or score_seconds is too short.",
            "none",
            Query(rise(learner("mlxrl_results_rejected_total")), "{{reason}}"),
            stacked=True,
            width=12,
        ),
    ]
