# pyright: reportMissingImports=false
"""What TRL's methods run on when no model is there, and how parts of long ones are run alone."""

import ast
import textwrap
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import torch

MAX_COMPLETION_TOKENS = 12
METRICS = {"kl_ref": "kl", "clip_fraction": "clip_ratio/region_mean"}


def stand_in(attributes: dict) -> SimpleNamespace:
    """What a trainer's `_compute_loss` reads of its trainer."""
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1,
            sync_gradients=False,
            gather=lambda array: array,
            reduce=lambda array, reduction: array,
        ),
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_COMPLETION_TOKENS,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **attributes,
    )


def no_ids(mask_BT: torch.Tensor) -> dict[str, torch.Tensor]:
    """Prompts and completions that the stand-in's model never looks at."""
    ids = {"prompt_ids": mask_BT[:, :1], "completion_ids": mask_BT}
    return {**ids, "prompt_mask": mask_BT[:, :1], "completion_mask": mask_BT}


def loss_and_gradients(compute_loss, self, batch, inputs) -> dict:
    """Loss, its gradients by the model's log-probabilities and entropies, and some metrics."""
    logprobs_BT = batch["logprobs_BT"].clone().requires_grad_()
    entropy_BT = batch["entropy_BT"].clone().requires_grad_()
    self._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs_BT, entropy_BT, None)
    loss = compute_loss(self, None, inputs)
    loss.backward()
    found = {"loss": loss.item(), "logprobs_gradient_BT": plain(logprobs_BT.grad)}
    if entropy_BT.grad is not None:
        found["entropy_gradient_BT"] = plain(entropy_BT.grad)
    means = self._metrics["train"]
    found["metrics"] = {name: means[key][0] for name, key in METRICS.items() if means[key]}
    return found


def cut(source: str, first: str, last: str) -> Callable[..., dict]:
    """Function that runs a block's statements from the one that begins with `first` to `last`."""
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            texts = [ast.unparse(child) for child in block] if isinstance(block, list) else []
            starts = [i for i, text in enumerate(texts) if text.startswith(first)]
            ends = [i for i, text in enumerate(texts) if text.startswith(last)]
            if starts and ends:
                code = "\n".join(texts[starts[0] : ends[0] + 1])
                return lambda known, _code=code, **given: run(_code, {**known, **given})
    raise LookupError(f"no block from {first!r} to {last!r}: another version of TRL?")


def run(code: str, names: dict) -> dict:
    """The names after `code` ran."""
    exec(code, names)
    return names


def in_1024ths(array: torch.Tensor) -> torch.Tensor:
    """Rounded, in float64: short in JSON, exact in float32."""
    return (array.double() * 1024).round() / 1024


def plain(array: torch.Tensor) -> list | float:
    """Nested lists, of 9 digits."""
    if array.dtype == torch.bool:
        return array.tolist()
    if array.dim() == 0:
        return float(f"{array.item():.9g}")
    return [plain(part) for part in array]
