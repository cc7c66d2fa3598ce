import pytest

from actors.completion import Completion


@pytest.fixture
def completion(make_lease):
    return Completion(make_lease(4, (7, 8, 9), attempt=2), sample=1, seed=5, started=0.0)


def test_versions_are_counted_in_runs(completion):
    for version in (3, 3, 4, 4, 4, 6):
        completion.append(9, -0.5, version)
    assert completion.policy_versions == [(3, 2), (4, 3), (6, 1)]
    assert completion.token_ids == [9] * 6
    assert completion.behaviour_logprobs == [-0.5] * 6


def test_the_prompts_last_token_is_the_first_input(completion):
    assert completion.next_input() == 9
    completion.append(11, -0.5, 3)
    assert completion.next_input() == 11


def test_it_lives_until_it_is_finished_or_cancelled(completion, make_lease):
    assert completion.is_live and completion.attempt == (4, 2)
    completion.finish_reason = "stop"
    assert not completion.is_live
    cancelled = Completion(make_lease(), sample=0, seed=5, started=0.0, is_cancelled=True)
    assert not cancelled.is_live
