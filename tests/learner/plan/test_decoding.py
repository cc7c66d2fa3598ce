import mlx.core as mx
import pytest

from learner.plan.decoding import Decoding, columns_read


class Recording:
    """A model that only notes how many tokens it was given, and what its caches held by then."""

    def __init__(self):
        self.layers = [object()]
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, tokens, cache):
        rows, length = tokens.shape
        keys = mx.zeros((rows, 1, length, 4))
        held, _ = cache[0].update_and_fetch(keys, keys)
        self.seen.append((rows, length, held.shape[2]))
        return mx.zeros((rows, length, 10))


def test_prompts_are_computed_once_and_then_all_rows_a_token_at_a_time():
    model = Recording()
    decoding = Decoding(model, columns=5, rows=12, group_size=8)  # pyright: ignore[reportArgumentType]
    decoding.begin()
    decoding.step()
    decoding.step()
    assert model.seen == [(2, 5, 5), (12, 1, 6), (12, 1, 7)]


@pytest.mark.parametrize(
    ("prompt", "completion", "is_shared", "columns"),
    [(40, 20, False, 50), (40, 20, True, 15), (1, 1, False, 1), (1, 1, True, 1)],
)
def test_a_shared_prompt_is_read_once_for_its_rows(prompt, completion, is_shared, columns):
    assert columns_read(prompt, completion, 8, is_shared=is_shared) == columns
