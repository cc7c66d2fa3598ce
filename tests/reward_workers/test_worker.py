import json
from collections import deque
from collections.abc import Callable, Hashable

import pytest

from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.messages import Message, Score, Welcome
from protocol.peer import Ended, PeerStatus
from protocol.wire import Received
from reward_workers.backlog import Backlog, key_of
from reward_workers.worker import Worker

CONFIG = {
    "model": {"path": "builtin:tiny"},
    "data": {"train": ["arithmetic:add2"]},
    "rewards": [{"name": "exact_match"}],
    "learner": {"score_seconds": 10.0},
}


class FakeLink:
    """Gives out a script of messages and calls, then the end of the run."""

    def __init__(self, *script: Message | Callable[[], None]) -> None:
        self.script = deque(script)
        self.ended: Ended | None = None
        self.kept: list[tuple[Hashable, Score]] = []
        self.reports: list[PeerStatus] = []
        self.sent_now = 0

    def receive(self, timeout_seconds: float) -> Received | None:
        if not self.script:
            self.ended = Ended(0, "the run is over")
            return None
        event = self.script.popleft()
        if isinstance(event, Message):
            return Received(event, b"")
        event()
        return None

    def report(self, status: PeerStatus, *, now: bool = False) -> None:
        self.reports.append(status)
        self.sent_now += now

    def keep(self, key: Hashable, message: Message) -> None:
        assert isinstance(message, Score)
        self.kept.append((key, message))


class FakeScorer:
    """Scores each sample of a batch with 1 when the test says so."""

    def __init__(self, backlog: Backlog, link: FakeLink) -> None:
        self.backlog = backlog
        self.link = link
        self.begun: list[tuple[RunConfig, int]] = []
        self.woken = 0
        self.ready = False
        self.broken: Exception | None = None

    def begin(self, config: RunConfig, run_epoch: int) -> None:
        self.begun.append((config, run_epoch))
        self.ready = False

    def get_ready(self) -> None:
        self.backlog.begin(self.begun[-1][1], 2)
        self.ready = True

    def wake(self) -> None:
        self.woken += 1

    def check(self) -> bool:
        if self.broken:
            raise self.broken
        return self.ready

    def figures(self) -> dict[str, float]:
        return {"children": 2.0}

    def score_all(self) -> None:
        while batch := self.backlog.take(0.0):
            scores = [
                Score(
                    run_epoch=batch.run_epoch,
                    group_id=task.group_id,
                    attempt=task.attempt,
                    sample=task.sample,
                    reward=1.0,
                    rewards=(),
                    status="ok",
                )
                for task in batch.tasks
            ]
            for score in self.backlog.finish(batch, scores):
                self.link.keep(key_of(score), score)


def welcome(run_epoch: int = 1, **changes: object) -> Welcome:
    return Welcome(
        run_id="r",
        run_epoch=run_epoch,
        policy_version=0,
        config=json.dumps(CONFIG | changes),
        host="elsewhere",
        run_dir="/nowhere",
    )


@pytest.fixture
def link():
    return FakeLink()


@pytest.fixture
def scorer(link):
    return FakeScorer(Backlog(), link)


@pytest.fixture
def work_through(link, scorer):
    def run(*script: Message | Callable[[], None], slots: int = 8) -> Ended:
        link.script.extend(script)
        return Worker(link, slots, scorer.backlog, scorer).run()

    return run


def kept_rewards(link: FakeLink) -> list[tuple[int, float | None]]:
    return [(score.sample, score.reward) for _, score in link.kept]


def test_completions_come_back_as_scores_under_the_key_of_their_ack(
    make_work, work_through, link, scorer
):
    work = make_work("85", "84")
    ended = work_through(welcome(), scorer.get_ready, work, scorer.score_all)
    assert ended == Ended(0, "the run is over")
    assert kept_rewards(link) == [(0, 1.0), (1, 1.0)]
    assert [key for key, _ in link.kept] == [(7, 1, 0), (7, 1, 1)]
    assert scorer.woken == 1


def test_nothing_is_offered_before_the_scorer_is_ready_and_all_slots_at_once_then(
    work_through, link, scorer
):
    work_through(lambda: None, welcome(), lambda: None, scorer.get_ready, slots=5)
    assert [status.capacity for status in link.reports] == [5, 5]  # ready, and the run's end
    assert link.sent_now == 1
    assert [(config.rewards[0].name, epoch) for config, epoch in scorer.begun] == [
        ("exact_match", 1)
    ]


def test_heartbeats_tell_what_is_done_what_waits_and_of_the_children(
    make_work, work_through, link, scorer
):
    take = lambda: scorer.backlog.take(0.0)  # noqa: E731
    work_through(welcome(), scorer.get_ready, make_work("85", "84", "83"), take)
    busy = link.reports[-1]
    assert (busy.state, busy.metrics["batches_running"]) == ("scoring", 1.0)
    assert (busy.metrics["samples_waiting"], busy.metrics["children"]) == (1.0, 2.0)
    assert 0.0 < busy.metrics["busy_seconds"] < busy.metrics["alive_seconds"]


def test_a_sample_that_was_scored_is_answered_again_without_a_call(
    make_work, work_through, link, scorer
):
    again = make_work("85")
    work_through(welcome(), scorer.get_ready, make_work("85"), scorer.score_all, again)
    assert kept_rewards(link) == [(0, 1.0), (0, 1.0)]
    assert scorer.backlog.waiting() == 0


def test_a_second_welcome_of_the_same_epoch_begins_nothing_and_is_answered_at_once(
    work_through, link, scorer
):
    work_through(welcome(), scorer.get_ready, welcome())
    assert len(scorer.begun) == 1
    assert link.sent_now == 2


def test_a_new_run_epoch_begins_anew(make_work, work_through, link, scorer):
    length = [{"name": "length_penalty", "max_tokens": 1, "buffer": 1}]
    work_through(
        welcome(),
        scorer.get_ready,
        make_work("85", "85", "85"),
        welcome(2, rewards=length),
        scorer.get_ready,
        scorer.score_all,
        make_work("85", run_epoch=2),
        scorer.score_all,
    )
    assert [config.rewards[0].name for config, _ in scorer.begun] == [
        "exact_match",
        "length_penalty",
    ]
    assert [(score.run_epoch, score.reward) for _, score in link.kept] == [(2, 1.0)]


def test_a_config_of_another_checkout_ends_the_worker(work_through):
    with pytest.raises(ConfigError, match="gone"):
        work_through(welcome(gone=1))


def test_what_broke_the_scorer_ends_the_worker(work_through, scorer):
    scorer.broken = ConfigError("no such reward")
    with pytest.raises(ConfigError, match="no such reward"):
        work_through(welcome())


def test_the_links_end_is_the_workers_end(work_through, link):
    link.ended = Ended(2, "refused")
    assert work_through(welcome()) == Ended(2, "refused")


def test_a_report_belongs_to_the_run_epoch_that_the_worker_is_ready_for(work_through, link, scorer):
    seen: list[int] = []

    def look() -> None:
        seen.append(link.reports[-1].run_epoch)

    idle = [look] * 2
    work_through(welcome(1), scorer.get_ready, *idle, welcome(2), *idle, scorer.get_ready, *idle)
    assert seen == [1, 1, 1, 1, 2, 2]
