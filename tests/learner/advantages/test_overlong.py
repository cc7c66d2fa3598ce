import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages.overlong import soft_overlong_penalty


def test_the_penalty_falls_over_the_buffer_by_hand():
    # starts at 20 - 4 = 16: 17 -> -1/4, 18 -> -2/4, 20 -> -4/4, times 0.5
    found_B = soft_overlong_penalty(
        [0, 15, 16, 17, 18, 20, 30],
        max_completion_tokens=20,
        overlong_buffer=4,
        overlong_penalty=0.5,
    )
    assert found_B.tolist() == [0.0, 0.0, 0.0, -0.125, -0.25, -0.5, -0.5]
    assert found_B.dtype == np.float64


def test_without_a_buffer_only_what_is_beyond_the_limit_is_penalised():
    found_B = soft_overlong_penalty(
        [19, 20, 21], max_completion_tokens=20, overlong_buffer=0, overlong_penalty=1.0
    )
    assert found_B.tolist() == [0.0, 0.0, -1.0]


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 40))
def test_the_three_cases_of_the_papers_equation(num_tokens, max_tokens, buffer):
    start = max_tokens - buffer
    if num_tokens <= start:
        expected = 0.0
    elif num_tokens <= max_tokens:
        expected = (start - num_tokens) / buffer
    else:
        expected = -1.0
    found_B = soft_overlong_penalty(
        [num_tokens], max_completion_tokens=max_tokens, overlong_buffer=buffer, overlong_penalty=1.0
    )
    assert found_B.tolist() == pytest.approx([expected])
