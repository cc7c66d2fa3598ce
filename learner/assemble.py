"""Putting a learner together from its config, and checking what can be checked before."""

import asyncio
import logging
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from learner.algorithm import make_algorithm
from learner.data import Prompts, PromptStream, read_prompts, tokenize_prompts
from learner.evaluator import Evaluate, make_evaluator
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.ledger.snapshot import Snapshot
from learner.loop import Loop
from learner.metrics_http import MetricsServer
from learner.plan.shape import read_shape
from learner.resume import Resume
from learner.run_folder import RunFolder
from learner.starting_point import checkpoint_facts, find_start, take_folder
from learner.step import Trainer
from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.fingerprint import fingerprint
from protocol.messages import Welcome
from protocol.model_folder import model_folder
from protocol.policy import Policy, frozen_arrays, limit_memory, load_policy, logits
from protocol.process import this_host
from protocol.telemetry import Metrics
from protocol.transport import LearnerSockets
from protocol.weights import combined_digest

log = logging.getLogger("learner.assemble")


@dataclass
class Learner:
    """A learner that is ready to run."""

    loop: Loop
    exchange: Exchange
    http: MetricsServer | None

    def close(self, reason: str) -> None:
        """Tell every peer that the run is over, and stop serving."""
        self.exchange.close(reason)
        if self.http is not None:
            self.http.close()
        self.loop.folder.release()


def check(config: RunConfig) -> None:
    """Check plug-ins, model and data without loading the model.

    Raises:
        ConfigError: a parameter or the model; UnknownPluginError: a name; DataError: a row.
    """
    make_algorithm(config.algorithm)
    make_evaluators(config)
    _refuse_publish_kind(config)
    model_folder(config.model.path)
    _refuse_missing_layers(config)
    asyncio.run(read_prompts(config.data, config.run.seed))


def make_evaluators(config: RunConfig) -> dict[str, Evaluate]:
    """Every configured evaluator by name.

    Raises:
        UnknownPluginError: no evaluator of that name.
        ConfigError: a parameter that it does not take, or one evaluator named twice.
    """
    evaluators: dict[str, Evaluate] = {}
    for section in config.evaluation.evaluators:
        if section.name in evaluators:
            raise ConfigError(f"evaluation.evaluators names {section.name} twice: name it once")
        evaluators[section.name] = make_evaluator(section)
    return evaluators


def assemble(
    config: RunConfig, folder: RunFolder, *, resume: Resume | None, run_id: str
) -> Learner:
    """Bind, load, restore and wire up everything; nothing runs yet.

    Args:
        config: the run.
        folder: its folder; written once nothing is left to refuse, so that bad input leaves none
            behind, nor another config in a run that is resumed.
        resume: where to go on; None for a new run.
        run_id: given to peers by their environment too; empty makes one.
    """
    algorithm, evaluators = make_algorithm(config.algorithm), make_evaluators(config)
    _refuse_publish_kind(config)
    prompts = asyncio.run(read_prompts(config.data, config.run.seed))
    metrics = Metrics()
    with ExitStack() as opened:
        transport = LearnerSockets(config.network.bind, config.network.port)
        opened.callback(transport.close)
        http = _serve_metrics(config, metrics)
        if http is not None:
            opened.callback(http.close)
        policy = _load(config)
        trainer = Trainer(policy, algorithm, config)
        opened.callback(folder.release)
        if resume is not None and resume.source is None:
            folder.lock()  # before its checkpoints are read: another learner may still add to them
        facts = checkpoint_facts(config, prompts.train)
        start = find_start(resume, folder, trainer.parameters, config, facts)
        position, done = start.position, start.position.snapshot
        book = _prompt_book(prompts, policy, config, done)
        run_epoch = take_folder(folder, resume, start, config)
        exchange = Exchange(
            transport=transport,
            ledger=Ledger(ledger_limits(config), run_epoch, position.policy_version, done),
            prompts=book,
            publisher=_publisher(config, policy, run_epoch),
            config=config,
            welcome=_welcome(config, folder.path, run_epoch, run_id),
            vocabulary=_vocabulary(policy),
            metrics=metrics,
            fingerprint=fingerprint() if config.run.deterministic else {},
        )
        opened.pop_all()  # the exchange and the learner close them from here on
    facts["run_epoch"] = str(run_epoch)
    num_heldout = book.num_heldout
    loop = Loop(
        config, trainer, exchange, evaluators, num_heldout, folder, metrics, position, facts
    )
    return Learner(loop, exchange, http)


