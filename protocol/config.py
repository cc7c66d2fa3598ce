"""The run's config: a frozen pydantic tree. protocol/config_file.py reads it from YAML.

A plug-in's section is `{name, **parameters}`; its parameters are checked against the plug-in's own
signature by the role that owns it, so no plug-in is listed here.
"""

from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from protocol.config_data import DataSection
from protocol.config_evaluation import CheckpointSection, EvaluationSection, refuse_unknown_best
from protocol.config_learner import AlgorithmSection, LearnerSection
from protocol.config_model import ModelSection
from protocol.config_section import PluginConfig, RewardConfig, Section
from protocol.fields import MAX_TOKENS

StopText = Annotated[str, Field(min_length=1, max_length=200)]
MAX_BYTES = 2**53
"""Of any bound on memory: what a machine's integers, and JSON's, hold exactly."""

RESHAPES_SAMPLING = frozenset(
    {
        *("top_p", "top_k", "min_p", "typical_p", "top_n_sigma", "xtc_probability"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"),
    }
)
"""Knobs of other samplers that `generation:` refuses by name: the learner, which computes with the
whole policy, could not know their distribution."""


def _by_name(section: object) -> object:
    return {"name": section} if isinstance(section, str) else section


def _in_a_list(section: object) -> object:
    return (section,) if isinstance(section, str) else section


TrackerConfig = Annotated[PluginConfig, BeforeValidator(_by_name)]
"""One tracker: `{name, **parameters}`, or its name alone."""


class RunSection(Section):
    """The run itself."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Also the run folder's name: runs/<name>."""
    seed: int = Field(default=0, ge=0)
    """Of data order and sampling."""
    deterministic: bool = False
    """The weights after each step are the same bytes, whoever works and whatever dies."""
    max_steps: int = Field(default=100, ge=0)
    """Training steps (batches handed to the trainer); 0 only evaluates."""


class RolesSection(Section):
    """How many processes `mlx-train` starts on this machine."""

    actor: int = Field(default=1, ge=0)
    """Actors; more may join from other machines."""
    reward_worker: int = Field(default=1, ge=0)
    """Reward workers; more may join from other machines."""


class PolicySection(Section):
    """Numbers that learner and actors must treat alike."""

    weight_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """What is published, and what both sides compute with."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """auto: bfloat16 on Metal, float32 on the CPU (where bfloat16 is 30 times slower)."""


class GenerationSection(Section):
    """Sampling, and the actors' engine."""

    group_size: int = Field(default=8, gt=1, le=4096)
    """Completions of one prompt."""
    max_completion_tokens: int = Field(default=256, gt=0, le=MAX_TOKENS)
    """The end token included."""
    temperature: float = Field(default=1.0, ge=0.001, le=10.0)
    """Also divides the learner's logits, so that both sides know the same policy."""
    max_sequences: int = Field(default=64, gt=0, le=10_000)
    """Completions that one actor decodes at once."""
    max_kv_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """Bound on the KV cache of an actor's completions, in bytes; 0 leaves it to max_sequences."""
    prefill_step_tokens: int = Field(default=512, gt=0, le=MAX_TOKENS)
    """Prompt tokens that are computed between two decode steps, so that none waits for long."""
    stop: tuple[StopText, ...] = Field(default=(), max_length=16)
    """Texts that end a completion; they belong to it."""
    in_flight_weight_updates: bool = True
    """Actors take new weights between two decode steps; else between completions only."""
    recompute_kv_cache_after_weight_updates: bool = False
    """After such a switch, compute the KV cache of what is being decoded anew."""
    recycle_tokens: int = Field(default=200_000, gt=0)
    """An actor's engine is built anew after this many tokens (Metal's buffer limit)."""

    @model_validator(mode="before")
    @classmethod
    def _samples_from_the_whole_policy(cls, data: object) -> object:
        keys = _keys(data)
        for key in sorted(RESHAPES_SAMPLING & keys.keys()):
            raise ValueError(
                f"{key} = {keys[key]!r} is refused at any value: it reshapes the distribution that "
                "actors sample from, so that the logprobs are not the policy's and every loss is "
                "biased (TRL #7269: a mean importance ratio of 0.896 under top-p). Remove it, and "
                "set generation.temperature to sample more or less freely"
            )
        return data


def _keys(section: object) -> dict[str, object]:
    return cast("dict[str, object]", section) if isinstance(section, dict) else {}


class RewardWorkerSection(Section):
    """The processes in which a reward worker runs reward functions."""

    processes: int | None = Field(default=None, gt=0, le=64)
    """Child processes of each reward worker; without it 2, or 1 on a single CPU. Rewards that wait
    for the sandbox need no more: it is the sandbox that is busy."""
    memory_bytes: int = Field(default=2 << 30, ge=128 << 20)
    """A child whose resident memory grows beyond this is killed."""


class SandboxSection(Section):
    """Confinement of code that the policy wrote, for rewards that run it."""

    slots: int | None = Field(default=None, gt=0, le=1024)
    """Candidates that one reward worker runs at a time; without it, one a CPU."""
    warm: int | None = Field(default=None, ge=0, le=1024)
    """Confined processes that wait for a candidate; without it, the pool decides."""
    start: Literal["auto", "fork", "fresh"] = "auto"
    """fork: copies of a process that never ran a candidate (Linux); fresh: a new interpreter each
    time; auto: fork where it works."""
    allow_degraded: tuple[Literal["namespaces", "network"], ...] = ()
    """Layers that may be missing: namespaces of a candidate (each result then says so), or the
    refusal of network to a reward function's own process (a warning says so)."""
    packages: str | None = None
    """A folder of Python packages that candidates may import."""
    cache_size: int = Field(default=10_000, ge=0)
    """Verdicts that are remembered."""


class NetworkSection(Section):
    """Where the learner listens: `port` to `port + 3` and `http_port`, all on `bind`."""

    bind: str = "127.0.0.1"
    """Address that the learner listens on."""
    port: int = Field(default=19550, gt=0, lt=65533)
    """The first of four."""
    http_port: int = Field(default=19560, ge=0, lt=65536)
    """The run page, /metrics and /sd for Prometheus, /healthz; 0 serves none."""
    heartbeat_seconds: float = Field(default=1.0, ge=0.2, le=60.0)
    """A peer that was silent for ten of these is lost."""
    insecure: bool = False
    """Binding to anything but loopback, where traffic is neither encrypted nor authenticated."""

    @model_validator(mode="after")
    def _ports_and_bind_fit(self) -> "NetworkSection":
        if self.port <= self.http_port <= self.port + 3:
            own = f"{self.port} to {self.port + 3}"
            raise ValueError(f"http_port {self.http_port} is one of {own}: choose another")
        if not self.insecure and self.bind not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"bind {self.bind} is reachable from other machines and traffic is not encrypted: "
                "set network.insecure=true on a network that you trust"
            )
        return self


