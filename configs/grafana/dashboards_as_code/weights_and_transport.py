"""How versions of the policy reach the actors, and what the sockets carry."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code.board import board, some_peers, the_learner
from configs.grafana.dashboards_as_code.panels import (
    Panel,
    Query,
    graph,
    learner,
    number,
    peer,
    rate,
    rise,
)

NAME = "weights_and_transport"


def make() -> Dashboard:
    """Of the learner's sockets and the actors at their other end."""
    rows = {"Weights": _weights(), "Transport": _transport()}
    about = "How versions of the policy reach the actors, and what the sockets carry"
    return board(NAME, about, rows, [the_learner(), some_peers("actor")])


def _weights() -> list[Panel]:
    held = peer("mlxrl_peer_policy_version", 'role="actor"')
    newest = learner("mlxrl_policy_version")
    return [
        graph(
            "Policy version",
            "The newest version that actors can have, and what each holds; -1 is none. An actor "
            "that stays behind gets no leases: its network is too slow for the bytes below, or it "
            "logs that versions are refused.",
            "none",
            Query(newest, "newest"),
            Query(held, "{{instance}}"),
        ),
        graph(
            "Versions behind",
            "How many versions an actor is behind. Above learner.max_off_policy_steps what it "
            "samples would be too old: train fewer, larger steps (learner.groups_per_step), or use "
            "learner.tuning=lora, whose versions are small.",
            "none",
            Query(f"max({newest}) - on () group_right () {held}", "{{instance}}"),
        ),
        graph(
            "Bytes of a version",
            "What an actor fetches that has the version before, and the same version whole. Both "
            "alike with full tuning: nearly all weights change in each step, because the learning "
            "rate is high for the weights' precision.",
            "bytes",
            Query(learner("mlxrl_publish_bytes"), "fetched"),
            Query(learner("mlxrl_publish_full_bytes"), "whole"),
        ),
        graph(
            "Seconds to pack a version",
            "Packing and encoding, beside training. Longer than a step: versions queue up and "
            "actors are behind; learner.publish.kind=full saves the encoding.",
            "s",
            Query(learner("mlxrl_publish_encode_seconds"), "encode"),
        ),
        graph(
            "Seconds that a switch takes",
            "For how long the last switch to new weights stopped an actor. Long compared with the "
            "seconds of a step: actors lose much of their time to it.",
            "s",
            Query(peer("mlxrl_actor_switch_seconds"), "{{instance}}"),
        ),
        graph(
            "Weights sent and fetched",
            "Bytes a second of weights, as the learner sends and as actors fetch them. At what the "
            "network can do: versions are too large for it. 0 with actors on the learner's machine "
            "is right: they read a file.",
            "binBps",
            Query(rate(learner("mlxrl_weights_sent_bytes_total")), "sent"),
            Query(rate(peer("mlxrl_actor_weights_fetched_bytes_total")), "{{instance}}"),
        ),
        graph(
            "Manifests",
            "Versions that were asked for, by the kind of what follows. Many full ones with delta "
            "publishing: actors miss versions between, and need the whole.",
            "none",
            Query(rise(learner("mlxrl_weights_manifests_total")), "{{kind}}"),
            stacked=True,
            width=12,
        ),
        graph(
            "Wrong digests",
            "Versions whose digest was wrong after they were fetched; they were fetched anew. Any: "
            "the network or memory of that machine corrupts data.",
            "none",
            Query(rise(peer("mlxrl_actor_weights_mismatches_total")), "{{instance}}"),
            limits=((1, "red"),),
            width=12,
        ),
    ]


def _transport() -> list[Panel]:
    rejected = rise(learner("mlxrl_wire_rejected_total"))
    return [
        number(
            "Starts",
            "How often a learner was started on this run folder. More than you started it: "
            "something starts it again after crashes; logs/learner.log says why they happen.",
            "none",
            Query(learner("mlxrl_run_epoch"), "starts"),
            width=24,
        ),
        graph(
            "Messages",
            "Messages a second that came in, by channel. rollouts at 0 while control is not: peers "
            "live but deliver nothing. All at 0: no peer reaches the learner.",
            "short",
            Query(rate(learner("mlxrl_messages_total")), "{{channel}}"),
        ),
        graph(
            "Dropped messages",
            "Messages that were dropped, by channel and reason. protocol_version: update the older "
            "checkout. unregistered: right after a restart. Any other, again and again: something "
            "else talks to the learner's port.",
            "none",
            Query(
                f"sum by (channel, reason) ({rejected}) > 0 or vector(0)", "{{channel}} {{reason}}"
            ),
            stacked=True,
        ),
        graph(
            "Came twice or too late",
            "Rollouts and scores that came twice, and messages of an earlier start of the learner. "
            "Some after a lost connection is right; always some: the network loses acks.",
            "none",
            Query(rise(learner("mlxrl_duplicates_total")), "twice"),
            Query(rise(learner("mlxrl_fenced_total")), "earlier start"),
        ),
    ]
