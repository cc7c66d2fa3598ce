"""The config's data section: sources of prompts, and the order in which they are trained on."""

from collections.abc import Iterable
from string import Formatter
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from protocol.config_section import Section

Order = Literal["shuffled", "by_source", "given"]


class SourceConfig(Section):
    """One source with more to say than its name."""

    source: str = Field(min_length=1)
    """As where a source is a string: a JSONL path, `human_eval`, `reasoning_gym:<task>?...`."""
    weight: float | None = Field(default=None, gt=0.0, le=1e6, allow_inf_nan=False)
    """Share of the training groups, relative to the others'; without one 1.0, where any has one."""
    count: int | None = Field(default=None, gt=0)
    """The first so many rows; without it all."""
    columns: dict[str, str] = Field(default={})
    """New names of columns: `{prompt: question, answer: target}` takes the prompt from `question`
    and gives the rewards `target` under the name `answer`."""
    template: str = ""
    """Makes the prompt: `"{question}\\nAnswer with a number."`; fields are columns by their new
    names, braces of the text are doubled."""

    @field_validator("template")
    @classmethod
    def _only_plain_fields(cls, template: str) -> str:
        try:
            fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(template)]
        except ValueError as error:
            raise ValueError(f"{error}: double the braces that are no field") from None
        for name, spec, how in fields:
            if name is not None and (spec or how or not name or set(name) & set(".[]{}")):
                raise ValueError(
                    f"field {{{name}}}: wanted the plain name of a column, such as {{question}}; "
                    "double the braces that are no field"
                )
        return template


def _form(value: object) -> str:
    return "text" if isinstance(value, str) else "mapping"


Source = Annotated[
    Annotated[str, Tag("text")] | Annotated[SourceConfig, Tag("mapping")], Discriminator(_form)
]
"""A source's name, or `{source, weight, count, columns, template}`."""


def as_source(source: Source) -> SourceConfig:
    """A source that is a string means one with nothing else to say."""
    return SourceConfig(source=source) if isinstance(source, str) else source


def refuse_weights(sources: Iterable[Source], where: str) -> None:
    """Raise ValueError where a source of held-out prompts has a weight."""
    if any(as_source(source).weight is not None for source in sources):
        raise ValueError(
            f"{where} has a source with a weight: every held-out prompt is evaluated, so leave it "
            "out, or choose the share by count"
        )


class DataSection(Section):
    """Prompts. Sources: JSONL paths, `human_eval`, `arithmetic:<task>`, `reasoning_gym:<task>`."""

    train: tuple[Source, ...]
    """Sources of training prompts: names, or `{source, weight, count, columns, template}`."""
    heldout: tuple[Source, ...] = ()
    """Sources of evaluation prompts."""
    prompt_column: str = "prompt"
    """The column with a string or a list of chat messages; other columns go to the rewards."""
    order: Order = "shuffled"
    """Of the training prompts: shuffled; by_source: source after source, each shuffled; given: as
    the rows stand. Each epoch anew. Weighted sources take turns, and this is the order in each."""
    epochs: int | None = Field(default=None, gt=0)
    """Passes over the training prompts; without it, as many as max_steps needs."""
    max_prompt_tokens: int = Field(default=1024, gt=0)
    """Longer prompts are left out, and counted in a warning and in left_out.json."""
    no_resampling_pass_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """A prompt is retired for the rest of the run once this share of its group passed."""
    pass_reward: float = 1.0
    """A completion passed if its reward is at least this."""

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Of the training sources; None where no source has one."""
        given = [as_source(source).weight for source in self.train]
        if all(weight is None for weight in given):
            return None
        return tuple(1.0 if weight is None else weight for weight in given)

    @field_validator("train", "heldout", mode="before")
    @classmethod
    def _lists_are_lists(cls, sources: object) -> object:
        if isinstance(sources, str):
            raise ValueError(f"{sources!r}: wanted a list, such as [{sources}]")
        return sources

    @model_validator(mode="after")
    def _weights_fit(self) -> "DataSection":
        refuse_weights(self.heldout, "heldout")
        if self.weights is None:
            return self
        if self.epochs is not None:
            raise ValueError(
                f"epochs {self.epochs} beside sources with weights: such a mixture has no passes. "
                "End it by run.max_steps, or leave the weights out"
            )
        if self.order == "by_source":
            raise ValueError(
                "order by_source beside sources with weights, which take turns: leave one of them "
                "out"
            )
        return self
