"""`mlx-replay` on runs that are as they were, and on runs that are not."""

import json
import shutil

import pytest
import yaml

from learner.digests import MASTERS, ROLLOUTS, WEIGHTS
from learner.replay.command import replay
from learner.replay.verdict import LEGEND
from protocol.errors import ConfigError, DataError


@pytest.fixture
def replayed(capsys):
    """Runs the command; returns its code and its lines."""

    def run(run, *arguments):
        code = replay([str(run.path), *arguments])
        return code, capsys.readouterr().out.splitlines()

    return run


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_is_as_it_was_agrees_in_every_step(run, replayed):
    before = content_of(run.path)
    code, lines = replayed(run)
    assert code == 0
    assert lines[0] == "replaying steps 1 to 4, beginning with the model itself"
    assert lines[1].startswith("step 1: rollouts ok, rewards ok (9), advantages ok, logprobs ok, ")
    assert lines[2] == "  group 1 sample 2 was masked then: reward_timeout; now reward 0.0"
    weights = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[1])[WEIGHTS]
    assert f"figures ok, weights ok {weights[:8]}..., masters ok" in lines[3]
    assert lines[-1] == f"all 4 steps agree: {run.path}"
    assert len(lines) == 1 + 4 + 1 + 1
    assert content_of(run.path) == before


@pytest.mark.parametrize(
    ("step", "first", "source"),
    [
        (1, 1, "the model itself"),
        (2, 1, "the model itself"),
        (3, 3, "the checkpoint of step 2"),
        (4, 3, "the checkpoint of step 2"),
    ],
)
def test_one_step_begins_with_the_checkpoint_before_it(run, replayed, step, first, source):
    code, lines = replayed(run, "--step", str(step), "--no-rewards")
    assert code == 0
    assert lines[0] == f"replaying steps {first} to {step}, beginning with {source}"
    assert [line.split(":")[0] for line in lines[1:-1]] == [
        f"step {number}" for number in range(first, step + 1)
    ]
    assert "rewards not compared (--no-rewards)" in lines[1]


def test_a_damaged_checkpoint_is_passed_over(run, capsys):
    (run.path / "checkpoints" / "step_000002" / "trainer.safetensors").write_bytes(b"")
    assert replay([str(run.path), "--step", "3", "--no-rewards"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("replaying steps 1 to 3, beginning with the model itself\n")
    assert "step_000002 is damaged" in said.err


def test_an_older_run_without_digests_is_compared_as_far_as_it_goes(run, replayed):
    run.forget_digests()
    code, lines = replayed(run, "--no-rewards")
    assert code == 0
    assert "rollouts ok (no digest recorded)" in lines[1]
    assert "weights not compared (no digest recorded)" in lines[1]
    assert "masters" not in lines[1]


def token_id(row):
    row["token_ids"][1] = 9 if row["token_ids"][1] != 9 else 8


def token_and_text(row):
    token_id(row)
    row["completion"] = row["completion"][0] + str(row["token_ids"][1] - 6) + row["completion"][2:]


def behaviour_logprob(row):
    row["behaviour_logprobs"][2] -= 0.5


def reward(row):
    row["reward"] = row["rewards"]["exact_match"] = 0.25


def advantage(row):
    row["advantage"] += 1e-7


def logprob(row):
    row["logprobs"][0] *= 2


def attempt(row):
    row["attempt"] += 1


def prompt(row):
    row["prompt"] = "1+1="


def policy_version(row):
    row["policy_versions"][0][0] -= 1


def unknown_key(row):
    row["more"] = 1


TAMPERED = [
    (token_id, "completion: found"),
    (token_id, "logprobs["),
    (token_and_text, "logprobs["),
    (reward, "advantage: found"),
    (reward, "reward: found 0.25, wanted 0.0"),
    (advantage, "advantage: found"),
    (logprob, "logprobs[0]: found"),
    (prompt, 'prompt: found "1+1="'),
    (unknown_key, "more: found 1, wanted null"),
]


@pytest.mark.parametrize(("tamper", "told"), TAMPERED)
@pytest.mark.parametrize("digest", [True, False], ids=["digest_too", "digest_left"])
def test_a_changed_rollout_is_found_and_named(run, replayed, tamper, told, digest):
    rows = run.rows(2)
    tamper(rows[1])
    run.write_rows(2, rows, digest=digest)
    code, lines = replayed(run, *(() if "reward: " in told else ("--no-rewards",)))
    assert code == 1
    named = [line for line in lines if line.startswith("  group 3 sample 1: ")]
    assert any(told in line for line in named), lines
    assert any(ROLLOUTS in line for line in lines) is not digest
    assert lines[-1] == f"1 of 4 steps differ: 2: {run.path}" or "differ: 2:" in lines[-2]


@pytest.mark.parametrize("line", [1, 8], ids=["learned_from", "without_advantage"])
def test_a_changed_behaviour_logprob_is_named_by_its_gap(run, replayed, line):
    rows = run.rows(2)
    behaviour_logprob(rows[line])
    run.write_rows(2, rows)
    code, lines = replayed(run, "--step", "2", "--no-rewards")
    assert code == 1
    assert any(f"step_000002.jsonl: {ROLLOUTS}: found" in text for text in lines)
    place = f"group {rows[line]['group']} sample {rows[line]['sample']}"
    gap = [text for text in lines if text.startswith("  the widest gap")]
    assert len(gap) == 1
    assert f"{place}: behaviour_logprobs[2]" in gap[0]


def test_a_behaviour_logprob_that_was_learned_from_is_found_without_any_digest(run, replayed):
    run.forget_digests()
    rows = run.rows(2)
    behaviour_logprob(rows[1])
    run.write_rows(2, rows)
    code, lines = replayed(run, "--step", "2", "--no-rewards")
    assert code == 1
    assert any("metrics.jsonl: mismatch_kl: found" in text for text in lines)
    assert any("the widest gap" in text and "group 3 sample 1" in text for text in lines)


@pytest.mark.parametrize("tamper", [attempt, policy_version, token_and_text])
def test_what_no_result_depends_on_is_found_by_the_digest(run, replayed, tamper):
    rows = run.rows(2)
    tamper(rows[7])  # no advantage: it was not computed
    run.write_rows(2, rows)
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert any(f"step_000002.jsonl: {ROLLOUTS}: found" in text for text in lines)
    assert "differ: 2:" in lines[-1]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 3)], ids=["of_a_group", "of_two"])
