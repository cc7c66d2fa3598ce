from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.config import RewardConfig
from protocol.errors import ConfigError
from reward_workers.binding import bind_rewards
from reward_workers.rewards.length_penalty import length_penalty


def test_the_papers_numbers_by_hand():
    # DAPO: L_max = 20480, L_cache = 4096, so free up to 16384
    # 17408 tokens: (20480 - 4096 - 17408) / 4096 = -1024 / 4096 = -0.25
    tokens = [0, 16384, 16385, 17408, 18432, 20480, 20481, 10**6]
    expected = [0.0, 0.0, -1 / 4096, -0.25, -0.5, -1.0, -1.0, -1.0]
    assert length_penalty(tokens, max_tokens=20480, buffer=4096) == expected


limits = st.integers(1, 5000).flatmap(lambda high: st.tuples(st.just(high), st.integers(1, high)))


@given(limits, st.integers(0, 10_000))
def test_longer_is_never_better(limit, tokens):
    max_tokens, buffer = limit
    penalties = length_penalty([tokens, tokens + 1], max_tokens=max_tokens, buffer=buffer)
    shorter, longer = cast(list[float], penalties)
    assert -1.0 <= longer <= shorter <= 0.0


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"max_tokens": 8, "buffer": 9}, "'length_penalty': buffer 9 is above max_tokens 8"),
        ({"max_tokens": 8, "buffer": 0}, "'buffer': Input should be greater than 0"),
        ({"max_tokens": 8}, "needs the parameter 'buffer'"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_the_start(parameters, sentence):
    with pytest.raises(ConfigError, match=sentence):
        bind_rewards([RewardConfig.model_validate({"name": "length_penalty", **parameters})])
