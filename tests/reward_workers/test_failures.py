import pytest

from reward_workers.failures import LOG_SECONDS, Failures


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_every_failure_is_counted_and_few_are_logged(clock, caplog):
    failures = Failures(clock)
    for _ in range(50):
        failures.record("mine", "ValueError: no")
    clock.now = LOG_SECONDS
    failures.record("mine", "ValueError: again")
    assert failures.by_reward() == {"mine": 51}
    assert [record.message for record in caplog.records] == [
        "reward mine failed on 1 samples, the last: ValueError: no",
        "reward mine failed on 50 samples, the last: ValueError: again",
    ]


def test_one_reward_does_not_silence_another(clock, caplog):
    failures = Failures(clock)
    failures.record("mine", "a")
    failures.record("yours", "b")
    assert len(caplog.records) == 2