def test_swapped_rows_are_found(run, replayed, one, other):
    rows = run.rows(3)
    rows[one], rows[other] = rows[other], rows[one]
    run.write_rows(3, rows, digest=True)
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    found = [text for text in lines if "group and sample: found" in text]
    assert f"  line {one + 1}: group and sample: found" in found[0]


def test_a_row_that_is_gone_is_found(run, replayed):
    rows = run.rows(3)
    run.write_rows(3, rows[:4] + rows[5:], digest=True)
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert "  line 5: group and sample: found [7, 2], wanted [7, 1]" in lines
    assert "  the file: number of rows: found 8, wanted 9" in lines


@pytest.mark.parametrize("key", [WEIGHTS, MASTERS])
def test_an_edited_digest_costs_one_step(run, replayed, key):
    run.edit_step(3, **{key: "0" * 32})
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert any(f'metrics.jsonl: {key}: found "{"0" * 32}", wanted' in text for text in lines)
    assert "1 of 4 steps differ: 3:" in lines[-2]


@pytest.mark.parametrize("key", ["grad_norm", "policy_version", "learning_rate", "skipped"])
def test_an_edited_figure_is_found(run, replayed, key):
    run.edit_step(1, **{key: 7})
    code, lines = replayed(run, "--step", "1", "--no-rewards")
    assert code == 1
    assert any(f"metrics.jsonl: {key}: found 7, wanted" in text for text in lines)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("reward/mean", 0.9),
        ("reward/std", 0.9),
        ("reward/exact_match/mean", 0.9),
        ("reward/exact_match/seen/mean", 2),
        ("reward/other/mean", 1.0),
        ("staleness/max", 1),
        ("completion_tokens/mean", 9.0),
        ("completion/truncated_fraction", 0.5),
        ("groups/zero_advantage_fraction", 0.0),
    ],
)
def test_an_edited_figure_of_the_rollouts_is_found_alone(run, replayed, key, found):
    run.edit_step(1, **{key: found})
    code, lines = replayed(run, "--step", "1", "--no-rewards")
    assert code == 1
    assert "batch DIFFER (1), figures ok" in lines[2]
    assert lines[3].startswith(f"  metrics.jsonl: {key}: found {found}, wanted ")
    assert lines[4:] == [f"1 of 1 steps differ: 1: {run.path}"]


def test_what_found_and_wanted_mean_is_said_once(run, replayed):
    assert LEGEND not in replayed(run, "--no-rewards")[1]
    run.edit_step(1, **{"reward/mean": 9})
    run.edit_step(2, **{"reward/mean": 9})
    _, lines = replayed(run, "--no-rewards")
    assert [index for index, line in enumerate(lines) if line == LEGEND] == [1]


