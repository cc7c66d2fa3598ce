"""What is printed of an evaluation."""

import json

from learner.evaluate.compare import Comparison
from learner.evaluate.report import as_json, print_tables, sentence

FOUND = Comparison(
    num_prompts=20, num_left_out=1, first=0.25, second=0.5, better=6, worse=1, p_value=0.125
)
MODELS = {
    "one": {"accuracy": {"step": 0, "accuracy": 0.25, "accuracy_low": 0.1, "accuracy_high": 0.4}},
    "two": {"accuracy": {"accuracy": None, "n": 20}},
}


def test_intervals_stand_beside_their_figure(capsys):
    print_tables(MODELS, {"accuracy": FOUND})
    said = " ".join(capsys.readouterr().out.split())
    assert "0.25 (0.1 to 0.4)" in said
    assert "accuracy_low" not in said
    assert "step" not in said
    assert "paired p = 0.125" in said


def test_a_comparison_in_words():
    assert sentence("gsm8k", FOUND) == (
        "gsm8k: mean reward 0.2500 -> 0.5000 on 20 shared prompts (1 in one only): 6 better, "
        "1 worse, paired p = 0.125"
    )


def test_a_program_gets_all_of_it():
    tree = json.loads(json.dumps(as_json(MODELS, {"accuracy": FOUND})))
    assert tree["models"]["two"]["accuracy"] == {"accuracy": None, "n": 20}
    assert tree["comparisons"]["accuracy"]["p_value"] == 0.125
