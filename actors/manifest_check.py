"""What a manifest must say before its payload is fetched."""

import math
import re
from typing import NamedTuple

from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec
from protocol.messages import Manifest
from protocol.wire import Buffer

MAX_VERSION_BYTES = 2**40
_WORD_BYTES = {
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "uint32": 4,
    "uint8": 1,
    "int32": 4,
}
_DIGEST = re.compile(r"[0-9a-f]{32}")


class HeldVersion(NamedTuple):
    """The version whose bytes a delta may be applied to."""

    policy_version: int
    digest: str
    data: Buffer


def check_manifest(manifest: Manifest, base: HeldVersion | None) -> None:
    """See that a manifest can be followed.

    Raises:
        WeightsError: it contradicts itself, or is no delta of `base`.
    """
    payload, whole = manifest.total_bytes, num_bytes_of(manifest)
    if not _DIGEST.fullmatch(manifest.weights_digest):
        raise WeightsError(f"{manifest.weights_digest!r} is no digest of a version")
    if not 0 < whole <= MAX_VERSION_BYTES or not 0 < payload <= MAX_VERSION_BYTES:
        raise WeightsError(f"manifest of {payload} bytes for {whole} of tensors")
    for spec in manifest.tensors:
        _check_shape(spec)
    if base is not None and base.digest == manifest.weights_digest and len(base.data) != whole:
        raise WeightsError(f"{whole} bytes of tensors for the version held, of {len(base.data)}")
    if manifest.kind != "delta":
        if payload != whole:
            raise WeightsError(f"manifest of {payload} bytes for {whole} of tensors")
        if manifest.weights_digest != manifest.digest:
            raise WeightsError("its payload is the version, but its two digests differ")
    elif base is None or (base.digest, True) != (
        manifest.from_digest,
        base.policy_version < manifest.policy_version,
    ):
        held = f"version {base.policy_version}" if base else "none"
        raise WeightsError(f"a delta of {manifest.from_digest[:8]}, which is not held: {held} is")


def _check_shape(spec: TensorSpec) -> None:
    """Raise WeightsError for a shape that is not filled, or that no array can have."""
    room = math.prod(max(1, size) for size in spec.shape)  # of no bytes, but counted all the same
    filled = math.prod(spec.shape) * _WORD_BYTES[spec.dtype] == spec.num_bytes
    if not filled or max(spec.shape, default=0) >= 2**31 or room > MAX_VERSION_BYTES:
        raise WeightsError(f"{spec.name}: {spec.num_bytes} bytes for shape {spec.shape}")


def num_bytes_of(manifest: Manifest) -> int:
    """Of all of a version's tensors."""
    return sum(spec.num_bytes for spec in manifest.tensors)
