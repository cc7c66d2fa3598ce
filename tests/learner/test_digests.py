"""What the digests of a step cover."""

import hashlib

import mlx.core as mx
import pytest

from learner.digests import masters_digest, rollouts_digest


def test_the_digest_of_masters_by_hand():
    arrays = {"b": mx.array([1.0, 2.0]), "a": mx.zeros((1, 1))}
    expected = hashlib.sha256(
        b"a\0float32\0[1, 1]\0"
        + bytes(4)
        + b"b\0float32\0[2]\0"
        # 1.0 and 2.0 in little-endian fp32: 3f800000, 40000000
        + bytes.fromhex("0000803f00000040")
    ).hexdigest()
    assert masters_digest(arrays) == expected
    assert masters_digest(dict(reversed(arrays.items()))) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"a": mx.array([1.0, 2.5])},
        {"a": mx.array([[1.0, 2.0]])},
        {"c": mx.array([1.0, 2.0])},
        {"a": mx.array([1.0, 2.0]).view(mx.int32)},
        {"a": mx.array([1.0]), "b": mx.array([2.0])},
    ],
    ids=["value", "shape", "name", "dtype", "split"],
)
def test_no_two_kinds_of_masters_share_a_digest(other):
    assert masters_digest(other) != masters_digest({"a": mx.array([1.0, 2.0])})


def test_a_file_of_rollouts_has_the_digest_of_its_bytes(tmp_path):
    path = tmp_path / "step_000001.jsonl"
    path.write_bytes(b'{"group": 1}\n')
    expected = hashlib.sha256(b'{"group": 1}\n').hexdigest()
    assert rollouts_digest(path) == rollouts_digest(path.read_bytes()) == expected
