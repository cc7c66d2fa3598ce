import json
import threading
from collections import deque
from collections.abc import Callable, Hashable

import pytest

from protocol.errors import ConfigError, RewardError, UnknownPluginError
from protocol.messages import Message, Score, ScoreWork, Welcome
from protocol.peer import Ended, PeerStatus
from protocol.wire import Received
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


class Threads:
    """Holds calls until the test runs them."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def start(self, run: Callable[[], None]) -> None:
        self.calls.append(run)

    def run_one(self) -> None:
        self.calls.popleft()()

    def run_all(self) -> None:
        while self.calls:
            self.run_one()


def welcome(run_epoch: int = 1, **changes: object) -> Welcome:
    return Welcome(
        run_id="r",
        run_epoch=run_epoch,
        policy_version=0,
        config=json.dumps(CONFIG | changes),
        host="elsewhere",
        run_dir="/nowhere",
    )


def work_through(link: FakeLink, threads: Threads, slots: int = 8, clock=lambda: 0.0) -> Ended:
    return Worker(link, slots, max_threads=2, start=threads.start, clock=clock).run()


def kept_rewards(link: FakeLink) -> list[tuple[int, float | None]]:
    return [(score.sample, score.reward) for _, score in link.kept]


def test_completions_come_back_as_scores_under_the_key_of_their_ack(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85", "84"), threads.run_all)
    assert work_through(link, threads) == Ended(0, "the run is over")
    assert kept_rewards(link) == [(0, 1.0), (1, 0.0)]
    assert [key for key, _ in link.kept] == [(7, 1, 0), (7, 1, 1)]
    assert {score.run_epoch for _, score in link.kept} == {1}


def test_nothing_is_offered_before_the_welcome_and_all_slots_after_it():
    link = FakeLink(lambda: None, welcome())
    work_through(link, Threads(), slots=5)
    assert [status.capacity for status in link.reports] == [5, 5, 5]
    assert link.sent_now == 1


def test_heartbeats_tell_what_is_done_and_what_waits(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85", "84", "83"), threads.run_all)
    work_through(link, threads)
    busy, done = link.reports[-3], link.reports[-1]
    assert (busy.state, busy.metrics["batches_running"]) == ("scoring", 2.0)
    assert (done.state, done.metrics["scores_total"]) == ("idle", 3.0)


def test_the_loop_goes_on_while_a_reward_runs(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85"), lambda: None, threads.run_all)
    work_through(link, threads)
    assert len(link.reports) >= 4


def test_a_repeated_sample_is_not_scored_twice(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85"), make_work("85"), threads.run_all)
    work_through(link, threads)
    assert kept_rewards(link) == [(0, 1.0)]


def test_a_sample_that_was_scored_is_answered_again_without_a_call(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85"), threads.run_all, make_work("85"))
    work_through(link, threads)
    assert kept_rewards(link) == [(0, 1.0), (0, 1.0)]
    assert not threads.calls


def test_a_second_welcome_of_the_same_epoch_drops_nothing(make_work):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85"), welcome(), threads.run_all)
    work_through(link, threads)
    assert kept_rewards(link) == [(0, 1.0)]


def test_a_new_run_epoch_drops_what_is_queued_and_takes_the_new_rewards(make_work):
    threads = Threads()
    length = [{"name": "length_penalty", "max_tokens": 1, "buffer": 1}]
    link = FakeLink(
        welcome(),
        make_work("85", "85", "85"),
        welcome(2, rewards=length),
        threads.run_all,
        make_work("85", run_epoch=2),
        threads.run_all,
    )
    work_through(link, threads)
    assert [(score.run_epoch, score.reward) for _, score in link.kept] == [(2, -1.0)]


def test_a_failing_reward_is_a_status_and_is_counted(make_work):
    threads = Threads()
    rewards = [{"name": "exact_match", "column": "gone"}]
    link = FakeLink(welcome(rewards=rewards), make_work("85", "84"), threads.run_all)
    work_through(link, threads)
    assert [score.status for _, score in link.kept] == ["reward_error"] * 2
    assert "lacks the column 'gone'" in link.kept[0][1].detail
    assert link.reports[-1].metrics["reward_errors_total"] == 2.0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"rewards": [{"name": "gone"}]}, UnknownPluginError),
        ({"rewards": [{"name": "exact_match", "gone": 1}]}, ConfigError),
        ({"gone": 1}, ConfigError),
    ],
)
def test_rewards_that_cannot_be_used_end_the_worker(changes, error):
    with pytest.raises(error, match="gone"):
        work_through(FakeLink(welcome(**changes)), Threads())


def test_the_links_end_is_the_workers_end():
    link = FakeLink(welcome())
    link.ended = Ended(2, "refused")
    assert work_through(link, Threads()) == Ended(2, "refused")


def test_a_worker_with_a_thread_left_goes_on_and_one_without_gives_up(make_work):
    times = {"now": 0.0}
    one_hangs = [
        welcome(),
        make_work("85"),
        lambda: times.update(now=11.0),  # score_seconds is 10, and the batch has one sample
    ]
    link = FakeLink(*one_hangs)
    assert work_through(link, Threads(), clock=lambda: times["now"]).exit_code == 0
    both_hang: list[ScoreWork | Callable[[], None]] = [
        make_work("85", first_sample=1),
        lambda: times.update(now=30.0),
    ]
    times["now"] = 0.0
    link = FakeLink(*one_hangs, *both_hang)
    with pytest.raises(RewardError, match=r"all 2 threads hang in reward calls, .* for 30 s"):
        work_through(link, Threads(), clock=lambda: times["now"])


def test_our_own_bug_in_a_thread_reaches_the_loop(make_work, monkeypatch):
    threads = Threads()
    link = FakeLink(welcome(), make_work("85"), threads.run_all)
    monkeypatch.setattr("reward_workers.worker.Scorer.score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work_through(link, threads)


def test_rewards_run_in_threads_of_their_own(make_work):
    done = threading.Event()
    link = FakeLink(welcome(), make_work("85", "84"), lambda: assert_set(done))
    link.keep = lambda key, message: done.set()
    Worker(link, 8, max_threads=2).run()
    assert done.is_set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(10.0)
