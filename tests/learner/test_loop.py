"""The training loop, with an exchange and a trainer that follow a script."""

import errno
import hashlib
import json
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.checkpoints import writer
from learner.checkpoints.position import Position
from learner.evaluation import Evaluation, Plan
from learner.evaluator import Evaluate
from learner.exchange.evaluation_book import SuitePrompts
from learner.exchange.prompt_book import PromptEntry
from learner.ledger.snapshot import Snapshot
from learner.loop import Loop, publish_figures
from learner.parameters import Parameters
from learner.publishing.writer import Published, VersionWriter
from learner.run_folder import RunFolder
from learner.samples import ScoredBatch
from learner.step import StepResult
from learner.suites import Suite
from protocol.delta import encode_delta
from protocol.errors import CheckpointError, RunStopped
from protocol.metrics import Metrics
from protocol.policy import Policy
from protocol.weights import pack

DEADLINE_SECONDS = 10.0


class Script:
    """An exchange and a trainer in one; notes what the loop asks for, in order."""

    def __init__(self, config, sample, skips, num_batches, model_folder):
        self.log: list[str] = []
        self.published: dict[int, float] = {}
        self.actor_hosts = frozenset({"elsewhere"})
        self.wanted = -1
        """The version that actors must hold before anything goes on; -1 waits for none."""
        self.halted = ""
        self._changed = threading.Condition()
        model = nn.Linear(1, 1, bias=False)
        model.weight = mx.zeros((1, 1))
        self.policy = Policy(model, SimpleNamespace(), model_folder, mx.float32, mx.float32)
        self.parameters = Parameters(self.policy, None, config)
        self.masters = self.parameters.masters
        self._sample = sample
        self._skips = skips
        self._num_batches = num_batches
        self._batches = 0

    # The exchange.

    def next_batch(self):
        self._wait_for_actors()
        self.log.append("next_batch")
        self._batches += 1
        samples = (self._sample,) if self._batches <= self._num_batches else ()
        snapshot = Snapshot(watermark=self._batches, counts={"trained": 1}, batch_groups=1)
        return ScoredBatch(samples, snapshot)

    def evaluate(self):
        self._wait_for_actors()
        self.log.append("evaluate")
        return ((self._sample, replace(self._sample, prompt_id="other")),)

    def trained(self):
        self.log.append("trained")
        self.wanted += self.wanted >= 0

    def publish(self, policy_version, packed, delta=None):
        with self._changed:
            self.published[policy_version] = float(np.frombuffer(packed.data, np.float32)[0])
            self._changed.notify_all()

    def halt(self, reason):
        with self._changed:
            self.halted = reason
            self._changed.notify_all()

    def _wait_for_actors(self):
        """As synchronous training does."""
        with self._changed:
            assert self._changed.wait_for(self._may_go_on, DEADLINE_SECONDS)
        if self.halted:
            raise RunStopped(self.halted)

    def _may_go_on(self):
        return self.halted or self.wanted < 0 or self.wanted in self.published

    def skip(self, reason):
        self.log.append(f"skip {reason}")

    def counts(self):
        return {"trained": 3, "ready": 1}

    def last_counts(self):
        return self.counts()

    # The trainer: a step of 1 each time.

    def logprobs(self, samples, temperature):
        return [sample.rollout.behaviour_logprobs for sample in samples]

    def step(self, samples, step, policy_version):
        self.log.append(f"step {step}")
        skipped = self._skips.get(step, "")
        if not skipped:
            self.masters.replace({"weight": self.masters.arrays["weight"] + 1.0})
        figures = {"loss": float("nan") if skipped else 0.5, "learning_rate": 1e-3}
        logprobs = (np.full(2, -0.5, np.float32),)
        return StepResult(figures, np.zeros(1, np.float32), logprobs, skipped)


def evaluation_of(num_heldout, values):
    """An accuracy that is each of the values in turn, and the last one for ever."""
    prompts = [PromptEntry(f"h:{i}", "", np.zeros(1, np.int32), "", "") for i in range(num_heldout)]
    left = list(values)

    def accuracy(samples):
        return {"accuracy": left.pop(0) if len(left) > 1 else left[0], "n": len(samples)}

    plans = [Plan(Evaluate("accuracy", accuracy), 0, prompts)] if prompts else []
    return Evaluation(plans, [SuitePrompts(Suite(("held",)), prompts)])


