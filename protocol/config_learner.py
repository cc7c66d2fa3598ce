"""The config's sections about training: algorithm, optimizer, what is trained and published."""

from typing import Annotated, Literal

from pydantic import Field

from protocol.config_section import PluginConfig, Section

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class AlgorithmSection(PluginConfig):
    """The algorithm: `{name, **parameters}`."""

    name: str = "grpo"


class OptimizerSection(Section):
    """Optimizer and learning-rate schedule."""

    name: Literal["adamw"] = "adamw"
    """AdamW with bias correction, on fp32 masters."""
    learning_rate: float = Field(default=1e-6, ge=0.0)
    """The peak, reached after the warm-up."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""
    eps: float = Field(default=1e-8, gt=0.0)
    """Keeps the step finite where the gradient is 0."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled; of matrices only."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """The gradient's global norm is clipped to this."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up; linear and cosine fall to 0 at run.max_steps."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to its peak."""


class LoraSection(Section):
    """Low-rank adapters; used when learner.tuning is lora."""

    rank: int = Field(default=8, gt=0)
    """Inner dimension of the adapters."""
    scale: float = Field(default=2.0, gt=0.0)
    """Of the adapter's output; PEFT's alpha / rank."""
    layers: int = Field(default=-1, ge=-1)
    """How many of the last layers get adapters; -1 is all."""


class PublishSection(Section):
    """How new weights reach the actors."""

    kind: Literal["auto", "full", "lora", "delta"] = "auto"
    """auto: lora for lora tuning, else delta: only what changed, without loss (or full)."""
    retained: int = Field(default=2, gt=0, le=1000)
    """Versions kept whole for actors that are fetching them."""
    share_files: bool = True
    """Actors on the learner's host read whole versions from a file instead of receiving them."""


class LearnerSection(Section):
    """The learner's step."""

    tuning: Literal["full", "lora"] = "full"
    """full trains every parameter; lora trains adapters and publishes only those."""
    groups_per_step: int = Field(default=16, gt=0, le=1_000_000)
    """Groups in a training batch."""
    max_off_policy_steps: int = Field(default=1, ge=0, le=1000)
    """Bound on staleness, in policy versions; 0 is synchronous."""
    no_progress_seconds: float = Field(default=300.0, gt=0.0)
    """The run ends, with the reason, after this long without a rollout, a score or a step."""
    max_attempts: int = Field(default=10, gt=0)
    """A group that was given out this often without success is dropped."""
    lease_seconds: float = Field(default=60.0, gt=0.0)
    """Without progress for this long, a lease goes to another actor (with colocated_actor, after
    no_progress_seconds: that actor stands still while a step is trained)."""
    score_seconds: float = Field(default=120.0, gt=0.0)
    """Without a score for this long, a sample goes to another reward worker."""
    max_refill_groups: int = Field(default=0, ge=0)
    """Groups of equal rewards that one step may replace by fresh prompts (dynamic sampling)."""
    colocated_actor: bool = False
    """Generate inside the learner's process too, on the same weights, in turns with training."""
    filter_zero_advantages: bool = True
    """Leave completions without advantage out of compute where they have no gradient."""
    microbatch_tokens: int = Field(default=8192, gt=0)
    """Token budget of one forward and backward pass, padding included."""
    logits_chunk_tokens: int = Field(default=256, gt=0)
    """Tokens whose logits over the whole vocabulary stand in memory at once."""
    share_prompts: bool = True
    """Compute a group's prompt once instead of once a completion, where the model allows it."""
    grad_checkpoint: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    max_skipped_in_row: int = Field(default=3, gt=0)
    """Steps with non-finite numbers after which the run stops."""
    max_parity_kl: float = Field(default=0.015, gt=0.0)
    """The run stops if actors and learner disagree by more, in nats a token, about tokens that were
    sampled under the very weights that the learner holds."""
    critic_learning_rate: float = Field(default=1e-4, ge=0.0)
    """Peak for the value head of algorithms with a critic; same schedule as the policy's."""
    optimizer: OptimizerSection = OptimizerSection()
    lora: LoraSection = LoraSection()
    publish: PublishSection = PublishSection()
