"""A policy small enough for numpy, sampled by actors that are at fault in one way each."""

from dataclasses import replace

import numpy as np
import pytest

from learner.parity import check_parity, sampled_under
from protocol.errors import RunStopped

VOCABULARY, LENGTH, NUM_SAMPLES = 12, 20, 60
PROMPT = 3
GENERATOR = np.random.default_rng(0)
WEIGHTS = GENERATOR.normal(0.0, 1.5, (VOCABULARY, VOCABULARY))
VERSION_0 = WEIGHTS + GENERATOR.normal(0.0, 0.7, WEIGHTS.shape)


def logprobs_of(token_ids, weights=WEIGHTS, temperature=1.0, top_p=1.0):
    """[T] each token's logprob after the one before; row i of the weights holds logits after i."""
    before = np.concatenate([[PROMPT], token_ids[:-1]])
    rows = np.log(distributions(weights, temperature, top_p)[before])
    return rows[np.arange(len(token_ids)), token_ids].astype(np.float32)


def distributions(weights, temperature, top_p):
    scaled = weights / temperature
    probabilities = np.exp(scaled) / np.exp(scaled).sum(axis=-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1)
    sorted_ = np.take_along_axis(probabilities, order, axis=-1)
    kept = np.cumsum(sorted_, axis=-1) - sorted_ < top_p
    np.put_along_axis(probabilities, order, np.where(kept, sorted_, 1e-30), axis=-1)
    return probabilities / probabilities.sum(axis=-1, keepdims=True)


def draw(chosen, table):
    token_ids = [PROMPT]
    for _ in range(LENGTH):
        token_ids.append(int(chosen.choice(VOCABULARY, p=table[token_ids[-1]])))
    return np.array(token_ids[1:])


@pytest.fixture
def roll_out(make_sample):
    """Completions as an actor samples and reports them; `distort` changes the report."""

    def completions(distort=None, count=NUM_SAMPLES, weights=WEIGHTS, temperature=1.0, top_p=1.0):
        chosen = np.random.default_rng(1)
        table = distributions(weights, temperature, top_p)
        samples = []
        for index in range(count):
            token_ids = draw(chosen, table)
            reported = logprobs_of(token_ids, weights, temperature, top_p)
            if distort is not None:
                reported = np.minimum(distort(reported), 0.0)
            samples.append(
                make_sample((PROMPT,), token_ids, logprobs=reported.tolist(), sample=index)
            )
        return samples

    return completions


def recompute(samples, temperature, weights=WEIGHTS):
    return [logprobs_of(sample.rollout.token_ids, weights, temperature) for sample in samples]


def complaint(samples, config, **more):
    logprobs = recompute(samples, config.generation.temperature)
    with pytest.raises(RunStopped) as stopped:
        check_parity(samples, logprobs, 0, config, recompute, **more)
    return str(stopped.value)


def test_only_tokens_of_the_learners_own_version_count(make_sample, make_config):
    # token 0 is of version 0 and off by 3 nats; tokens 1 and 2 are of version 1, the learner's:
    # d = log 1.1 and 0, so k3 = (1.1 - 0.0953102 - 1) / 2 = 0.0023449
    sample = make_sample(
        token_ids=(4, 5, 6), logprobs=[-1.0, -1.0, -1.0], versions=((0, 1), (1, 2))
    )
    learner = np.array([-4.0, -1.0 + np.log(1.1), -1.0], np.float32)
    parity = check_parity([sample, sample], [learner, None], 1, make_config())
    assert parity.num_tokens == 2
    assert parity.mismatch_kl == pytest.approx(0.0023449, rel=1e-4)
    assert parity.max_difference == pytest.approx(0.0953102, rel=1e-5)
    assert parity.mean_ratio == pytest.approx(1.05)


def test_without_such_tokens_nothing_is_known_yet(make_sample, make_config):
    parity = check_parity([make_sample()], [np.array([-9.0, -9.0], np.float32)], 7, make_config())
    assert (parity.num_tokens, parity.mismatch_kl, parity.is_sure) == (0, 0.0, False)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_honest_actors_pass_with_the_rounding_of_bfloat16(roll_out, make_config, caplog, noise):
    rounding = np.random.default_rng(2)
    samples = roll_out(lambda logprobs: logprobs + rounding.normal(0.0, noise, LENGTH))
    parity = check_parity(samples, recompute(samples, 1.0), 0, make_config(), recompute)
    assert parity.is_sure
    assert parity.num_tokens == NUM_SAMPLES * LENGTH
    assert parity.mismatch_kl < max(0.6 * noise**2, 1e-9)  # noise**2 / 2, less where it is cut at 0
    assert not caplog.records


def test_a_fault_that_a_sharp_policy_hides_is_a_warning(roll_out, make_config, caplog):
    config = make_config()
    samples = roll_out(temperature=0.88)
    parity = check_parity(samples, recompute(samples, 1.0), 0, config, recompute)
    assert 0.0015 < parity.mismatch_kl < 0.015
    assert "fit temperature 0.88" in caplog.text