@pytest.fixture
def make_loop(make_config, make_sample, tmp_path):
    opened = []

    def make(
        *, max_steps=4, interval=2, before=True, checkpoints=2, skips=None, batches=99, **extra: Any
    ):
        config = make_config(
            run={"max_steps": max_steps},
            evaluation={"interval": interval, "before_training": before},
            checkpoints={"interval": checkpoints, **extra.get("keep", {})},
        )
        model_folder = tmp_path / "model"
        model_folder.mkdir(exist_ok=True)
        script = Script(config, make_sample(), skips or {}, batches, model_folder)
        publishing = VersionWriter(script, deltas=True, encode=extra.get("encode", encode_delta))
        opened.append(publishing)
        folder = RunFolder(tmp_path / "run")
        folder.create(config, resume=folder.path.exists())
        folder.release()
        loop = Loop(
            config=config,
            trainer=script,  # pyright: ignore[reportArgumentType]
            exchange=script,
            publishing=publishing,
            evaluation=evaluation_of(extra.get("num_heldout", 2), extra.get("values", [0.5])),
            folder=folder,
            metrics=Metrics(),
            position=extra.get("position", Position(0, 0, Snapshot())),
            facts={"run_epoch": "3"},
        )
        script.wanted = loop.position.policy_version
        return loop, script

    yield make
    for publishing in opened:
        publishing.close(DEADLINE_SECONDS)


def rows(loop, name):
    path = loop.folder.path / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def saved_steps(loop):
    return sorted(path.name for path in loop.folder.checkpoints.glob("step_*"))


def test_weights_are_published_before_anything_is_asked_for_and_after_every_step(make_loop):
    loop, script = make_loop(max_steps=3)
    loop.run()
    assert script.log == [
        "evaluate",
        *["next_batch", "step 0", "trained"],
        *["next_batch", "step 1", "trained", "evaluate"],
        *["next_batch", "step 2", "trained", "evaluate"],
    ]
    assert script.published == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    assert [row["step"] for row in rows(loop, "eval.jsonl")] == [0, 2, 3]
    assert [row["policy_version"] for row in rows(loop, "eval.jsonl")] == [0, 2, 3]
    assert saved_steps(loop) == ["step_000002", "step_000003"]
    assert json.loads((loop.folder.path / "summary.json").read_text())["trained"] == 3


def test_the_last_evaluation_and_checkpoint_are_not_made_twice(make_loop):
    loop, script = make_loop(max_steps=4, interval=2)
    loop.run()
    assert [row["step"] for row in rows(loop, "eval.jsonl")] == [0, 2, 4]
    assert saved_steps(loop) == ["step_000002", "step_000004"]
    assert script.log[-1] == "evaluate"


def test_with_intervals_of_zero_it_evaluates_before_and_after_and_saves_at_the_end(make_loop):
    loop, _ = make_loop(max_steps=3, interval=0, checkpoints=0)
    loop.run()
    assert [row["step"] for row in rows(loop, "eval.jsonl")] == [0, 3]
    assert saved_steps(loop) == ["step_000003"]


def test_the_best_checkpoint_is_saved_between_intervals_and_kept(make_loop):
    keep = {"keep_last": 1, "keep_best": "accuracy/accuracy"}
    values = [0.1, 0.5, 0.9, 0.3, 0.9]  # at steps 0 to 4; the second 0.9 is no better
    loop, _ = make_loop(interval=1, checkpoints=0, keep=keep, values=values)
    loop.run()
    assert saved_steps(loop) == ["step_000002", "step_000004"]
    best = json.loads((loop.folder.checkpoints / "best.json").read_text())
    said = {"step": 2, "evaluator": "accuracy", "figure": "accuracy", "value": 0.9}
    assert best == said
    again, _ = make_loop(
        max_steps=6,
        interval=1,
        checkpoints=1,
        keep=keep,
        values=[0.8, 0.95],
        position=loop.position,
    )
    again.run()
    assert saved_steps(again) == ["step_000006"]
    assert json.loads((loop.folder.checkpoints / "best.json").read_text())["step"] == 6