def ledger_limits(config: RunConfig) -> LedgerLimits:
    """The ledger's numbers from the config."""
    section = config.learner
    in_flight = section.groups_per_step * (section.max_off_policy_steps + 1)
    return LedgerLimits(
        groups_per_step=section.groups_per_step,
        group_size=config.generation.group_size,
        max_off_policy_steps=section.max_off_policy_steps,
        max_completion_tokens=config.generation.max_completion_tokens,
        max_attempts=section.max_attempts,
        lease_seconds=section.lease_seconds,
        score_seconds=section.score_seconds,
        prompts_low_water=in_flight,
        max_refill_groups=section.max_refill_groups,
        no_resampling_pass_rate=config.data.no_resampling_pass_rate,
        pass_reward=config.data.pass_reward,
        deterministic=config.run.deterministic,
    )


def _load(config: RunConfig) -> Policy:
    limit_memory(
        wired_bytes=config.metal.wired_limit_bytes,
        cache_bytes=config.metal.learner_cache_bytes,
        memory_bytes=config.metal.learner_memory_bytes,
    )
    return load_policy(config)


def _prompt_book(prompts: Prompts, policy: Policy, config: RunConfig, done: Snapshot) -> PromptBook:
    limit = config.data.max_prompt_tokens
    train = tokenize_prompts(prompts.train, policy.tokenizer, limit)
    heldout = tokenize_prompts(prompts.heldout, policy.tokenizer, limit)
    if not train:
        raise ConfigError("data.train holds no prompts")
    stream = PromptStream(len(train), config.run.seed, config.data.epochs)
    return PromptBook(train, heldout, stream, first=done.watermark)


def _publisher(config: RunConfig, policy: Policy, run_epoch: int) -> Publisher:
    base_digest = combined_digest(frozen_arrays(policy))
    section = config.learner
    return Publisher(run_epoch, section.tuning, base_digest, section.publish.retained)


def _refuse_publish_kind(config: RunConfig) -> None:
    tuning, kind = config.learner.tuning, config.learner.publish.kind
    if kind not in ("auto", tuning):
        raise ConfigError(
            f"learner.publish.kind is {kind}, but learner.tuning is {tuning}: use auto"
        )


def _refuse_missing_layers(config: RunConfig) -> None:
    shape, layers = read_shape(config.model.path), config.learner.lora.layers
    if (
        config.learner.tuning == "lora"
        and shape
        and not (layers == -1 or 0 < layers <= shape.num_layers)
    ):
        raise ConfigError(
            f"learner.lora.layers is {layers}, the model has {shape.num_layers}: take 1 to "
            f"{shape.num_layers}, or -1 for all"
        )


def _welcome(config: RunConfig, run_dir: Path, run_epoch: int, run_id: str) -> Welcome:
    return Welcome(
        run_id=run_id or secrets.token_hex(8),
        run_epoch=run_epoch,
        policy_version=0,
        config=config.model_dump_json(),
        host=this_host(),
        run_dir=str(run_dir),
        heartbeat_seconds=config.network.heartbeat_seconds,
    )


def _serve_metrics(config: RunConfig, metrics: Metrics) -> MetricsServer | None:
    network = config.network
    if not network.http_port:
        return None
    return MetricsServer(network.bind, network.http_port, metrics.registry)


def _vocabulary(policy: Policy) -> int:
    return logits(policy.model, mx.array([[0]])).shape[-1]
