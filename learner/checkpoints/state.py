"""What a checkpoint says of its run in trainer.json, checked before anything is believed."""

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from learner.ledger.snapshot import Snapshot
from protocol.errors import CheckpointError
from protocol.fields import Count


def _rising(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError("the numbers do not rise")
    return numbers


_Rising = Annotated[tuple[Count, ...], AfterValidator(_rising)]
_Attempt = Annotated[Count, Field(gt=0)]


class _Ledger(BaseModel):
    """A Snapshot as it stands in the file; an older one has no retired rows."""

    model_config = ConfigDict(frozen=True, strict=True)
    watermark: Count
    done: _Rising
    attempts: tuple[tuple[Count, _Attempt], ...]
    counts: dict[str, Count]
    batch_groups: Count
    retired: _Rising = ()
    retired_by_batch: _Rising = ()

    @model_validator(mode="after")
    def _consistent(self) -> "_Ledger":
        if self.done and self.done[0] < self.watermark:
            raise ValueError(f"{self.done[0]} is done below the watermark {self.watermark}")
        _rising(tuple(group_id for group_id, _ in self.attempts))
        return self


class State(BaseModel):
    """The whole file; a number is an integer that every reader of JSON takes as it is."""

    model_config = ConfigDict(frozen=True, strict=True)
    step: Count
    policy_version: Count
    tuning: str
    model: str
    facts: dict[str, str]
    ledger: _Ledger

    @property
    def snapshot(self) -> Snapshot:
        """What the ledger goes on from, without its scored groups."""
        return Snapshot.from_json(self.ledger.model_dump())


def parse_state(data: bytes, step: int) -> State:
    """Read the file of the checkpoint of a step.

    Raises:
        CheckpointError: it is none, contradicts itself, or is of another step.
    """
    try:
        state = State.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "form"
        raise CheckpointError(f"trainer.json has a bad {where}: {first['msg']}") from None
    if state.step != step:
        raise CheckpointError(f"trainer.json is of step {state.step}, wanted {step}")
    return state