def test_each_step_is_computed_with_the_config_of_its_run_epoch(resumed_run, replayed):
    code, lines = replayed(resumed_run)
    assert code == 0, lines
    assert "  with the config of run epoch 2" in lines
    shutil.rmtree(resumed_run.path / "checkpoints")  # it is what the replay computed that goes on
    assert replayed(resumed_run)[0] == 0


def test_one_step_after_a_changed_config_begins_with_a_checkpoint_before_the_change(
    resumed_run, replayed
):
    code, lines = replayed(resumed_run, "--step", "3")
    assert (code, lines[0]) == (
        0,
        "replaying steps 3 to 3, beginning with the checkpoint of step 2",
    )
    assert replayed(resumed_run, "--step", "2")[0] == 0


def test_a_changed_config_that_was_not_kept_is_told_as_a_likely_cause(resumed_run, replayed):
    shutil.rmtree(resumed_run.path / "configs")
    for step in (1, 2, 3, 4):
        resumed_run.edit_step(step, run_epoch=None)
    code, lines = replayed(resumed_run, "--no-rewards")
    assert code == 1
    assert "step 1: " in lines[2]
    assert "DIFFER" in lines[2]
    assert lines[-1].endswith(
        "or where the run was resumed with other settings and kept no configs/"
    )


def test_a_config_that_the_state_does_not_fit_costs_its_steps(resumed_run, replayed):
    path = resumed_run.path / "configs" / "run_epoch_000002.yaml"
    tree = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**tree, "algorithm": {"name": "ppo"}}))
    code, lines = replayed(resumed_run, "--no-rewards")
    assert code == 1
    told = (
        '  run epoch 2: algorithm.name: found "ppo", wanted "one that goes on from '
        'grpo: both or neither with a critic"'
    )
    assert told in lines
    assert "step 3: config DIFFER (1)" in lines
    assert lines[-1].startswith("1 of 3 steps differ: 3: ")
    assert "steps 4 to 4 cannot be computed: there is no whole checkpoint between" in lines


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no json\n", "line 1: row: found"),
        ("{}\n", "line 1: row: found"),
        ("[1]\n", "line 1: row: found"),
        ("", "the file: number of rows: found 0"),
        (None, "file: found"),
    ],
)
def test_a_step_that_cannot_be_computed_is_told_and_the_next_checkpoint_taken(
    run, replayed, content, told
):
    if content is None:
        run.rollouts(1).unlink()
    else:
        run.rollouts(1).write_text(content)
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert any(told in text for text in lines)
    assert "steps 2 to 2 cannot be computed: there is no whole checkpoint between" in lines
    assert [text.split(":")[0] for text in lines if text.startswith("step ")] == [
        "step 1",
        "step 3",
        "step 4",
    ]
    assert "1 of 3 steps differ: 1:" in lines[-1]


def test_what_follows_an_edited_digest_agrees_without_a_checkpoint_too(run, replayed):
    shutil.rmtree(run.path / "checkpoints")
    run.edit_step(1, **{WEIGHTS: "0" * 32})
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert not any("begins with the weights" in text for text in lines)
    assert "1 of 4 steps differ: 1:" in lines[-2]


def test_what_follows_a_changed_step_without_a_checkpoint_says_so(run, replayed):
    for checkpoint in (run.path / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    rows = run.rows(1)
    reward(rows[1])
    run.write_rows(1, rows)
    code, lines = replayed(run, "--no-rewards")
    assert code == 1
    assert "  begins with the weights of step 1, which differ" in lines


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_that_no_policy_knows_computes_nothing(run, replayed, token):
    rows = run.rows(1)
    rows[0]["token_ids"][0] = token
    run.write_rows(1, rows)
    code, lines = replayed(run, "--step", "1", "--no-rewards")
    assert code == 1
    assert any("line 1: row: found" in text for text in lines)


def test_bad_input_says_what_there_is(run, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no run folder .*/gone"):
        replay([str(tmp_path / "gone")])
    with pytest.raises(ConfigError, match=r"has no step 5: .* has steps 1 to 4"):
        replay([str(run.path), "--step", "5"])
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        replay([str(tmp_path)])
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("arithmetic:add2?count=32", "gone.jsonl"))
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        replay([str(run.path), "--no-rewards"])


def test_rewards_that_cannot_be_had_are_told_with_the_way_out(run):
    config = run.path / "configs" / "run_epoch_000001.yaml"
    config.write_text(config.read_text().replace("name: exact_match", "name: gone"))
    with pytest.raises(ConfigError, match=r"unknown reward 'gone'.*--no-rewards"):
        replay([str(run.path)])
