"""The process that scores again: its answers, its failures and its end."""

import psutil
import pytest

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.replay.rebuild import Rebuilt
from learner.replay.rescorer import Rescorer, requests_of
from protocol.errors import ConfigError, TrainerError


@pytest.fixture
def config(make_config):
    return make_config(reward_worker={"processes": 1})


@pytest.fixture
def batch(make_sample):
    """Completions of which the first of each three is right."""
    samples = [make_sample(sample=index) for index in range(30)]
    prompts = [
        TokenizedPrompt(
            Row("p", "0+1=", {"answer": "completion 0/" + str(index - index % 3)}), (7,)
        )
        for index in range(30)
    ]
    return Rebuilt([{} for _ in samples], samples, prompts)


def answers(rescorer, batch):
    rescorer.ask(requests_of(batch))
    return rescorer.answers(len(batch.samples))


def test_batch_after_batch_is_answered_in_its_order(config, batch):
    with Rescorer(config) as rescorer:
        for _ in range(2):
            found = answers(rescorer, batch)
            assert [answer["reward"] for answer in found] == [1.0, 0.0, 0.0] * 10
            assert found[0]["rewards"] == {"exact_match": 1.0}
            assert found[0]["status"] == "ok"
        started = psutil.Process().children(recursive=True)
        assert len(started) >= 2
    assert psutil.wait_procs(started, timeout=5)[1] == []


def test_a_config_that_cannot_be_used_is_refused_in_the_processes_own_words(make_config, batch):
    config = make_config(rewards=[{"name": "gone"}])
    with Rescorer(config) as rescorer, pytest.raises(ConfigError, match="unknown reward"):
        answers(rescorer, batch)


def test_a_process_that_dies_is_an_error_and_no_silence(config, batch):
    with Rescorer(config) as rescorer:
        (process,) = psutil.Process().children()
        process.kill()
        with pytest.raises(TrainerError, match="scoring again was killed by SIGKILL"):
            answers(rescorer, batch)


def test_an_end_in_the_middle_of_a_batch_leaves_nothing_behind(config, batch):
    with Rescorer(config) as rescorer:
        rescorer.ask(requests_of(batch))
        rescorer.answers(1)
        started = psutil.Process().children(recursive=True)
    assert psutil.wait_procs(started, timeout=5)[1] == []
