"""Generation: tokens a second, and how close a decode step is to the bare forward pass."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from bench.table.row import Better, Row, WorstOf

if TYPE_CHECKING:
    from bench.table.decoding import Decoding

GROUPS, GROUP_SIZE = 4, 8
COMPLETION_TOKENS = 64
SHORT, LONG = 64, 512
DECODE_STEPS = 32


class Generation(Row):
    """Tokens of completions a second, prefill included."""

    unit = "tokens/s"
    better: Better = "higher"

    def __init__(self, name: str, prompt_tokens: int, reach: float, *, best: bool) -> None:
        self.name, self.reach = name, reach
        self._prompt_tokens, self._best = prompt_tokens, best
        self.rival_name = "BatchGenerator at its best" if best else "mlx_lm.batch_generate"
        self._decoding: Decoding | None = None

    def prepare(self) -> None:
        """Load SmolLM2 once for both sides, let each make some tokens."""
        from bench.table.decoding import WARM_UP_TOKENS, Decoding

        self._decoding = Decoding(GROUPS, GROUP_SIZE, self._prompt_tokens, COMPLETION_TOKENS)
        self._decoding.ours(WARM_UP_TOKENS)
        self._rival(WARM_UP_TOKENS)
        rival = (
            "shared caches of prompt[:-1], one sampler, one gathered array of logprobs a step"
            if self._best
            else "prompts repeated, without logprobs; ours has them"
        )
        self.note = (
            f"SmolLM2-135M fp32, {GROUPS * GROUP_SIZE} sequences in groups of {GROUP_SIZE}, "
            f"prompts {self._prompt_tokens}, completions {COMPLETION_TOKENS}, temperature 1, "
            f"one process and one model for both; rival: {rival}"
        )

    def ours(self) -> float:
        """The actor's engine."""
        return self._rate(self._held.ours(COMPLETION_TOKENS))

    def rival(self) -> float:
        """The same prompts by mlx-lm."""
        return self._rate(self._rival(COMPLETION_TOKENS))

    def profile(self) -> str:
        """Prefill, decode step, and what is in them."""
        from bench.table.decode_profile import profile

        return profile(self._held)

    def _rival(self, tokens: int) -> float:
        return (self._held.batch_generator if self._best else self._held.batch_generate)(tokens)

    def _rate(self, seconds: float) -> float:
        gc.collect()  # the caches of one side must not weigh on the other
        return GROUPS * GROUP_SIZE * COMPLETION_TOKENS / seconds

    @property
    def _held(self) -> Decoding:
        assert self._decoding is not None
        return self._decoding


class DecodeStep(Row):
    """Seconds of a decode step; the rival only computes the logits and samples nothing."""

    unit = "seconds/step"
    better: Better = "lower"

    def __init__(self, prompt_tokens: int) -> None:
        self.name = f"prompts {prompt_tokens}"
        self._prompt_tokens = prompt_tokens
        self._decoding: Decoding | None = None

    def prepare(self) -> None:
        """Load, and take some steps of both."""
        from bench.table.decoding import Decoding

        self._decoding = Decoding(GROUPS, GROUP_SIZE, self._prompt_tokens, DECODE_STEPS)
        self._decoding.our_step_seconds(2)
        self._decoding.bare_step_seconds(2)

    def ours(self) -> float:
        """A step of the engine, of a batch in which nobody comes or goes."""
        assert self._decoding is not None
        return self._decoding.our_step_seconds(DECODE_STEPS)

    def rival(self) -> float:
        """The model alone at the same batch and contexts."""
        assert self._decoding is not None
        return self._decoding.bare_step_seconds(DECODE_STEPS)

    def close(self) -> None:
        """Let the model go before the next case loads one."""
        self._decoding = None
        gc.collect()


class DecodeShare(WorstOf):
    """How much of a decode step is the forward pass that cannot be avoided."""

    name = "engine/decode_share"
    unit = "seconds/step"
    better: Better = "lower"
    rival_name = "bare model forward"
    reach = 0.85
    note = (
        f"SmolLM2-135M fp32, batch {GROUPS * GROUP_SIZE}, mean of {DECODE_STEPS} steps from "
        "the prompts on; bare: mlx-lm's batch KV cache, logits evaluated, the same tokens again"
    )

    def cases(self) -> list[tuple[str, Row]]:
        """Short and long prompts."""
        return [(f"prompts {tokens}", DecodeStep(tokens)) for tokens in (SHORT, LONG)]

    def profile(self) -> str:
        """Of both lengths."""
        from bench.table.decode_profile import profile
        from bench.table.decoding import Decoding

        return "\n\n".join(
            f"prompts {tokens}\n{profile(Decoding(GROUPS, GROUP_SIZE, tokens, DECODE_STEPS))}"
            for tokens in (SHORT, LONG)
        )


ROWS = [
    Generation("engine/short", SHORT, 1.3, best=False),
    Generation("engine/long", LONG, 2.0, best=False),
    Generation("engine/short_best", SHORT, 1.1, best=True),
    Generation("engine/long_best", LONG, 1.1, best=True),
    DecodeShare(),
]
