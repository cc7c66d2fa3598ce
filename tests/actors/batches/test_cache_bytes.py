import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

from actors.batches.cache_bytes import bytes_per_token


def filled(heads, size):
    cache = KVCache()
    cache.update_and_fetch(mx.zeros((3, heads, 5, size)), mx.zeros((3, heads, 5, size)))
    return cache


def test_nothing_is_known_before_the_first_token():
    assert bytes_per_token([]) is None
    assert bytes_per_token([KVCache(), ArraysCache(2), CacheList(KVCache(), KVCache())]) is None


@pytest.mark.parametrize("wrap", [lambda *caches: caches, lambda *caches: [CacheList(*caches)]])
def test_keys_and_values_of_all_layers_count(wrap):
    # fp32: (1 head of 8 + 2 heads of 4) x keys and values
    assert bytes_per_token(wrap(filled(1, 8), filled(2, 4))) == 4 * (8 + 8) * 2


def test_states_that_do_not_grow_count_nothing():
    state = ArraysCache(1)
    state[0] = mx.zeros((3, 8))
    assert bytes_per_token([state]) == 0.0
    assert bytes_per_token([state, filled(1, 8)]) == 4 * 8 * 2
