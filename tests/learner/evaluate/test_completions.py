"""Given completions: what is read, matched and refused; scoring is the reward workers' own."""

import json

import pytest

from learner.evaluate.completions import evaluate_completions
from learner.evaluate.configured import Wanted, evaluation_config
from learner.run_folder import RunFolder
from protocol.errors import ConfigError, DataError

ROWS = [{"prompt": f"{n}+{n}=", "answer": str(2 * n)} for n in range(1, 5)]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def judge(data, tmp_path):
    """Writes a file of completions, evaluates it and returns the row and the samples."""

    def judge(lines, *evaluators):
        file = tmp_path / "given.jsonl"
        file.write_text("".join(line + "\n" for line in lines))
        wanted = Wanted(evaluators or ["accuracy"], [str(data)], ["exact_match"])
        evaluate_completions(evaluation_config(wanted, "builtin:tiny", "x"), file, tmp_path / "out")
        folder = RunFolder(tmp_path / "out")
        (row,) = folder.evaluations()
        samples = folder.evaluated_of(0, row["evaluator"]).read_text().splitlines()
        return row, [json.loads(sample) for sample in samples]

    return judge


def line(data, number, completion):
    return json.dumps({"prompt_id": f"{data}:{number}", "completion": completion})


def test_every_completion_is_scored_for_its_own_prompt(judge, data):
    # in another order than the data's: 8, 2 and 6 are right, 5 is not
    row, samples = judge(
        [line(data, n, text) for n, text in ((4, "8"), (1, "2"), (3, "6"), (2, "5"))]
    )
    assert (row["accuracy"], row["n"]) == (0.75, 4)
    assert [(s["prompt_id"], s["reward"]) for s in samples] == [
        (f"{data}:{n}", reward) for n, reward in ((1, 1.0), (2, 0.0), (3, 1.0), (4, 1.0))
    ]


def test_several_lines_of_a_prompt_are_its_samples(judge, data):
    lines = [line(data, n, text) for n in range(1, 5) for text in (str(2 * n), "0")]
    row, samples = judge(lines, "{name: pass_at_k, k: [1, 2], num_samples: 2, temperature: 1.0}")
    assert (row["pass_at_1"], row["pass_at_2"], len(samples)) == (0.5, 1.0, 8)


def test_a_prompt_without_completion_is_named(judge, data):
    with pytest.raises(DataError, match=r"for 3 of 4 prompts, such as .*data.jsonl:2"):
        judge([line(data, 1, "2")])


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"prompt_id": 3, "completion": "a"}', '{"completion": "a"}', '{"task_id": "a"}'],
)
def test_a_line_that_is_none_is_named(judge, text):
    with pytest.raises(DataError, match=r"given.jsonl:1: .*wanted \{"):
        judge([text])


def test_an_evaluator_of_models_cannot_judge_texts(judge, data):
    with pytest.raises(ConfigError, match="perplexity judges a model"):
        judge([line(data, 1, "2")], "perplexity")
