from learner.advantages.weights import valid_token_mask, valid_tokens


def test_a_masked_sample_has_no_tokens_that_count():
    assert valid_tokens([1.0, None, 0.0], [3, 5, 0]).tolist() == [3, 0, 0]


def test_the_mask_is_true_for_the_first_tokens_of_valid_rows():
    assert valid_token_mask([1.0, None, 0.0], [2, 3, 0], 3).tolist() == [
        [True, True, False],
        [False, False, False],
        [False, False, False],
    ]