def test_samples_without_a_token_of_the_version_need_not_be_computed(make_sample):
    old = make_sample(versions=((3, 2),))
    mixed = make_sample(versions=((3, 1), (4, 1)), sample=1)
    assert sampled_under([old, mixed], 4) == [mixed]


@pytest.mark.parametrize("temperature", [0.6, 1.37])
def test_the_temperature_that_an_actor_used_is_named(roll_out, make_config, temperature):
    said = complaint(roll_out(temperature=temperature), make_config())
    assert "Most likely cause: another temperature" in said
    fitted = float(said.split("fit temperature ")[1].split(",")[0])
    assert fitted == pytest.approx(temperature, abs=0.03)
    assert f"set generation.temperature={fitted:.2g} " in said


def test_a_temperature_that_is_left_out_of_the_report_is_named(roll_out, make_config):
    samples = [
        replace(
            sample,
            rollout=sample.rollout.model_copy(
                update={"behaviour_logprobs": logprobs_of(sample.rollout.token_ids)}
            ),
        )
        for sample in roll_out(temperature=0.7)
    ]
    said = complaint(samples, make_config(generation={"temperature": 0.7}))
    assert "fit temperature 1.00" in said
    assert "generation.temperature = 0.7: they leave it out" in said


@pytest.mark.parametrize(("shift", "neighbour"), [(-1, "following"), (1, "preceding")])
def test_logprobs_that_are_shifted_by_one_token_are_named(roll_out, make_config, shift, neighbour):
    said = complaint(roll_out(lambda logprobs: np.roll(logprobs, shift)), make_config())
    assert f"shifted logprobs: actors report with each token the logprob of the {neighbour}" in said


def test_weights_of_another_version_are_named(roll_out, make_config):
    def of_version_0(samples, temperature):
        return recompute(samples, temperature, VERSION_0)

    samples = roll_out(weights=VERSION_0)
    said = complaint(samples, make_config(), other_weights={"policy version 0": of_version_0})
    assert "other weights: the actors' logprobs are those of policy version 0" in said
    assert "learner.publish.kind=full" in said
    assert "another model or tokenizer" in complaint(samples, make_config())


@pytest.mark.parametrize("top_p", [0.5, 0.8])
def test_truncated_sampling_is_named(roll_out, make_config, top_p):
    said = complaint(roll_out(top_p=top_p), make_config())
    assert "Most likely cause: truncated sampling" in said
    assert "use generation.temperature instead" in said


def test_truncated_sampling_is_caught_below_the_limit_of_the_mismatch_kl(roll_out, make_config):
    # a report that is log(1 / 0.9) too high: k3 = 0.9 + 0.10536 - 1 = 0.00536 < 0.015
    said = complaint(roll_out(top_p=0.9), make_config(learner={"max_parity_kl": 0.1}))
    assert "likeliest 9" in said
    assert "mean importance ratio 0.9" in said


def test_low_precision_is_named_unless_all_compute_in_float32(roll_out, make_config):
    rounding = np.random.default_rng(3)
    samples = roll_out(lambda logprobs: logprobs + rounding.normal(0.0, 0.25, LENGTH))
    said = complaint(samples, make_config())
    assert "low precision" in said
    assert "policy.compute_dtype is auto, which is bfloat16 on Metal and float32 on the CPU" in said
    exact = make_config(policy={"compute_dtype": "float32"})
    assert "another model or tokenizer" in complaint(samples, exact)


def test_the_actor_that_is_to_blame_is_named(roll_out, make_config):
    honest = roll_out(count=30)
    faulty = [replace(sample, actor="actor-2") for sample in roll_out(count=30, temperature=0.5)]
    said = complaint(honest + faulty, make_config())
    assert "most with actor-2: " in said
    assert "others up to " in said
    assert "fit temperature 0.50" in said


def test_a_learner_without_finite_logprobs_is_named(roll_out, make_config):
    samples = roll_out(count=2)
    broken = [np.full(LENGTH, np.nan, np.float32)] * 2
    with pytest.raises(RunStopped, match=r"not finite.*policy\.compute_dtype=float32"):
        check_parity(samples, broken, 0, make_config(), recompute)


def test_without_a_way_to_recompute_the_figures_still_stop_the_run(roll_out, make_config):
    samples = roll_out(temperature=0.5)
    with pytest.raises(
        RunStopped, match=r"mismatch KL 0\.\d+ nats a token \(learner.max_parity_kl"
    ):
        check_parity(samples, recompute(samples, 1.0), 0, make_config())


def test_one_actor_with_truncated_sampling_among_three_good_ones_stops_the_run(
    roll_out, make_config
):
    # over all tokens the mean ratio is about 0.975, which chance explains; over its own 0.9
    honest = roll_out()
    bad = [replace(sample, actor="bad") for sample in roll_out(top_p=0.9, count=NUM_SAMPLES // 3)]
    found = complaint([*honest, *bad], make_config())
    assert "most with bad" in found
    assert "top-p" in found


def test_two_tokens_that_happen_to_be_lower_are_no_truncation(make_sample, make_config):
    sample = make_sample(token_ids=(4, 5), logprobs=[-1.0, -1.0])
    learner = np.array([-1.045, -1.05], np.float32)
    assert check_parity([sample], [learner], 0, make_config()).num_tokens == 2
