"""README.md of an export: where the weights come from, how they were trained, how to use them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import yaml

from learner.export.folder import MARK
from learner.export.form import Form
from learner.export.public import base_argument, hub_id, public_config, public_text
from learner.export.records import REWARD, Records
from learner.export.source import Source
from protocol.config import RunConfig

CURVE = "curve.svg"

_COLUMNS = (REWARD, "loss", "kl_ref", "completion_tokens/mean")
"""Of the curve's table, as far as the run has them."""


def card(source: Source, form: Form, records: Records, name: str) -> str:
    """The card's text: front matter as the Hub reads it, then Markdown.

    Args:
        source: the checkpoint.
        form: what was made of it.
        records: of its run.
        name: of the folder, as the commands call it.
    """
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(source, form), sort_keys=False)}---",
        f"# {source.config.run.name}, step {source.step}",
        _introduction(source, form),
        "## Use",
        _use(source, form, name),
        "## Training",
        *_training(source),
        "## Evaluation",
        *_evaluation(source, records),
        "## Reward",
        *_reward(source, records),
        "## Versions",
        _versions(source),
    ]
    return _without_home("\n\n".join(parts) + "\n")


def commands(source: Source, form: Form, folder: str, base: str) -> list[str]:
    """The three commands that use the folder, as a shell takes them.

    Args:
        source: the checkpoint.
        form: what was made of it.
        folder: where it is, quoted if need be.
        base: the base model, likewise.
    """
    if _holds_adapters(source, form):
        model = f"--model {base} --adapter-path {folder}"
        last = f"mlx_lm.fuse {model} --save-path fused_model"
    else:
        model = f"--model {folder}"
        last = f"mlx_lm.chat {model}"
    return [
        f'mlx_lm.generate {model} --prompt "..." --max-tokens '
        f"{source.config.generation.max_completion_tokens}",
        f"mlx_lm.server {model} --port 8080",
        last,
    ]


def _holds_adapters(source: Source, form: Form) -> bool:
    return source.tuning == "lora" and not form.fuse


def _front_matter(source: Source, form: Form) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "mlx", "pipeline_tag": "text-generation"}
    if base := hub_id(source.config.model.path):
        relation = "adapter" if _holds_adapters(source, form) else "finetune"
        front["base_model"] = base
        front["base_model_relation"] = "quantized" if form.bits else relation
    tuning = ["lora"] if source.tuning == "lora" else []
    algorithm = public_text(source.config.algorithm.name)
    front["tags"] = ["mlx", MARK, "reinforcement-learning", algorithm, *tuning]
    return front


def _introduction(source: Source, form: Form) -> str:
    config = source.config
    base, dtype = _cell(config.model.path), form.dtype or config.policy.weight_dtype
    if _holds_adapters(source, form):
        what = f"LoRA adapters (rank {config.learner.lora.rank}, {dtype}) for {base}"
    else:
        how = " with its LoRA adapters fused" if form.fuse else ""
        kind = f"{form.bits} bits a weight" if form.bits else dtype
        what = f"{base}{how}, {kind}"
    return (
        f"{what}: the policy after step {source.step} of reinforcement learning "
        f"({_cell(config.algorithm.name)}) with MLX RL Trainer, in mlx-lm's layout."
    )


def _use(source: Source, form: Form, name: str) -> str:
    base = base_argument(source.config.model.path)
    return "```\n" + "\n".join(commands(source, form, name, base)) + "\n```"


def _training(source: Source) -> Iterator[str]:
    config = source.config
    learner, generation = config.learner, config.generation
    rewards = ", ".join(f"{_cell(each.name)} (weight {each.weight:g})" for each in config.rewards)
    yield _table(
        ("what", "value"),
        [
            ("base model", _cell(config.model.path)),
            ("trained on", _sources(config, "train")),
            ("held out", _sources(config, "heldout") or "nothing"),
            ("rewards", rewards),
            ("algorithm", _cell(config.algorithm.name)),
            ("tuned", "LoRA adapters" if source.tuning == "lora" else "all weights"),
            ("learning rate", f"{learner.optimizer.learning_rate:g}"),
            ("steps", str(source.step)),
            (
                "a step",
                f"{learner.groups_per_step} prompts, {generation.group_size} completions each",
            ),
            ("temperature", f"{generation.temperature:g}"),
        ],
    )
    text = yaml.safe_dump(public_config(config), sort_keys=False, allow_unicode=True)
    yield f"The resolved config, without what it says of machines:\n\n```yaml\n{text}```"


def _sources(config: RunConfig, key: str) -> str:
    """What a config names as prompts, be it a text or a section."""
    named = config.model_dump(mode="json")["data"][key]
    texts = (each.get("source", each) if isinstance(each, dict) else each for each in named)
    return ", ".join(_cell(str(text)) for text in texts)


def _evaluation(source: Source, records: Records) -> Iterator[str]:
    best = source.best.step if source.best else None
    steps = records.steps_evaluated(best, source.step)
    if not steps:
        yield "The run was not evaluated."
        return
    heads = [_head(step, steps, best, source.step) for step in steps]
    yield _table(
        ("evaluator", "figure", *heads),
        (
            (
                _cell(evaluator),
                _cell(name),
                *(_number(records.figure(evaluator, name, step)) for step in steps),
            )
            for evaluator, name in records.figure_names()
        ),
    )
    if source.step not in steps:
        yield f"The exported step {source.step} itself was not evaluated."


def _head(step: int, steps: Sequence[int], best: int | None, exported: int) -> str:
    """A step with what it is: before training, best, exported, last."""
    names = ["before training"] if step == 0 else []
    names += ["best"] if step == best else []
    names += ["exported"] if step == exported else []
    names += ["last"] if step == steps[-1] else []
    return f"step {step}" + (f" ({', '.join(names)})" if names else "")


def _reward(source: Source, records: Records) -> Iterator[str]:
    rows = records.points()
    if not rows:
        yield "The run has no record of its rewards."
        return
    yield f"![Mean reward by step]({CURVE})"
    columns = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    yield _table(
        ("step", *columns),
        ((str(row["step"]), *(_number(row.get(key)) for key in columns)) for row in rows),
    )


def _versions(source: Source) -> str:
    trained = _fingerprint(source.facts)
    names = ("mlx-rl-trainer", "mlx", "mlx-lm")
    rows = [(name, trained.get(name.replace("-", "_"), ""), version(name)) for name in names]
    return _table(("", "trained with", "exported with"), [*rows, ("python", "", python_version())])


def _fingerprint(facts: Mapping[str, str]) -> dict[str, str]:
    try:
        found: object = yaml.safe_load(facts.get("fingerprint", ""))  # it is JSON
    except yaml.YAMLError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "-"


def _cell(text: str) -> str:
    """Text of a config or of a plug-in, which may hold anything, in a table."""
    cleaned = public_text(text)
    for mark in "|<`":
        cleaned = cleaned.replace(mark, f"&#{ord(mark)};")
    return " ".join(cleaned.split())


def _without_home(text: str) -> str:
    """Wherever a path of this user's still stands, it begins with ~."""
    home = str(Path.home())
    return text.replace(f"{home}/", "~/") if len(home) > 1 else text