def test_a_last_step_that_is_the_best_is_noted_though_it_was_saved_before(make_loop):
    keep = {"keep_last": 1, "keep_best": "-accuracy/accuracy"}
    loop, _ = make_loop(
        max_steps=2, interval=0, checkpoints=1, keep=keep, values=[0.2, 0.1], before=True
    )
    loop.run()
    assert saved_steps(loop) == ["step_000002"]
    assert json.loads((loop.folder.checkpoints / "best.json").read_text())["step"] == 2


def test_the_completions_of_an_evaluation_are_kept(make_loop):
    loop, _ = make_loop(max_steps=1, interval=0)
    loop.run()
    assert [row["prompt_id"] for row in rows(loop, "evaluations/step_000001/accuracy.jsonl")] == [
        "prompt-0",
        "other",
    ]


def test_without_held_out_prompts_or_before_training_there_is_no_evaluation(make_loop):
    loop, script = make_loop(max_steps=2, num_heldout=0)
    loop.run()
    assert "evaluate" not in script.log
    loop, script = make_loop(max_steps=1, before=False, interval=0)
    loop.run()
    assert script.log[:1] == ["next_batch"]


def test_the_end_of_the_data_ends_the_run_with_evaluation_and_checkpoint(make_loop):
    loop, script = make_loop(max_steps=9, interval=0, checkpoints=0, batches=3)
    loop.run()
    assert script.log[-2:] == ["next_batch", "evaluate"]
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [1, 2, 3]
    assert saved_steps(loop) == ["step_000003"]


def test_a_resumed_run_goes_on_with_the_next_step(make_loop):
    position = Position(5, 4, Snapshot(watermark=5))
    loop, script = make_loop(max_steps=7, interval=0, checkpoints=0, position=position)
    loop.run()
    assert script.log[:2] == ["next_batch", "step 5"]
    assert min(script.published) == 4
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [6, 7]
    assert [row["policy_version"] for row in rows(loop, "metrics.jsonl")] == [5, 6]
    assert saved_steps(loop) == ["step_000007"]


def test_a_resumed_run_that_was_complete_trains_no_more(make_loop):
    loop, script = make_loop(max_steps=5, position=Position(5, 5, Snapshot()))
    loop.run()
    assert script.log == ["evaluate"]
    assert [row["step"] for row in rows(loop, "eval.jsonl")] == [5]
    assert saved_steps(loop) == []  # its checkpoint is the one that it was resumed from


def test_a_resumed_run_does_not_evaluate_twice_where_it_stands(make_loop):
    loop, _ = make_loop(max_steps=5, interval=0, checkpoints=0)
    loop.run()
    before = rows(loop, "eval.jsonl")
    again, script = make_loop(max_steps=5, position=loop.position)
    again.run()
    assert script.log == []
    assert rows(again, "eval.jsonl") == before


