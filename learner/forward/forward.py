"""The learner's forward pass over a microbatch."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from learner.batch import Microbatch
from learner.forward.logprobs import chunked_logprobs
from learner.forward.prompts import PromptReader, PromptRecorder, SharedPrompts
from learner.forward.recompute import recompute_layers
from learner.forward.trunk import SplitModel
from protocol.config_learner import LearnerSection

log = logging.getLogger("learner.forward")

MAX_SHARING_ERROR = 0.05
"""Of hidden states, relative to the largest: rounding in bfloat16 stays below; a wrong position or
mask, which moves them by about their own size, does not."""


@dataclass(frozen=True)
class Figures:
    """What a forward pass gives for a microbatch; 0 outside its mask."""

    logprobs_BT: mx.array
    """Nats."""
    entropy_BT: mx.array
    """Nats."""
    hidden_ND: mx.array
    """fp32; what the value head reads: one row for each True of the mask, in its order."""
    positions_N: mx.array
    """Where those rows belong in a flattened [B * T]."""


class Forward:
    """Tokens -> logprobs and entropies of completions, as the config's section asks for.

    Args:
        model: an mlx-lm model; its layers are changed if `grad_checkpoint` asks for it.
        section: the config.
        temperature: the sampling temperature.
        entropy_gradient: let gradients flow through entropies.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - mlx-lm's models have no common type
        section: LearnerSection,
        *,
        temperature: float,
        entropy_gradient: bool,
    ) -> None:
        self._model = SplitModel(model)
        self.hidden_size: int = self._model.hidden(mx.array([[1]])).shape[-1]
        self._num_layers = len(make_prompt_cache(model))
        self._chunk_tokens = section.logits_chunk_tokens
        self._temperature = temperature
        self._entropy_gradient = entropy_gradient
        self.shares_prompts = section.share_prompts and self._can_share(model)
        if section.grad_checkpoint:
            recompute_layers(model)

    @property
    def has_hidden_states(self) -> bool:
        """Whether `Figures.hidden_ND` are hidden states; else they are logits."""
        return self._model.is_split

    def __call__(self, part: Microbatch, temperature: float | None = None) -> Figures:
        """Figures of a microbatch; `temperature` in place of the sampling temperature."""
        hidden_BLD = self._hidden(part.inputs_BL, part.prompts)
        rows, columns = np.nonzero(np.array(part.mask_BT))
        width = part.mask_BT.shape[1]
        taken = rows * part.inputs_BL.shape[1] + np.array(part.first_B)[rows] + columns
        positions_N = mx.array(rows * width + columns)
        hidden_ND = hidden_BLD.reshape(-1, hidden_BLD.shape[-1])[mx.array(taken)]
        parameters = self._model.head_parameters()
        logprobs_N, entropy_N = chunked_logprobs(
            self._head(list(parameters)),
            hidden_ND,
            list(parameters.values()),
            part.targets_BT.reshape(-1)[positions_N],
            temperature=self._temperature if temperature is None else temperature,
            chunk_tokens=self._chunk_tokens,
            entropy_gradient=self._entropy_gradient,
        )
        self._model.use_head_parameters(parameters)  # back to the arrays of the graph outside
        shape = part.mask_BT.shape
        return Figures(
            scatter(logprobs_N, positions_N, shape),
            scatter(entropy_N, positions_N, shape),
            hidden_ND.astype(mx.float32),
            positions_N,
        )

    def _head(self, names: list[str]) -> Any:  # noqa: ANN401 - a Head
        def head(hidden_ND: mx.array, parameters: list[mx.array]) -> mx.array:
            self._model.use_head_parameters(dict(zip(names, parameters, strict=True)))
            return self._model.logits(hidden_ND)

        return head

    def _hidden(self, inputs_BL: mx.array, prompts: SharedPrompts | None) -> mx.array:
        if prompts is None:
            return self._model.hidden(inputs_BL)
        recorders = [PromptRecorder() for _ in range(self._num_layers)]
        self._model.hidden(prompts.tokens_NP, recorders)  # its last layer is never evaluated
        readers: list[Any] = []
        for recorder in recorders:
            assert recorder.keys_NHPK is not None
            assert recorder.values_NHPK is not None
            readers.append(PromptReader(recorder.keys_NHPK, recorder.values_NHPK, prompts))
        return self._model.hidden(inputs_BL, readers)

    def _can_share(self, model: Any) -> bool:  # noqa: ANN401
        """Compare both ways on short prompts, of different lengths and of one."""
        if not all(isinstance(c, KVCache | RotatingKVCache) for c in make_prompt_cache(model)):
            log.info("prompts are computed once a completion: this model keeps more than keys")
            return False
        try:
            error = max(self._sharing_error((3, 2)), self._sharing_error((3, 3)))
        except (AttributeError, AssertionError, TypeError, ValueError) as fault:
            log.warning("prompts are computed once a completion: %s", fault)
            return False
        if not error <= MAX_SHARING_ERROR:
            log.warning("prompts are computed once a completion: sharing is off by %.2g", error)
            return False
        return True

    def _sharing_error(self, lengths: tuple[int, int]) -> float:
        """Largest error of hidden states for two prompts of at most 3 tokens, relative to them."""
        tokens = np.array([[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7]])
        first, second = lengths
        prompts = SharedPrompts(mx.array(tokens[:, :3]), lengths, (0, 1))
        inputs = np.stack([tokens[0, first : first + 2], tokens[1, second : second + 2]])
        found = self._hidden(mx.array(inputs), prompts)
        whole = self._model.hidden(mx.array(tokens))
        wanted = mx.stack([whole[0, first : first + 2], whole[1, second : second + 2]])
        return float(mx.abs(found - wanted).max() / mx.abs(wanted).max())


def scatter(figures_N: mx.array, positions_N: mx.array, shape: tuple[int, ...]) -> mx.array:
    """[N] figures put in their places of a [B, T]; 0 elsewhere."""
    flat = mx.zeros(math.prod(shape), figures_N.dtype)
    return flat.at[positions_N].add(figures_N).reshape(shape)