class MetalSection(Section):
    """Limits of MLX's allocator by role, in bytes; 0 leaves MLX's default."""

    wired_limit_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """Memory that macOS may not page out. Some users met kernel panics with it: off by default."""
    learner_cache_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """Freed buffers that MLX keeps in the learner."""
    actor_cache_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """The same in each actor."""
    learner_memory_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """Memory above which MLX waits for work to finish before it allocates, in the learner."""
    actor_memory_bytes: int = Field(default=0, ge=0, le=MAX_BYTES)
    """The same in each actor."""


class RunConfig(Section):
    """A whole run."""

    run: RunSection = RunSection()
    roles: RolesSection = RolesSection()
    model: ModelSection
    policy: PolicySection = PolicySection()
    data: DataSection
    generation: GenerationSection = GenerationSection()
    rewards: tuple[RewardConfig, ...] = ()
    """Plug-ins of reward_workers/rewards/: `{name, weight, timeout_seconds, **parameters}`; their
    weighted sum. timeout_seconds (30) bounds the CPU time, and likewise the idle time, that one
    completion takes."""
    reward_worker: RewardWorkerSection = RewardWorkerSection()
    sandbox: SandboxSection = SandboxSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    """A plug-in of learner/algorithms/: `{name, **parameters}`."""
    learner: LearnerSection = LearnerSection()
    evaluation: EvaluationSection = EvaluationSection()
    checkpoints: CheckpointSection = CheckpointSection()
    network: NetworkSection = NetworkSection()
    metal: MetalSection = MetalSection()
    report_to: Annotated[tuple[TrackerConfig, ...], BeforeValidator(_in_a_list)] = ()
    """Plug-ins of learner/trackers/ (tensorboard, wandb): names, or `{name, **parameters}`."""

    @model_validator(mode="after")
    def _best_of_what_is_evaluated(self) -> "RunConfig":
        refuse_unknown_best(self.checkpoints.keep_best, self.evaluation)
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "RunConfig":
        """An evaluation alone (max_steps 0) needs neither: its evaluators may bring them."""
        if self.run.max_steps and not self.data.train:
            raise ValueError("data.train: wanted at least one entry")
        if self.run.max_steps and not self.rewards:
            raise ValueError("rewards: wanted at least one entry")
        return self

    @model_validator(mode="after")
    def _colocated_where_it_can_be(self) -> "RunConfig":
        stale, in_flight = (
            self.learner.max_off_policy_steps,
            self.generation.in_flight_weight_updates,
        )
        if self.learner.colocated_actor and stale and not in_flight:
            raise ValueError(
                "learner.colocated_actor with generation.in_flight_weight_updates=false needs "
                f"learner.max_off_policy_steps=0, found {stale}: each step replaces the one copy "
                "of the weights, under whatever is being decoded. Set that to 0, or "
                "generation.in_flight_weight_updates=true"
            )
        return self

    @model_validator(mode="after")
    def _deterministic_where_it_can_be(self) -> "RunConfig":
        if not self.run.deterministic:
            return self
        stale = self.learner.max_off_policy_steps
        if stale:
            raise ValueError(
                f"run.deterministic needs learner.max_off_policy_steps=0, found {stale}: which "
                "version a completion was sampled under would depend on timing"
            )
        if self.learner.max_refill_groups and self.data.no_resampling_pass_rate is not None:
            raise ValueError(
                "run.deterministic goes with learner.max_refill_groups or with "
                "data.no_resampling_pass_rate, not with both: what retires while a batch is "
                "filled would depend on timing. Set one of them back to its default"
            )
        return self
