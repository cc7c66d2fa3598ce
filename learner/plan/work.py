"""What a run will compute: lengths, the algorithm's needs, the largest microbatch."""

from dataclasses import dataclass

from learner.padding import padded
from protocol.config import RunConfig
from protocol.config_learner import AlgorithmSection


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of the learner's memory and time."""

    optimizer_steps: int = 1
    """In one training step."""
    minibatches: int = 1
    """Shares of the batch, one for each optimizer step of an epoch."""
    reference: bool = False
    critic: bool = False


@dataclass(frozen=True)
class Work:
    """One run's lengths and needs."""

    prompt_tokens: int
    """Of the longest prompt."""
    completion_tokens: int
    """Of the longest completion."""
    needs: Needs
    num_heldout: int = 0
    """Held-out prompts, which actors complete as well."""


@dataclass(frozen=True)
class Layout:
    """The sizes of a microbatch; see learner/batch.py."""

    rows: int
    row_tokens: int
    """Padded; with shared prompts of the completion alone."""
    completion_tokens: int
    prompts: int = 0
    """Shared prompts."""
    prompt_tokens: int = 0
    """Padded, of each shared prompt."""
    is_only: bool = True
    """Whether it is the whole batch."""

    @property
    def tokens(self) -> int:
        """That go through the model."""
        return self.rows * self.row_tokens + self.prompts * self.prompt_tokens

    @property
    def pairs(self) -> int:
        """(query, key) pairs of one attention head."""
        own = self.rows * self.row_tokens * (self.prompt_tokens + self.row_tokens)
        return own + self.prompts * self.prompt_tokens**2


def stated_needs(section: AlgorithmSection) -> Needs:
    """What the config itself says; defaults of the algorithm's own are not known here."""
    parameters = section.parameters
    minibatches = max(1, _number(parameters.get("minibatches")))
    steps = max(1, _number(parameters.get("epochs"))) * minibatches
    kl = parameters.get("kl")
    pulls = isinstance(kl, dict) and bool(kl.get("coefficient"))
    return Needs(steps, minibatches, pulls)


def shortest_work(config: RunConfig) -> Work:
    """What is certain without the data: completions can get as long as they may, prompts are there.

    So nothing is refused for prompts that turn out to be shorter than data.max_prompt_tokens.
    """
    return Work(1, config.generation.max_completion_tokens, stated_needs(config.algorithm))


def largest_microbatch(config: RunConfig, work: Work) -> Layout:
    """The microbatch of the longest prompts and completions, put together as learner/batch.py does.

    Args:
        config: its token budget, group size and groups a step.
        work: the lengths.
    """
    section, group = config.learner, config.generation.group_size
    num_rows = -(-section.groups_per_step * group // work.needs.minibatches)
    prompt, completion = work.prompt_tokens - 1, padded(work.completion_tokens)
    row = padded(prompt + work.completion_tokens)
    rows = min(num_rows, max(1, section.microbatch_tokens // row))
    apart = Layout(rows, row, completion, is_only=rows == num_rows)
    if not section.share_prompts or not prompt:
        return apart
    shared = _shared(section.microbatch_tokens, num_rows, group, completion, padded(prompt))
    return min(shared, apart, key=lambda layout: layout.tokens / layout.rows)


def _shared(budget: int, num_rows: int, group: int, completion: int, prompt: int) -> Layout:
    def layout(rows: int) -> Layout:
        prompts = -(-rows // group)
        return Layout(rows, completion, completion, prompts, prompt, rows == num_rows)

    rows = 1
    while rows < num_rows and layout(rows + 1).tokens <= budget:
        rows += 1
    return layout(rows)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1
