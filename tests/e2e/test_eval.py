"""mlx-eval as a user starts it: models, given completions, wrong input."""

import json
import sys
from pathlib import Path

import pytest

from learner.data.human_eval import human_eval_rows

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MLX_EVAL = Path(sys.executable).with_name("mlx-eval")
ON_SUMS = ("--evaluator", "accuracy", "--data", "arithmetic:add2?count=96", "--reward")


@pytest.fixture
def evaluate(start, tmp_path):
    """Runs mlx-eval to its end; returns the run and, of a good one, the printed JSON."""

    def evaluate(*options):
        run = start(MLX_EVAL, *options, "--json", run_dir=tmp_path / "out")
        if run.ends(120):
            return run, None
        return run, json.loads(run.stdout.splitlines()[-1])

    return evaluate


def completions(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_models_are_compared_on_the_same_prompts(evaluate, tmp_path):
    first = evaluate("--model", "builtin:tiny", *ON_SUMS, "exact_match", "--out", tmp_path / "one")
    figures = first[1]["models"]["builtin:tiny"]["accuracy"]
    assert 0.2 < figures["accuracy"] < 0.6
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    folder = Path(__file__).resolve().parents[2] / "protocol" / "builtin" / "tiny"
    models = ("--model", "builtin:tiny", "--model", folder)
    _, said = evaluate(*models, *ON_SUMS, "exact_match", "--out", tmp_path / "two")
    # evaluated twice, as a name and as a folder: the same figure each time
    for again in said["models"].values():
        assert again["accuracy"]["accuracy"] == figures["accuracy"]
    compared = said["comparisons"]["accuracy"]
    assert compared["num_prompts"] == 96
    assert (compared["better"], compared["worse"], compared["p_value"]) == (0, 0, 1.0)


def test_human_evals_own_solutions_pass_and_empty_ones_do_not(evaluate, tmp_path):
    rows = [row for _, row in human_eval_rows("human_eval", {"solution": "1"})]
    places = [place.removeprefix("human_eval:") for place, _ in human_eval_rows("human_eval", {})]
    solved = [
        {"task_id": place, "completion": f"```python\n{r['prompt']}{r['canonical_solution']}```"}
        for place, r in zip(places, rows, strict=True)
    ]
    empty = [{"task_id": place, "completion": ""} for place in places]
    files = [
        completions(tmp_path / f"{name}.jsonl", made)
        for name, made in (("empty", empty), ("solved", solved))
    ]
    options = [part for file in files for part in ("--completions", file)]
    _, said = evaluate(*options, "--evaluator", "human_eval", "--out", tmp_path / "human_eval")
    by_file = {Path(name).stem: found["human_eval"] for name, found in said["models"].items()}
    assert (by_file["empty"]["pass_at_1"], by_file["empty"]["n"]) == (0.0, 164)
    assert (by_file["solved"]["pass_at_1"], by_file["solved"]["n"]) == (1.0, 164)
    assert said["comparisons"]["human_eval"]["better"] == 164
    assert said["comparisons"]["human_eval"]["p_value"] < 1e-40


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--evaluator", "accuracy"), "give --model, or --completions"),
        (("--model", "builtin:tiny", "--evaluator", "acuracy"), "accuracy"),
        (("--model", "builtin:tiny", "--evaluator", "{num_samples: 2}"), "no name in it"),
        (("--model", "builtin:tiny", *ON_SUMS, "exact_mach"), "exact_match"),
        (("--model", "builtin:tiny", *ON_SUMS[:-1]), "no rewards"),
        (("--model", "builtin:tiny", "--evaluator", "accuracy"), "no prompts"),
        (("--model", "no/such/folder", *ON_SUMS, "exact_match"), "no model at no/such/folder"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(evaluate, tmp_path, options, told):
    run, _ = evaluate(*options, "--out", tmp_path / "wrong")
    assert run.ends() == 2, run.tail()
    assert run.last_error.startswith("error: ")
    assert told in run.last_error
    assert not (tmp_path / "wrong").exists()
