import pytest

from actors.batches.rows import Rows
from actors.make_engine import make_engine as engine_of


@pytest.fixture
def decode(tiny, run_config, make_lease, drain):
    """(section's fields) -> completions of a lease of 6 and one of 2, and the engine's progress."""

    def run(deterministic=False, **generation):
        run_section = {"deterministic": deterministic}
        sections = {"generation": {"max_completion_tokens": 8, **generation}}
        if deterministic:
            sections["learner"] = {"max_off_policy_steps": 0}
        config = run_config(run=run_section, **sections)
        engine = engine_of(tiny, config, clock=lambda: 5.0)
        engine.policy_version = 0
        engine.add(make_lease(1, (7, 8, 9), 6, temperature=0.0))
        engine.add(make_lease(2, (9, 8), 2, temperature=0.0))
        finished = engine.step()
        progress = engine.progress()
        return finished + drain(engine), progress

    return run


def test_leases_are_decoded_together_up_to_max_sequences(decode):
    finished, progress = decode()
    assert len(finished) == 8 and {c.seconds for c in finished} == {0.0}
    assert progress == {(1, 1): 6, (2, 1): 2}
    assert decode(max_sequences=3)[1] == {(1, 1): 3, (2, 1): 0}


def test_a_deterministic_run_decodes_lease_by_lease(decode):
    assert decode(deterministic=True, max_sequences=3)[1] == {(1, 1): 6, (2, 1): 0}


def test_max_kv_bytes_is_kept(decode):
    finished, progress = decode(max_kv_bytes=1)
    assert progress == {(1, 1): 1, (2, 1): 0}
    assert len(finished) == 8


def test_the_end_token_and_stop_texts_end_completions(decode, tiny):
    finished, _ = decode()
    whole = min(c.token_ids for c in finished if c.lease.group_id == 1)
    assert whole[-1] in tiny.stop_ids()
    text = tiny.tokenizer.decode(whole[:1])
    stopped = [c.token_ids for c in decode(stop=(text,))[0] if c.lease.group_id == 1]
    assert stopped == [whole[:1]] * 6 and len(whole) > 1


@pytest.mark.parametrize("recompute", [False, True])
def test_prompts_are_shared_unless_caches_are_computed_anew(
    tiny, run_config, monkeypatch, recompute
):
    asked = []

    def find(model, dtype, *, share_prompts):
        asked.append(share_prompts)
        return Rows(model)

    monkeypatch.setattr("actors.make_engine.suitable_batch", find)
    section = {"recompute_kv_cache_after_weight_updates": recompute}
    engine_of(tiny, run_config(generation=section))
    assert asked == [not recompute]
