"""Which checkpoint is the best, through saves that fail, restarts and other figures."""

import json
import logging

import pytest

from learner.checkpoints.best import BestCheckpoint


def row(step, value, evaluator="accuracy", **more):
    return {"step": step, "evaluator": evaluator, "accuracy": value, **more}


def said(folder):
    path = folder / "best.json"
    return json.loads(path.read_text())["step"] if path.exists() else None


def test_the_best_is_noted_once_its_checkpoint_is_on_disk(tmp_path):
    best = BestCheckpoint(tmp_path, "accuracy/accuracy")
    assert best.offer([row(2, 0.5), row(2, 9.0, "other")])
    assert (best.step, said(tmp_path)) == (None, None)
    best.saved(1)
    assert best.step is None
    best.saved(2)
    assert (best.step, said(tmp_path)) == (2, 2)
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "step": 2,
        "evaluator": "accuracy",
        "figure": "accuracy",
        "value": 0.5,
    }
    assert not best.offer([row(3, 0.5)])  # not better
    assert not best.offer([row(3, float("nan"))])
    assert best.offer([row(4, 0.6)])
    assert best.step == 2  # until the better one is there
    best.saved(4)
    assert (best.step, said(tmp_path)) == (4, 4)


def test_smaller_may_be_better(tmp_path):
    best = BestCheckpoint(tmp_path, "-perplexity/perplexity")
    assert best.offer([{"step": 1, "evaluator": "perplexity", "perplexity": 3.0}])
    assert not best.offer([{"step": 2, "evaluator": "perplexity", "perplexity": 4.0}])
    assert best.offer([{"step": 3, "evaluator": "perplexity", "perplexity": 2.0}])


def test_a_start_takes_the_best_that_still_has_a_checkpoint(tmp_path):
    rows = [row(2, 0.5), row(4, 0.9), row(6, 0.7)]
    for step in (2, 6):
        (tmp_path / f"step_{step:06d}").mkdir()
    (tmp_path / "best.json").write_text('{"step": 4}')  # of a future that was set aside
    best = BestCheckpoint(tmp_path, "accuracy/accuracy", rows)
    assert (best.step, said(tmp_path)) == (6, 6)
    assert not best.offer([row(8, 0.6)])
    assert BestCheckpoint(tmp_path, "-accuracy/accuracy", rows).step == 2


@pytest.mark.parametrize("keep_best", ["", "accuracy/accuracy"])
def test_without_evaluations_or_a_wish_nothing_is_the_best(tmp_path, keep_best):
    (tmp_path / "best.json").write_text('{"step": 4}')
    best = BestCheckpoint(tmp_path, keep_best, [] if keep_best else [row(2, 0.5)])
    assert (best.step, said(tmp_path)) == (None, None)
    assert best.offer([row(3, 0.1)]) is bool(keep_best)


def test_a_figure_that_the_evaluator_lacks_is_told(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    assert not BestCheckpoint(tmp_path, "accuracy/acuracy").offer([row(3, 0.1)])
    assert "wants acuracy of the evaluator accuracy" in caplog.text