def test_a_row_says_the_digests_of_its_rollouts_and_of_the_weights_that_it_published(make_loop):
    loop, script = make_loop(max_steps=3, interval=0, skips={1: "non_finite"})
    loop.run()
    first, skipped, last = rows(loop, "metrics.jsonl")
    for row in (first, skipped, last):
        path = loop.folder.path / "rollouts" / f"step_{row['step']:06d}.jsonl"
        assert row["digest/rollouts"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert "digest/masters" not in row  # a pass over all bytes: deterministic runs alone
    assert last["digest/weights"] == pack(script.masters.rounded().items()).digest
    assert first["digest/weights"] == skipped["digest/weights"] != last["digest/weights"]


def test_training_goes_on_while_a_version_is_being_encoded(make_loop):
    begun, go_on = threading.Event(), threading.Event()

    def encode(tensors, old, new):
        begun.set()
        assert go_on.wait(DEADLINE_SECONDS)
        return b""

    loop, script = make_loop(max_steps=5, interval=0, num_heldout=0, encode=encode)

    script.trained = lambda: setattr(script, "wanted", -1)  # batches are there already
    loop.run()
    assert begun.wait(DEADLINE_SECONDS)
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert list(script.published) == [0]  # actors wait for it, training does not
    assert {row["publish_bytes"] for row in rows(loop, "metrics.jsonl")} == {4}
    go_on.set()
    loop.publishing.close(DEADLINE_SECONDS)


def test_a_failure_to_publish_ends_the_run_with_its_reason(make_loop):
    def encode(tensors, old, new):
        raise MemoryError("no room for the delta")

    loop, _ = make_loop(max_steps=5, interval=0, encode=encode)
    with pytest.raises(RunStopped, match="publishing failed: MemoryError: no room for the delta"):
        loop.run()
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [1]


def test_a_row_says_what_the_newest_version_that_actors_can_have_has_cost(make_loop):
    loop, _ = make_loop(max_steps=2, interval=0)
    loop.run()
    for row in rows(loop, "metrics.jsonl"):
        assert (row["publish_bytes"], row["publish_full_bytes"]) == (4, 4)
        assert row["seconds/publish_encode"] > 0.0
        assert row["seconds/publish"] > 0.0
    assert publish_figures(Published(3, 0.5, 20, 300)) == {
        "seconds/publish_encode": 0.5,
        "publish_bytes": 20,
        "publish_full_bytes": 300,
    }
    assert set(publish_figures(None).values()) == {None}


def test_a_checkpoint_holds_the_facts_of_its_run(make_loop):
    loop, _ = make_loop(max_steps=2)
    loop.run()
    state = json.loads((loop.folder.checkpoints / "step_000002" / "trainer.json").read_text())
    assert state["facts"] == {"run_epoch": "3"}
    assert {row["run_epoch"] for row in rows(loop, "metrics.jsonl")} == {3}


@pytest.mark.parametrize("seconds_until_there_is_room", [12.0, 1e9])
def test_a_last_checkpoint_that_does_not_fit_is_tried_again_for_a_while(
    make_loop, monkeypatch, seconds_until_there_is_room
):
    loop, _ = make_loop(max_steps=1, interval=0, checkpoints=0)
    now = 0.0

    def store(folder, step, found):
        if now < seconds_until_there_is_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_store(folder, step, found)

    def sleep(seconds):
        nonlocal now
        now += seconds

    really_store = writer.store
    monkeypatch.setattr(writer, "store", store)
    loop.clock, loop.sleep = lambda: now, sleep
    if seconds_until_there_is_room < loop.config.learner.no_progress_seconds:
        loop.run()
        assert saved_steps(loop) == ["step_000001"]
        assert 12.0 <= now < 30.0
    else:
        with pytest.raises(CheckpointError, match="No space left"):
            loop.run()
        assert saved_steps(loop) == []
        assert now >= loop.config.learner.no_progress_seconds


def test_a_run_goes_no_further_than_one_checkpoint_that_does_not_fit(make_loop, monkeypatch):
    loop, _ = make_loop(max_steps=100, interval=0, checkpoints=2, before=False)
    now = 0.0

    def store(folder, step, found):
        raise OSError(errno.ENOSPC, "No space left on device")

    def sleep(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(writer, "store", store)
    loop.clock, loop.sleep = lambda: now, sleep
    with pytest.raises(CheckpointError, match="No space left"):
        loop.run()
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [1, 2, 3, 4]
    assert now >= loop.config.learner.no_progress_seconds


def test_the_last_checkpoint_is_there_even_if_the_last_evaluation_fails(make_loop):
    loop, script = make_loop(max_steps=3, interval=0, checkpoints=0, before=False)
    script.evaluate = lambda: ((),)
    with pytest.raises(RunStopped, match="lost all 2 prompts"):
        loop.run()
    assert saved_steps(loop) == ["step_000003"]


def test_a_skipped_step_raises_the_step_alone_and_drops_its_groups(make_loop):
    loop, script = make_loop(max_steps=3, interval=0, skips={1: "non_finite"})
    loop.run()
    assert script.log.count("trained") == 2
    assert "skip non_finite" in script.log
    found = rows(loop, "metrics.jsonl")
    assert [(row["step"], row["policy_version"]) for row in found] == [(1, 1), (2, 1), (3, 2)]
    assert [row["skipped"] for row in found] == ["", "non_finite", ""]
    assert found[1]["loss"] is None
    assert (loop.folder.path / "rollouts" / "step_000002.jsonl").exists()
    state = json.loads((loop.folder.checkpoints / "step_000002" / "trainer.json").read_text())
    assert (state["step"], state["policy_version"]) == (2, 1)
    assert state["ledger"]["watermark"] == 2
    assert state["ledger"]["counts"] == {"trained": 0, "dropped/non_finite": 1}


def test_three_skipped_steps_in_a_row_stop_the_run_with_the_reason(make_loop):
    skips = {0: "non_finite", 1: "non_finite", 3: "non_finite", 4: "masked", 5: "non_finite"}
    loop, script = make_loop(max_steps=9, interval=0, skips=skips)
    with pytest.raises(RunStopped, match=r"3 steps in a row were skipped: non_finite \(loss nan"):
        loop.run()
    assert script.log[-2:] == ["step 5", "skip non_finite"]
    assert [row["step"] for row in rows(loop, "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert "step_000006" not in saved_steps(loop)  # what led nowhere is no point to resume


def test_a_checkpoint_belongs_to_the_weights_that_its_batch_resulted_in(make_loop):
    loop, _ = make_loop(max_steps=2, checkpoints=2)
    loop.run()
    path = loop.folder.checkpoints / "step_000002"
    arrays = mx.load(str(path / "trainer.safetensors"))
    assert isinstance(arrays, dict)
    assert arrays["masters/weight"].item() == 2.0
    assert json.loads((path / "trainer.json").read_text())["ledger"]["watermark"] == 2


def test_metrics_follow_the_last_row(make_loop):
    loop, _ = make_loop(max_steps=2, interval=0)
    loop.run()
    assert loop.metrics.value("mlxrl_step") == 2
    assert loop.metrics.value("mlxrl_loss") == 0.5
    assert loop.metrics.value("mlxrl_reward_mean") == 1.0


def test_only_the_newest_checkpoints_are_kept(make_loop):
    loop, _ = make_loop(max_steps=5, checkpoints=1)
    loop.run()
    assert saved_steps(loop) == ["step_000003", "step_000004", "step_000005"]


def test_a_run_that_trained_nothing_is_a_failure_with_the_reason(make_loop):
    loop, _ = make_loop(max_steps=2, interval=0, skips={0: "masked", 1: "masked"})
    with pytest.raises(RunStopped, match="no step was trained: no sample has a reward"):
        loop.run()


def test_a_run_whose_last_step_alone_was_skipped_is_complete(make_loop):
    loop, _ = make_loop(max_steps=2, interval=0, skips={1: "masked"})
    loop.run()
    assert loop.position.policy_version == 1


@pytest.mark.parametrize(
    ("num_failed", "num_samples", "stops"),
    [(0, 8, False), (1, 8, False), (2, 8, True), (5, 1000, False), (6, 1000, True)],
)
def test_a_sandbox_that_fails_on_more_than_half_a_percent_stops_the_run(
    make_loop, make_sample, num_failed, num_samples, stops
):
    loop, script = make_loop(max_steps=1, num_heldout=0)
    broken = {"reward": None, "status": "sandbox_error"}
    samples = [
        replace(
            (sample := make_sample()),
            score=sample.score.model_copy(update={**broken, "detail": f"code: fault {index}"}),
        )
        if index < num_failed
        else make_sample()
        for index in range(num_samples)
    ]
    script.next_batch = lambda: ScoredBatch(tuple(samples), Snapshot())
    script.step = lambda samples, step, policy_version: StepResult(
        {"loss": 0.5, "learning_rate": 1e-3},
        np.zeros(len(samples), np.float32),
        tuple(np.full(2, -0.5, np.float32) for _ in samples),
        "",
    )
    if not stops:
        loop.run()
        return
    words = f"on {num_failed} of {num_samples} samples of step 1, the last: code: fault"
    with pytest.raises(RunStopped, match=f"{words} {num_failed - 1}"):
        loop.run()
    assert len(rows(loop, "metrics.jsonl")) == 1  # it is there to look at
