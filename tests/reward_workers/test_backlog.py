import pytest

from protocol.messages import Score, ScoreTask
from reward_workers import backlog as backlog_module
from reward_workers.backlog import MAX_BATCH, Backlog, Batch
from reward_workers.combine import NO_REWARD_APPLIES


def scores_of(batch: Batch | None) -> list[Score]:
    assert batch is not None
    return [score_of(task, batch.run_epoch) for task in batch.tasks]


def score_of(task: ScoreTask, run_epoch: int) -> Score:
    return Score(
        run_epoch=run_epoch,
        group_id=task.group_id,
        attempt=task.attempt,
        sample=task.sample,
        reward=1.0,
        rewards=(),
        status="ok",
    )


@pytest.fixture
def backlog():
    fresh = Backlog()
    fresh.begin(1, 2)
    return fresh


def take(backlog: Backlog) -> Batch:
    batch = backlog.take(0.0)
    assert batch is not None
    return batch


def test_waiting_samples_are_shared_evenly_among_free_lanes(backlog, make_work):
    backlog.add(make_work("a", "b", "c"))
    assert [len(take(backlog).tasks), len(take(backlog).tasks)] == [2, 1]
    assert backlog.take(0.0) is None


def test_no_more_batches_run_than_there_are_lanes(backlog, make_work):
    for first_sample in range(3):
        backlog.add(make_work("a", first_sample=first_sample))
    first, _ = take(backlog), take(backlog)
    backlog.add(make_work("d", first_sample=9))
    assert backlog.take(0.0) is None
    backlog.finish(first, scores_of(first))
    assert backlog.take(0.0) is not None


def test_a_batch_is_bounded(backlog, make_work):
    backlog.add(make_work(*["a"] * 200))
    assert len(take(backlog).tasks) == MAX_BATCH


def test_a_batch_is_of_one_suite(backlog, make_work):
    work = make_work("a", "b", "c", "d")
    tasks = [
        task.model_copy(update={"suite": suite})
        for task, suite in zip(work.tasks, ("", "x", "x", ""), strict=True)
    ]
    backlog.begin(1, 1)
    backlog.add(work.model_copy(update={"tasks": tuple(tasks)}))
    found = []
    for _ in range(3):
        batch = take(backlog)
        found.append([(task.completion, task.suite) for task in batch.tasks])
        backlog.finish(batch, scores_of(batch))
    assert found == [[("a", "")], [("b", "x"), ("c", "x")], [("d", "")]]


def test_a_batch_that_is_split_comes_back_one_by_one_before_all_others(backlog, make_work):
    backlog.add(make_work("a", "b", "c", "d"))
    first = take(backlog)
    backlog.split(first)
    assert backlog.waiting() == 4
    taken: list[list[str]] = []
    while backlog.waiting():
        batch = take(backlog)
        taken.append([task.completion for task in batch.tasks])
        backlog.finish(batch, scores_of(batch))
    assert taken == [["a"], ["b"], ["c"], ["d"]]


def test_a_batch_of_an_earlier_epoch_is_not_split_into_the_new_one(backlog, make_work):
    backlog.add(make_work("a", "b"))
    batch = take(backlog)
    backlog.begin(2, 2)
    backlog.split(batch)
    assert backlog.waiting() == 0


def test_a_sample_that_waits_or_runs_is_not_queued_again(backlog, make_work):
    backlog.add(make_work("a"))
    backlog.add(make_work("a"))
    assert backlog.waiting() == 1
    take(backlog)
    assert backlog.add(make_work("a")) == []
    assert backlog.waiting() == 0


def test_a_sample_that_was_scored_is_answered_from_memory(backlog, make_work):
    backlog.add(make_work("a"))
    batch = take(backlog)
    [score] = backlog.finish(batch, scores_of(batch))
    assert backlog.add(make_work("a")) == [score]
    assert backlog.waiting() == 0


