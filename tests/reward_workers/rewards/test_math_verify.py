import logging
import signal
import threading

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError
from reward_workers.binding import bind_rewards
from reward_workers.rewards.math_verify import last_boxed, math_verify


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        (r"so it is \boxed{42}", "42", 1.0),
        (r"so it is \boxed{41}", "42", 0.0),
        ("The answer is 42.", 42, 1.0),
        ("The answer is 1,234", "1234", 1.0),
        (r"\boxed{\frac{1}{2}}", "0.5", 1.0),
        (r"\boxed{0.5}", r"\frac{1}{2}", 1.0),
        (r"$\frac{2}{4}$", "1/2", 1.0),
        (r"\boxed{2x+1}", "1 + 2x", 1.0),
        (r"\boxed{(x+1)^2}", "x^2 + 2x + 1", 1.0),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}", 1.0),
        (r"\boxed{x = 3}", "3", 1.0),
        (r"\boxed{(1, 2)}", "(1, 2)", 1.0),
        (r"\boxed{(2, 1)}", "(1, 2)", 0.0),
        (r"\boxed{x < 3}", "x < 3", 1.0),
        (r"\boxed{x > 3}", "x < 3", 0.0),
        ("It is 18.", "9 * 2 = 18 dollars\n#### 18", 1.0),
        (r"\boxed{18}", r"$18$", 1.0),
        (r"<think>\boxed{41}</think>\boxed{42}", "42", 1.0),
        (r"<think>\boxed{42}", "42", 0.0),
        (r"\boxed{0.00005}", 5e-05, 1.0),
        ("no idea", "42", 0.0),
        ("", "42", 0.0),
    ],
)
def test_equal_mathematics_is_rewarded(completion, answer, expected):
    assert math_verify([completion], answer=[answer]) == [expected]


@pytest.mark.parametrize("answer", [None, True, "", "  ", "####", [42], "$$"])
def test_a_reference_answer_that_cannot_be_read_does_not_apply(answer):
    assert math_verify([r"\boxed{42}"], answer=[answer]) == [None]


@pytest.mark.parametrize(
    "completion",
    [
        r"\boxed{3} \boxed{4}",
        r"\boxed{1} \boxed{3} \boxed{2}",
        r"\boxed{1, 2, 3}",
        r"\boxed{1 \text{ or } 3}",
        r"\boxed{\{1, 3\}}",
        r"\boxed{3, 4}",
        r"\boxed{[1, 5]}",
        r"\boxed{(-\infty, \infty)}",
        r"\boxed{\mathbb{R}}",
        r"\boxed{x = 5, x = 3}",
        r"\boxed{x \le 3}",
        r"\boxed{x = x}",
        r"\boxed{0 = 0}",
        r"\boxed{x}",
        r"\boxed{answer}",
        r"\boxed{}",
        r"\boxed{\text{answer}}",
        r"\boxed{\frac{0}{0}}",
        r"\boxed{\infty - \infty}",
        r"\boxed{\emptyset}",
        r"\boxed{3",
        r"The answer is 3. \boxed{",
        r"3 \boxed{4}",
        r"\boxed{\pm 3}",
        "3 or 4",
        "3, 4",
        "$3$ or $4$",
        "The final answer is 3. No: the final answer is 4.",
    ],
)
def test_more_or_other_than_the_one_answer_loses(completion):
    assert math_verify([completion], answer=["3"]) == [0.0]


@pytest.mark.parametrize("gold", ["x^2 + 1", r"\sqrt{2}", r"\{1, 2\}", "[0, 1]", "x < 3", "(1, 2)"])
@pytest.mark.parametrize(
    "completion",
    [r"\boxed{\mathbb{R}}", r"\boxed{\frac{0}{0}}", r"\boxed{}", r"\boxed{x = x}", r"\boxed{0}"],
)
def test_nothing_is_right_for_every_reference_answer(gold, completion):
    assert math_verify([completion], answer=[gold]) == [0.0]


def test_all_boxes_can_make_one_set():
    boxes = r"\boxed{1} and \boxed{2}"
    assert math_verify([boxes, boxes], read="text", answer=[r"\{1, 2\}", "2"]) == [1.0, 0.0]


def test_only_boxed_answers_can_be_wanted():
    assert math_verify(["42", r"\boxed{42}"], read="last_boxed", answer=[42, 42]) == [0.0, 1.0]


@pytest.mark.parametrize("bomb", ["9^{9^{9}}", "((9!)!)!", r"\sum_{n=1}^{10^9} \frac{1}{n^2 + 1}"])
def test_an_answer_that_takes_too_long_loses_and_leaves_no_alarm(bomb, caplog):
    handler = signal.getsignal(signal.SIGALRM)
    with caplog.at_level(logging.WARNING):
        assert math_verify([rf"\boxed{{{bomb}}}"], max_seconds=1, answer=["3"]) == [0.0]
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.alarm(0) == 0
    assert not caplog.records


@pytest.mark.parametrize("name", ["parse", "verify"])
def test_a_library_that_swallows_the_first_alarm_is_ended_by_the_next(name, monkeypatch):
    swallowed = []

    def endless(*_arguments, **_options):
        while True:
            try:
                while True:
                    pass
            except BaseException as error:
                if swallowed:
                    raise
                swallowed.append(error)

    monkeypatch.setattr(f"math_verify.{name}", endless)
    gold = [[3]] if name == "verify" else None
    if gold:
        monkeypatch.setattr("math_verify.parse", lambda *_a, **_o: gold)
    expected = 0.0 if gold else None
    assert math_verify([r"\boxed{3}"], max_seconds=1, answer=["3"]) == [expected]
    assert len(swallowed) == 1


@pytest.mark.parametrize(
    "completion",
    ["{" * 5_000, "$" * 5_001, r"\boxed{" * 2_000, "1+" * 5_000, "(" * 5_000, "\ud800", "$\0$"],
)
def test_a_strange_completion_loses(completion):
    assert math_verify([completion], max_seconds=1, answer=["3"]) == [0.0]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{a}", "a"),
        (r"\boxed{\frac{1}{2}} ok", r"\frac{1}{2}"),
        (r"\boxed{1}\boxed{2}", "2"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{1}\boxed{2", None),
        ("1", None),
        (r"\boxed{" + "1" * 2_000 + "}", None),
    ],
)
def test_the_last_box_is_read(text, content):
    assert last_boxed(text) == content


def test_outside_the_main_thread_it_fails_and_scores_nothing():
    caught: list[BaseException] = []

    def score():
        try:
            math_verify([r"\boxed{42}"], answer=["42"])
        except RewardError as error:
            caught.append(error)

    thread = threading.Thread(target=score)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(RewardError, match="lacks the column 'answer'"):
        math_verify(["42"])


def test_a_missing_package_is_named_before_the_run(monkeypatch):
    monkeypatch.setattr("reward_workers.rewards.math_verify.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[rewards\]'"):
        bind_rewards([RewardConfig(name="math_verify")])
