"""The tokenizer as learner and actors share it: chat template, stop tokens, thinking tags."""

# pyright: standard, reportMissingTypeStubs=false
# (mlx-lm's TokenizerWrapper is untyped)

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from protocol.blas import preload_blas
from protocol.config import RunConfig
from protocol.config_model import ModelSection
from protocol.errors import ConfigError

log = logging.getLogger("protocol.tokenizer")

LOAD_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What mlx-lm and transformers raise on a folder that is damaged or of no known model."""
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)
_PROBE = [{"role": "user", "content": "1"}]


def load_tokenizer(section: ModelSection, folder: Path) -> Any:  # noqa: ANN401 - it is untyped
    """mlx-lm's TokenizerWrapper of a model, set up as configured, without the weights.

    Raises:
        ConfigError: a damaged folder, or what `set_up_tokenizer` refuses.
    """
    preload_blas()  # its fast BLAS must be loaded before mlx
    from mlx_lm.utils import load_config
    from mlx_lm.utils import load_tokenizer as load

    try:
        eos_token_ids = load_config(folder).get("eos_token_id")
        tokenizer = load(folder, eos_token_ids=eos_token_ids)
    except LOAD_ERRORS as error:
        raise ConfigError(f"cannot load the tokenizer of {section.path}: {error}") from error
    set_up_tokenizer(tokenizer, section)
    return tokenizer


def set_up_tokenizer(tokenizer: Any, section: ModelSection) -> None:  # noqa: ANN401
    """Give a TokenizerWrapper the configured template, its arguments, and stop tokens.

    The template's file is read when a prompt is made: actors on other machines have none.

    Raises:
        ConfigError: a stop token that is no token; and `apply_chat_template` raises it from then
            on, in the template's words.
    """
    for text in section.stop_tokens:
        tokenizer.add_eos_token(str(_token_id(tokenizer, text, section.path)))
    if section.chat_template:
        tokenizer.has_chat_template = True
        tokenizer._chat_template = None  # a renderer in Python would go before the template
    plain = tokenizer.apply_chat_template
    texts: list[str] = []

    def apply_chat_template(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        if section.chat_template:
            texts[:] = texts or [_read_template(section.chat_template)]
            options = {"chat_template": texts[0], **options}
        try:
            return plain(*arguments, **{**section.chat_template_args, **options})
        except _TEMPLATE_ERRORS as error:
            where = section.chat_template or f"of {section.path}"
            words = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"the chat template {where} failed: {words}") from error

    tokenizer.apply_chat_template = apply_chat_template


def _token_id(tokenizer: Any, text: str, path: str) -> int:  # noqa: ANN401
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if text in vocabulary:
        return vocabulary[text]
    added = list(tokenizer.get_added_vocab())
    near = get_close_matches(text, added, n=3, cutoff=0.4) or added[:5]
    known = f": did you mean {', '.join(map(repr, near))}?" if near else ""
    raise ConfigError(
        f"model.stop_tokens has {text!r}, which is no token of {path}{known} "
        "(generation.stop takes any text)"
    )


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"model.chat_template {path} cannot be read: {reason}") from None


def resolve_thinking(section: ModelSection, tokenizer: Any) -> ModelSection:  # noqa: ANN401
    """The section with `auto` replaced, for reward workers, which have no tokenizer."""
    tags = section.think_tags
    if tags == "auto":
        tags = _own_tags(section, tokenizer)
    opened = section.prompt_opens_thought
    if opened == "auto":
        opened = tags != "none" and _rendered(tokenizer).rstrip().endswith(tags[0])
    return section.model_copy(update={"think_tags": tags, "prompt_opens_thought": opened})


def with_think_tags(config: RunConfig, tokenizer: Any) -> RunConfig:  # noqa: ANN401
    """The config as reward workers get it; the run folder keeps the one that was given."""
    return config.model_copy(update={"model": resolve_thinking(config.model, tokenizer)})


def _own_tags(section: ModelSection, tokenizer: Any) -> Any:  # noqa: ANN401
    arguments = section.chat_template_args
    is_off = False in (arguments.get("enable_thinking"), arguments.get("thinking"))
    if is_off or not tokenizer.has_thinking or not tokenizer.has_chat_template:
        return "none"
    if tokenizer.think_end in tokenizer.all_special_tokens:
        log.warning("thoughts stay in completions: %s is left out of texts", tokenizer.think_end)
        return "none"
    return (tokenizer.think_start, tokenizer.think_end)


def _rendered(tokenizer: Any) -> str:  # noqa: ANN401
    """The end of a prompt; empty without a template, or where it wants another chat."""
    if not tokenizer.has_chat_template:
        return ""
    try:
        return tokenizer.apply_chat_template(_PROBE, add_generation_prompt=True, tokenize=False)
    except ConfigError:
        return ""
