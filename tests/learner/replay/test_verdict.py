"""How a step's verdict reads."""

import pytest

from learner.replay.verdict import MAX_SHOWN, Verdict


def test_a_step_that_agrees_is_one_line():
    verdict = Verdict(12)
    verdict.compared |= {"weights": "4f3a0011...", "rollouts": "", "rewards": "(256)"}
    verdict.left_out["masters"] = "no digest recorded"
    assert verdict.lines() == [
        "step 12: rollouts ok, rewards ok (256), weights ok 4f3a0011..., "
        "masters not compared (no digest recorded)"
    ]
    assert verdict.agrees


def test_differences_are_told_one_by_one_up_to_a_number():
    verdict = Verdict(3)
    verdict.compared["rollouts"] = ""
    for sample in range(MAX_SHOWN + 2):
        verdict.add("rewards", f"group 1 sample {sample}", "reward", 0.5, None)
    verdict.add("rollouts", "group 2 sample 0", "completion", "x" * 200, "é")
    verdict.remarks.append("a remark")
    lines = verdict.lines()
    assert lines[0] == "step 3: rollouts DIFFER (1), rewards DIFFER (12)"
    assert lines[2] == "  group 1 sample 0: reward: found 0.5, wanted null"
    assert lines[1] == (f'  group 2 sample 0: completion: found "{"x" * 79}..., wanted "é"')
    assert lines[-2:] == ["  and 2 more of rewards", "  a remark"]
    assert not verdict.agrees


def test_what_leads_to_another_difference_is_told_before_it():
    verdict = Verdict(3)
    for part in ("figures", "batch", "advantages", "rewards"):
        verdict.add(part, "there", part, 1, 2)
    told = [line.split(": ")[1] for line in verdict.lines()[1:]]
    assert told == ["rewards", "advantages", "batch", "figures"]


@pytest.mark.parametrize(
    ("part", "has_digest", "expected"),
    [
        ("weights", True, True),
        ("masters", True, True),
        ("figures", True, False),  # the digest says that the step led to the same weights
        ("figures", False, True),
        ("rewards", False, False),
    ],
)
def test_digests_outweigh_figures_about_where_a_step_led(part, has_digest, expected):
    verdict = Verdict(1)
    if has_digest:
        verdict.compared["weights"] = "4f3a0011..."
    verdict.add(part, "somewhere", "key", 1, 2)
    assert verdict.has_other_weights is expected
