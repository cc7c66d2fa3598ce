"""Two models on the same prompts, by hand."""

import json

import pytest

from learner.evaluate.compare import compare, prompt_rewards
from protocol.errors import ConfigError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_prompts_samples_are_averaged_and_masked_ones_left_out(tmp_path):
    rows = [("a", 1.0), ("a", 0.0), ("b", None), ("b", 0.5), ("c", None)]
    file = write(tmp_path / "s.jsonl", [{"prompt_id": p, "reward": r} for p, r in rows])
    assert prompt_rewards(file) == {"a": 0.5, "b": 0.5}


def test_only_shared_prompts_count():
    first = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 0.0}
    second = {"b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0}
    found = compare(first, second)
    assert (found.num_prompts, found.num_left_out) == (3, 2)
    assert (found.first, found.second) == (pytest.approx(1 / 3), 1.0)
    assert (found.better, found.worse) == (2, 0)
    # two discordant pairs, both for the second: 2 * (1/2)^2
    assert found.p_value == pytest.approx(0.5)


def test_ten_wins_and_no_loss_are_no_chance():
    first, second = {str(i): 0.0 for i in range(10)}, {str(i): 1.0 for i in range(10)}
    assert compare(first, second).p_value == pytest.approx(2 / 2**10)


def test_evaluations_of_other_prompts_are_refused():
    with pytest.raises(ConfigError, match="share no prompt"):
        compare({"a": 1.0}, {"b": 1.0})


@pytest.mark.parametrize("text", ["no json\n", '{"prompt_id": "a"}\n', "[1]\n"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    file = tmp_path / "s.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"cannot read the samples of .*s\.jsonl"):
        prompt_rewards(file)
    with pytest.raises(ConfigError, match="cannot read the samples"):
        prompt_rewards(tmp_path / "none.jsonl")
