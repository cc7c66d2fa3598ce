"""Keys and values of prompts, recorded once and read by all completions: masks by hand."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.base import create_causal_mask

from learner.forward.prompts import PromptReader, PromptRecorder, SharedPrompts


def shared(lengths, prompt_of_B, width=None):
    width = width or max(lengths)
    return SharedPrompts(mx.zeros((len(lengths), width), mx.int32), lengths, prompt_of_B)


def reader(lengths, prompt_of_B, width=None):
    width = width or max(lengths)
    numbers = mx.arange(len(lengths) * width, dtype=mx.float32)
    keys_NHPK = numbers.reshape(len(lengths), 1, width, 1)
    return PromptReader(keys_NHPK, -keys_NHPK, shared(lengths, prompt_of_B, width))


def looks(mask_TT):
    """A mask as strings: x where a token looks."""
    return ["".join("x" if seen else "." for seen in row) for row in np.array(mask_TT)]


def rows(mask_B1TT):
    return [looks(mask_1TT[0]) for mask_1TT in np.array(mask_B1TT)]


@pytest.mark.parametrize(
    ("lengths", "prompt_of_B", "repeats"),
    [
        ((4, 4), (0, 0, 1, 1), 2),
        ((4, 4), (0, 1), 1),
        ((4,), (0, 0, 0), 3),
        ((4, 4), (0, 1, 1), 0),  # not as many each
        ((4, 4), (0, 1, 0, 1), 0),  # not in order
    ],
)
def test_prompts_that_are_repeated_alike_are_found(lengths, prompt_of_B, repeats):
    assert shared(lengths, prompt_of_B).repeats == repeats


def test_prompts_of_one_length_have_no_padding():
    assert shared((4, 4), (0, 1)).of_one_length
    assert not shared((4, 3), (0, 1)).of_one_length
    assert not shared((4, 4), (0, 1), width=8).of_one_length


def test_a_recorder_keeps_what_a_layer_gives_it_and_gives_it_back():
    recorder = PromptRecorder()
    keys, values = mx.ones((1, 1, 2, 3)), mx.zeros((1, 1, 2, 3))
    assert recorder.update_and_fetch(keys, values) == (keys, values)
    assert recorder.keys_NHPK is keys
    assert recorder.values_NHPK is values
    assert recorder.offset == 0


def test_a_recorders_mask_is_causal():
    recorder = PromptRecorder()
    assert recorder.make_mask(3) == "causal"
    assert recorder.make_mask(3, window_size=3) == "causal"
    assert recorder.make_mask(1) is None
    causal = recorder.make_mask(3, return_array=True)
    assert looks(causal) == ["x..", "xx.", "xxx"]
    window = recorder.make_mask(3, window_size=2)
    assert looks(window) == ["x..", "xx.", ".xx"]


@pytest.mark.parametrize("prompt_of_B", [(0, 0, 1, 1), (0, 1, 1)])
def test_every_row_gets_its_own_prompt_in_front(prompt_of_B):
    # prompt 0 has keys 0 1, prompt 1 has keys 2 3
    keys, values = reader((2, 2), prompt_of_B).update_and_fetch(
        mx.full((len(prompt_of_B), 1, 1, 1), 9.0), mx.full((len(prompt_of_B), 1, 1, 1), -9.0)
    )
    assert keys[:, 0, :, 0].tolist() == [[2.0 * n, 2.0 * n + 1, 9.0] for n in prompt_of_B]
    np.testing.assert_array_equal(np.array(values), -np.array(keys))


def test_the_gradient_of_a_prompt_is_the_sum_over_its_rows():
    # rows count 1, 10 and 100; prompt 0 is read by the first, prompt 1 by the others
    weights = mx.array([1.0, 10.0, 100.0])[:, None, None, None]

    def total(keys_NHPK, prompt_of_B):
        one = PromptReader(keys_NHPK, keys_NHPK, shared((1, 1), prompt_of_B))
        own = mx.zeros((len(prompt_of_B), 1, 1, 1))
        return (weights[: len(prompt_of_B)] * one.update_and_fetch(own, own)[0]).sum()

    for prompt_of_B, wanted in (((0, 1, 1), [1.0, 110.0]), ((0, 1), [1.0, 10.0])):
        gradient = mx.grad(total)(mx.zeros((2, 1, 1, 1)), prompt_of_B)
        assert gradient.flatten().tolist() == wanted


def test_completions_of_prompts_of_one_length_stand_behind_them():
    one = reader((3, 3), (0, 1))
    assert one.offset == 3
    assert one.make_mask(2) == "causal"
    assert one.make_mask(2, window_size=5) == "causal"
    assert looks(one.make_mask(2, window_size=3)) == [".xxx.", "..xxx"]
    assert looks(one.make_mask(2, return_array=True)) == ["xxxx.", "xxxxx"]


def test_the_padding_of_a_shorter_prompt_is_not_seen():
    # prompts of 3, 1 and 0 tokens in 3 columns; then 2 of the completion
    mixed = reader((3, 1, 0), (0, 1, 2))
    assert isinstance(mixed.offset, mx.array)
    assert mixed.offset.tolist() == [3, 1, 0]
    assert rows(mixed.make_mask(2)) == [
        ["xxxx.", "xxxxx"],
        ["x..x.", "x..xx"],
        ["...x.", "...xx"],
    ]


def test_a_window_is_counted_in_true_positions():
    # of 2: the first token of a completion sees itself and the prompt's last, the next no prompt
    mixed = reader((3, 1), (0, 1, 1))
    assert rows(mixed.make_mask(2, window_size=2)) == [
        ["..xx.", "...xx"],
        ["x..x.", "...xx"],
        ["x..x.", "...xx"],
    ]


@pytest.mark.parametrize("window_size", [None, 1, 3, 4, 7])
def test_masks_are_those_of_a_row_that_holds_its_own_prompt(window_size):
    num_tokens, lengths = 4, (5, 2, 1)
    masks = np.array(reader(lengths, (0, 1, 2)).make_mask(num_tokens, window_size=window_size))
    for mask, length in zip(masks, lengths, strict=True):
        whole = np.array(create_causal_mask(length + num_tokens, window_size=window_size))
        seen = np.concatenate([mask[0, :, :length], mask[0, :, max(lengths) :]], axis=1)
        np.testing.assert_array_equal(seen, whole[length:])
        assert not mask[0, :, length : max(lengths)].any()
