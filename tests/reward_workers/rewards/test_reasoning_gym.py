import importlib
import json
import math
import os
from typing import cast

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError
from reward_workers.binding import bind_rewards
from reward_workers.reasoning_guard import ALGEBRA, ARITHMETIC, EVALUATED, may_be_scored
from reward_workers.rewards.reasoning_gym import find_answer, reasoning_gym

# a part of it is compiled, so a machine without a compiler goes without; CI may not
library = (
    importlib.import_module("reasoning_gym")
    if os.environ.get("CI")
    else pytest.importorskip("reasoning_gym")
)

GCD = {"question": "gcd of 12 and 18?", "answer": "6", "metadata": {}}


def score(completion, entry=GCD, task="gcd", options=None, **parameters):
    rows = [completion], [task], [entry], [options or {}]
    (found,) = cast(list[float], reasoning_gym(*rows, **parameters))
    return found


def entry_of(task):
    return json.loads(json.dumps(library.create_dataset(task, size=1, seed=3)[0]))


@pytest.mark.parametrize(
    ("completion", "untagged", "answer"),
    [
        ("so <answer> 6 </answer> ok", "none", "6"),
        ("<answer>5</answer> no <answer>6</answer>", "none", "6"),
        ("<think><answer>5</answer></think>6", "none", None),
        ("<answer>6", "none", None),
        ("6</answer>", "none", None),
        ("a\nb\n 6 \n", "last_line", "6"),
        ("a\n6", "text", "a\n6"),
        ("1,234 is 6.50 ok", "last_number", "6.50"),
        ("none", "last_number", None),
        ("<answer>" * 3 + "6</answer>", "none", "6"),
    ],
)
def test_the_answer_is_found(completion, untagged, answer):
    assert find_answer(completion, untagged) == answer


def test_the_tasks_own_scorer_decides():
    assert score("<answer>6</answer>") == 1.0
    assert score("<answer>7</answer>") == 0.0
    assert score("The GCD is 6.", untagged="last_number") == 1.0
    assert score("The GCD is 6.", untagged="none") == 0.0


def test_the_scorer_has_the_options_of_the_data_source():
    entry = {"question": "q", "answer": "9*2 + 5 + 1", "metadata": {}}
    assert score("9*2 + 5 + 1", entry, "puzzle24") == 1.0
    assert score("9*2 + 5 + 1", entry, "puzzle24", {"max_value": 8}) == 0.01


@pytest.mark.parametrize("task", sorted(EVALUATED | ARITHMETIC | ALGEBRA))
def test_the_right_answer_passes_the_guard(task):
    entry = entry_of(task)
    assert score(f"<answer>{entry['answer']}</answer>", entry, task) == 1.0


@pytest.mark.parametrize(
    ("task", "answer", "allowed"),
    [
        ("spiral_matrix", "[1, 2, 3]", True),
        ("spiral_matrix", "(1, 2, 3)", True),
        ("spiral_matrix", "range(3)", False),
        ("spiral_matrix", "[x for x in 'ab' for x in 'ab']", False),
        ("n_queens", "_ Q _\nQ _ _", True),
        ("n_queens", "9**9**9", False),
        ("n_queens", "f'{open}'", False),
        ("countdown", "3*(4 + 5)/2 - 1", True),
        ("countdown", "x + 1", False),
        ("countdown", "exit()", False),
        ("simple_integration", "X**3/3 + 0.5*X + C", True),
        ("simple_integration", "sin(2*X) + exp(X)", True),
        ("simple_integration", "Integral(X, X)", False),
        ("simple_integration", "X.func", False),
        ("simple_integration", "X.\nfunc", False),
        ("simple_integration", "1.func", False),
        ("simple_integration", "Y", False),
        ("simple_integration", "'X'", False),
        ("simple_integration", "X if X else 1", False),
        ("simple_integration", "X[0]", False),
        ("simple_integration", "\u017fin(X)", False),  # Python folds this letter to an s
        ("gcd", "exit()", True),
    ],
)
def test_an_answer_that_would_act_is_never_evaluated(task, answer, allowed):
    assert may_be_scored(task, answer, {"variable": "X"}) is allowed


@pytest.mark.parametrize("bomb", ["9**9**9", "((9**99)**99)**99**99", "(1+1)**(10**9)"])
def test_an_answer_that_takes_too_long_scores_nothing(bomb):
    assert score(bomb, entry_of("countdown"), "countdown", max_seconds=0.3) <= 0.01


@pytest.mark.parametrize("answer", ["nan", "inf", "[", "{}", "\ud800", "0" * 5_000, "(" * 1_000])
@pytest.mark.parametrize("task", ["gcd", "polynomial_equations", "codeio", "countdown", "boxnet"])
def test_a_strange_answer_is_a_bad_one_and_no_failure(task, answer):
    assert 0.0 <= score(f"<answer>{answer}</answer>", entry_of(task), task) < 1.0


@pytest.mark.parametrize(
    ("task", "entry", "options", "message"),
    [
        ("nope", GCD, {}, "no task 'nope'"),
        (None, GCD, {}, "not of the data source"),
        ("gcd", "text", {}, "not of the data source"),
        ("gcd", {"answer": "6"}, {}, r"the entry has \['answer'\]"),
        ("gcd", GCD, {"x": 1}, "does not take"),
        ("n_queens", GCD, {}, "cannot read the row"),
    ],
)
def test_a_row_that_cannot_be_scored_is_an_error(task, entry, options, message):
    with pytest.raises(RewardError, match=message):
        reasoning_gym(["<answer>6</answer>"], [task], [entry], [options])


# One task leaves its data file to the garbage collector.
left_open = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


ACTIONS = (
    "open({path!r}, 'w')",
    "__import__('os').mkdir({path!r})",
    "[open({path!r}, 'w')]",
    "S(1).__class__.__init__.__globals__['__builtins__']['open']({path!r}, 'w')",
    '{{"a": open({path!r}, "w")}}',
)


def test_an_unguarded_scorer_does_run_the_answer(tmp_path):
    # The control: without the guard, the first of the actions acts.
    entry = entry_of("countdown")
    answer = ACTIONS[0].format(path=str(tmp_path / "marker"))
    with pytest.warns(ResourceWarning):
        library.get_score_answer_fn("countdown")(answer, entry)
    assert (tmp_path / "marker").exists()


@left_open
@pytest.mark.slow
def test_no_tasks_scorer_runs_the_answer(tmp_path):
    for task in sorted(set(library.factory.DATASETS) - {"composite"}):
        entry = library.create_dataset(task, size=1, seed=3)[0]
        for index, action in enumerate(ACTIONS):
            marker = tmp_path / f"{task}-{index}"
            answer = action.format(path=str(marker))
            found = score(f"<answer>{answer}</answer>", entry, task, max_seconds=2.0)
            assert not marker.exists(), f"the scorer of {task} ran {answer}"
            assert math.isfinite(found)


def test_a_missing_package_is_named_before_the_run(monkeypatch):
    monkeypatch.setattr("reward_workers.rewards.reasoning_gym.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[reasoning-gym\]'"):
        bind_rewards([RewardConfig(name="reasoning_gym")])