@pytest.mark.parametrize("status", ["reward_timeout", "sandbox_error", "reward_error"])
def test_a_sample_whose_score_failed_is_scored_again_when_it_comes_again(
    backlog, make_work, status
):
    backlog.add(make_work("a"))
    batch = take(backlog)
    [given] = scores_of(batch)
    score = given.model_copy(update={"reward": None, "status": status})
    assert backlog.finish(batch, [score]) == [score]
    assert backlog.add(make_work("a")) == []
    again = take(backlog)
    assert backlog.add(make_work("a")) == []  # it is being scored
    [score] = backlog.finish(again, scores_of(again))
    assert backlog.add(make_work("a")) == [score]
    assert (backlog.waiting(), backlog.scored()) == (0, 2)


def test_a_sample_that_no_reward_applies_to_is_answered_from_memory(backlog, make_work):
    backlog.add(make_work("a"))
    batch = take(backlog)
    [given] = scores_of(batch)
    score = given.model_copy(update={"reward": None, "status": NO_REWARD_APPLIES})
    backlog.finish(batch, [score])
    assert backlog.add(make_work("a")) == [score]
    assert backlog.waiting() == 0


def test_memory_of_scores_is_bounded(backlog, make_work, monkeypatch):
    monkeypatch.setattr(backlog_module, "REMEMBERED_SCORES", 2)
    backlog.add(make_work("a", "b", "c"))
    for _ in range(2):
        batch = take(backlog)
        backlog.finish(batch, scores_of(batch))
    assert [score.sample for score in backlog.add(make_work("a", "b", "c"))] == [1, 2]
    assert backlog.waiting() == 1


def test_a_new_run_epoch_drops_what_waits_runs_and_was_scored(backlog, make_work):
    backlog.add(make_work("a", "b", "c"))
    first, second = take(backlog), take(backlog)
    backlog.finish(first, scores_of(first))
    backlog.add(make_work("d", first_sample=5))
    backlog.begin(2, 2)
    assert backlog.waiting() == 0
    assert backlog.finish(second, scores_of(second)) == []
    assert backlog.add(make_work("a", "b", "c", run_epoch=2)) == []
    assert backlog.waiting() == 3


def test_an_outdated_batch_does_not_free_the_same_sample_of_the_new_epoch(backlog, make_work):
    backlog.add(make_work("a"))
    old = take(backlog)
    backlog.begin(2, 2)
    backlog.add(make_work("a", run_epoch=2))
    take(backlog)
    backlog.finish(old, scores_of(old))
    backlog.add(make_work("a", run_epoch=2))
    assert backlog.waiting() == 0


def test_work_of_another_run_epoch_is_ignored(backlog, make_work):
    backlog.add(make_work("a", run_epoch=2))
    assert backlog.waiting() == 0


def test_busy_is_the_time_in_which_a_sample_waits_or_is_scored(make_work):
    now = 10.0
    backlog = Backlog(lambda: now)
    backlog.begin(1, 2)
    now = 12.0
    assert backlog.seconds() == {"busy_seconds": 0.0, "alive_seconds": 2.0}
    backlog.add(make_work("a", "b"))
    now = 13.0
    first, second = take(backlog), take(backlog)
    now = 14.0
    backlog.finish(first, scores_of(first))
    now = 17.0
    assert backlog.seconds() == {"busy_seconds": 5.0, "alive_seconds": 7.0}
    backlog.finish(second, scores_of(second))
    now = 20.0
    assert backlog.seconds() == {"busy_seconds": 5.0, "alive_seconds": 10.0}


def test_samples_that_a_new_run_epoch_drops_keep_nobody_busy(make_work):
    now = 0.0
    backlog = Backlog(lambda: now)
    backlog.begin(1, 2)
    backlog.add(make_work("a"))
    outdated = take(backlog)
    now = 1.0
    backlog.begin(2, 2)
    now = 5.0
    backlog.finish(outdated, scores_of(outdated))
    assert backlog.seconds() == {"busy_seconds": 1.0, "alive_seconds": 5.0}


def test_a_sample_that_was_scored_before_keeps_nobody_busy(make_work):
    now = 0.0
    backlog = Backlog(lambda: now)
    backlog.begin(1, 2)
    backlog.add(make_work("a"))
    batch = take(backlog)
    backlog.finish(batch, scores_of(batch))
    assert len(backlog.add(make_work("a"))) == 1
    now = 5.0
    assert backlog.seconds()["busy_seconds"] == 0.0
