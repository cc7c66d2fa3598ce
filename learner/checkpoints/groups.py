"""Scored groups as bytes: what a resumed run need not generate again."""

from itertools import pairwise
from typing import Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from learner.ledger.snapshot import ScoredGroup, Snapshot
from protocol.errors import CheckpointError
from protocol.fields import Count, Name
from protocol.messages import Rollout, Score


class _Group(BaseModel):
    """A ScoredGroup as it stands in the file."""

    model_config = ConfigDict(frozen=True)
    group_id: Count
    row: Count
    attempt: Count
    actor: Name
    lease_version: Count
    oldest_version: Count
    rollouts: tuple[Rollout, ...] = Field(min_length=1)
    scores: tuple[Score, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "_Group":
        wanted = [(self.group_id, self.attempt, sample) for sample in range(len(self.rollouts))]
        for of_samples in (self.rollouts, self.scores):
            if [(each.group_id, each.attempt, each.sample) for each in of_samples] != wanted:
                raise ValueError(f"group {self.group_id} is not whole")
        return self


class _File(BaseModel):
    """The whole file."""

    version: Literal[1]
    groups: tuple[_Group, ...]

    @model_validator(mode="after")
    def _rising(self) -> "_File":
        for earlier, later in pairwise(group.group_id for group in self.groups):
            if later <= earlier:
                raise ValueError(f"group {later} comes after group {earlier}")
        return self


def pack_groups(groups: tuple[ScoredGroup, ...]) -> bytes:
    """Returns the groups as msgpack, arrays as raw little-endian bytes."""
    packed = msgpack.packb({"version": 1, "groups": [_fields(group) for group in groups]})
    assert isinstance(packed, bytes)
    return packed


def unpack_groups(data: bytes) -> tuple[ScoredGroup, ...]:
    """Returns the groups that `pack_groups` wrote, every field checked as one from a socket is.

    Raises:
        CheckpointError: these are no such groups.
    """
    try:
        file = _File.model_validate(msgpack.unpackb(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise CheckpointError(f"the scored groups have a bad {where}: {first['msg']}") from None
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CheckpointError(f"the scored groups are no msgpack: {error}") from None
    return tuple(
        ScoredGroup(**{name: getattr(group, name) for name in _Group.model_fields})
        for group in file.groups
    )


def check_groups(groups: tuple[ScoredGroup, ...], snapshot: Snapshot, group_size: int) -> None:
    """Compare the groups with the rest of their checkpoint and with the run.

    Raises:
        CheckpointError: one has another number of rollouts than the run's have, or is done already.
    """
    done = set(snapshot.done)
    for group in groups:
        found = len(group.rollouts)
        if found != group_size:
            raise CheckpointError(
                f"the scored group {group.group_id} has {found} rollouts, wanted {group_size}"
            )
        if group.group_id < snapshot.watermark or group.group_id in done:
            raise CheckpointError(f"the scored group {group.group_id} is one that is done already")


def _fields(group: ScoredGroup) -> dict[str, Any]:
    fields = {name: getattr(group, name) for name in _Group.model_fields}
    fields["rollouts"] = [rollout.model_dump() for rollout in group.rollouts]
    fields["scores"] = [score.model_dump() for score in group.scores]
    return fields
