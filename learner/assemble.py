"""Putting a learner together from its config, and checking what can be checked before."""

import asyncio
import logging
import secrets
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mlx.core as mx

from learner.algorithm import Algorithm, make_algorithm
from learner.checkpoints.position import Position
from learner.data.prompts import Prompts, TokenizedPrompt, left_out, read_prompts, tokenize_prompts
from learner.data.stream import prompt_stream
from learner.evaluation import Evaluation
from learner.evaluation_prompts import plan_evaluation, read_evaluation_prompts
from learner.evaluator import Evaluate, make_evaluator
from learner.exchange.evaluation_book import EvaluationBook
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.gauges import show_config
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.ledger.snapshot import Snapshot
from learner.loop import Loop
from learner.plan.shape import read_shape
from learner.publishing.shared import SharedVersions
from learner.publishing.writer import VersionWriter
from learner.resume import Resume
from learner.run_folder import RunFolder
from learner.serving import Serving
from learner.starting_point import checkpoint_facts, find_start, take_folder
from learner.step import Trainer
from learner.suites import resolve_evaluators, suites_of
from learner.tracker import EARLY_END_SECONDS, TrackedRun, Trackers, make_trackers
from protocol.config import RunConfig
from protocol.config_section import labels_of
from protocol.errors import ConfigError, WeightsError
from protocol.fingerprint import fingerprint
from protocol.messages import Welcome
from protocol.metrics import Metrics
from protocol.model_folder import model_folder
from protocol.policy import Policy, frozen_arrays, limit_memory, load_policy, logits
from protocol.process import this_host
from protocol.tokenizer import load_tokenizer, with_think_tags
from protocol.transport import LearnerSockets
from protocol.weights import combined_digest
from protocol.weights_folders import learner_folder, remove_abandoned_folders

if TYPE_CHECKING:
    from learner.colocated import Colocated

log = logging.getLogger("learner.assemble")

PUBLISH_CLOSE_SECONDS = 0.5
"""For a version that is being encoded when the run ends; nobody needs it any more."""


@dataclass
class Learner:
    """A learner that is ready to run."""

    loop: Loop
    exchange: Exchange
    colocated: "Colocated | None"
    serving: Serving | None

    def start(self) -> None:
        """Serve peers, the one in this process among them; `close` ends it."""
        self.exchange.start()
        self.loop.trackers.start(_tracked_run(self.loop))
        if self.colocated is not None:
            self.colocated.join()

    def close(self, reason: str, *, is_over: bool = False, hurry: bool = False) -> None:
        """Tell every peer that the run is over, and stop serving; see `Serving.close`."""
        self.loop.publishing.close(PUBLISH_CLOSE_SECONDS)
        self.exchange.close(reason)
        self.loop.trackers.close(EARLY_END_SECONDS)
        if self.serving is not None:
            self.serving.close(is_over=is_over, hurry=hurry)
        self.loop.folder.release()


def check(config: RunConfig) -> None:
    """Check plug-ins, model and data without loading the model.

    Raises:
        ConfigError: a parameter or the model; UnknownPluginError: a name; DataError: a row.
    """
    config = resolve_evaluators(config)
    _plugins(config)
    folder = model_folder(config.model.path, config.model.revision)
    _refuse_missing_layers(config)
    tokenizer = load_tokenizer(config.model, folder)
    prompts = asyncio.run(read_prompts(config.data, config.run.seed))
    tokenize_prompts(prompts.train[:1], tokenizer, sys.maxsize)
    asyncio.run(read_evaluation_prompts(config))


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


def _plugins(config: RunConfig) -> tuple[Algorithm, dict[str, Evaluate], Trackers]:
    """What the config names, once nothing in it contradicts that."""
    _refuse_publish_kind(config)
    trackers = Trackers(make_trackers(config.report_to))
    return make_algorithm(config.algorithm), make_evaluators(config), trackers


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
    config = resolve_evaluators(config)
    algorithm, evaluators, trackers = _plugins(config)
    prompts = asyncio.run(read_prompts(config.data, config.run.seed))
    heldout = asyncio.run(read_evaluation_prompts(config))
    metrics = Metrics()
    with ExitStack() as opened:
        transport = LearnerSockets(config.network.bind, config.network.port)
        opened.callback(transport.close)
        serving = _serve(config, folder.path, metrics, opened)
        policy = _load(config)
        trainer = Trainer(policy, algorithm, config)
        opened.callback(folder.release)
        if resume is not None and resume.source is None:
            folder.lock()  # before its checkpoints are read: another learner may still add to them
        train = _train_prompts(prompts, policy, config)
        facts = checkpoint_facts(config, [prompt.row for prompt in train])
        start = find_start(resume, folder, trainer.parameters, config, facts)
        position = start.position
        heldout.insert(0, (tuple(config.data.heldout), prompts.heldout))
        evaluation = plan_evaluation(config, evaluators, heldout, policy.tokenizer)
        book = _prompt_book(train, config, evaluation, position.snapshot)
        run_epoch = take_folder(folder, resume, start, config)
        folder.keep_left_out(left_out(prompts.train, train))
        shared = _shared_versions(config, folder.path)
        if shared is not None:
            opened.callback(shared.close)
        welcome = _welcome(config, policy, folder.path, run_epoch, run_id, shared)
        exchange = _exchange(config, transport, policy, book, position, welcome, metrics)
        opened.pop_all()  # the exchange and the learner close them from here on
    facts["run_epoch"] = str(run_epoch)
    metrics.set("mlxrl_run_epoch", run_epoch)
    writer = _version_writer(config, exchange, shared)
    loop = Loop(config, trainer, exchange, writer, evaluation, folder, metrics, position, facts)
    colocated = _colocated(exchange, policy, position, config, welcome.run_id)
    loop.exchange, loop.trackers = colocated or exchange, trackers
    if serving is not None:
        serving.view = lambda: exchange.view
    return Learner(loop, exchange, colocated, serving)


def _tracked_run(loop: Loop) -> TrackedRun:
    config = loop.config
    tree = config.model_dump(mode="json")
    return TrackedRun(config.run.name, loop.folder.path, tree, loop.position.step)


def _version_writer(
    config: RunConfig, exchange: Exchange, shared: SharedVersions | None
) -> VersionWriter:
    deltas = _publish_kind(config) == "delta"
    return VersionWriter(exchange, deltas=deltas, shared=shared, host=this_host())


def _exchange(
    config: RunConfig,
    transport: LearnerSockets,
    policy: Policy,
    prompts: PromptBook,
    position: Position,
    welcome: Welcome,
    metrics: Metrics,
) -> Exchange:
    limits, epoch = ledger_limits(config), welcome.run_epoch
    return Exchange(
        transport=transport,
        ledger=Ledger(limits, epoch, position.policy_version, position.snapshot),
        prompts=prompts,
        publisher=_publisher(config, policy, epoch),
        config=config,
        welcome=welcome,
        vocabulary=_vocabulary(policy),
        metrics=metrics,
        fingerprint=fingerprint() if config.run.deterministic else {},
    )


def _colocated(
    exchange: Exchange, policy: Policy, position: Position, config: RunConfig, run_id: str
) -> "Colocated | None":
    """The exchange with an actor in this process, which works while training waits."""
    if not config.learner.colocated_actor:
        return None
    from learner.colocated import Colocated  # brings the actors' code, which others do without

    return Colocated(exchange, policy, position.policy_version, config, run_id)


def ledger_limits(config: RunConfig) -> LedgerLimits:
    """The ledger's numbers from the config."""
    section = config.learner
    in_flight = section.groups_per_step * (section.max_off_policy_steps + 1)
    longest = [config.generation.max_completion_tokens]
    longest += [suite.max_completion_tokens for suite in suites_of(config)]
    return LedgerLimits(
        groups_per_step=section.groups_per_step,
        group_size=config.generation.group_size,
        max_off_policy_steps=section.max_off_policy_steps,
        max_completion_tokens=max(longest),
        max_attempts=section.max_attempts,
        lease_seconds=_lease_seconds(config),
        score_seconds=section.score_seconds,
        prompts_low_water=in_flight,
        max_refill_groups=section.max_refill_groups,
        no_resampling_pass_rate=config.data.no_resampling_pass_rate,
        pass_reward=config.data.pass_reward,
        deterministic=config.run.deterministic,
    )


def _lease_seconds(config: RunConfig) -> float:
    """A colocated actor makes no progress while a step is trained, and cannot be lost alone."""
    section = config.learner
    if section.colocated_actor:
        return max(section.lease_seconds, section.no_progress_seconds)
    return section.lease_seconds


def _load(config: RunConfig) -> Policy:
    limit_memory(
        wired_bytes=config.metal.wired_limit_bytes,
        cache_bytes=config.metal.learner_cache_bytes,
        memory_bytes=config.metal.learner_memory_bytes,
    )
    return load_policy(config)


def _train_prompts(
    prompts: Prompts, policy: Policy, config: RunConfig
) -> Sequence[TokenizedPrompt]:
    train = tokenize_prompts(prompts.train, policy.tokenizer, config.data.max_prompt_tokens)
    if config.run.max_steps and not train:
        raise ConfigError("data.train holds no prompts")
    return train


def _prompt_book(
    train: Sequence[TokenizedPrompt], config: RunConfig, evaluation: Evaluation, done: Snapshot
) -> PromptBook:
    stream = prompt_stream(config.data, (prompt.row for prompt in train), config.run.seed)
    return PromptBook(train, EvaluationBook(evaluation.suites), stream, first=done.watermark)


def _publisher(config: RunConfig, policy: Policy, run_epoch: int) -> Publisher:
    base_digest = combined_digest(frozen_arrays(policy))
    section = config.learner
    return Publisher(run_epoch, section.tuning, base_digest, section.publish.retained)


def _publish_kind(config: RunConfig) -> Literal["full", "lora", "delta"]:
    kind = config.learner.publish.kind
    if kind == "auto":
        return "lora" if config.learner.tuning == "lora" else "delta"
    return kind


def _shared_versions(config: RunConfig, run_dir: Path) -> SharedVersions | None:
    remove_abandoned_folders()
    section = config.learner.publish
    alone = config.learner.colocated_actor and not config.roles.actor
    if alone or not section.share_files or _publish_kind(config) == "lora":
        return None
    try:
        return SharedVersions(learner_folder(run_dir), section.retained)
    except WeightsError as error:
        log.warning("actors on this host receive every version: %s", error)
        return None


def _refuse_publish_kind(config: RunConfig) -> None:
    tuning, kind = config.learner.tuning, _publish_kind(config)
    if (kind == "lora") != (tuning == "lora"):
        what = "adapters only" if kind == "lora" else "the whole model"
        raise ConfigError(
            f"learner.publish.kind {kind} is for versions of {what}, but learner.tuning is "
            f"{tuning}: use learner.publish.kind auto"
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


def _welcome(
    config: RunConfig,
    policy: Policy,
    run_dir: Path,
    run_epoch: int,
    run_id: str,
    shared: SharedVersions | None,
) -> Welcome:
    told = with_think_tags(config, policy.tokenizer)
    return Welcome(
        run_id=run_id or secrets.token_hex(8),
        run_epoch=run_epoch,
        policy_version=0,
        config=told.model_dump_json(),
        host=this_host(),
        run_dir=str(run_dir),
        weights_dir="" if shared is None else str(shared.folder),
        heartbeat_seconds=config.network.heartbeat_seconds,
    )


def _serve(config: RunConfig, run_dir: Path, metrics: Metrics, opened: ExitStack) -> Serving | None:
    show_config(metrics, config, labels_of(config.rewards))
    if not config.network.http_port:
        return None
    serving = Serving(config, run_dir, metrics)
    opened.callback(serving.close)
    return serving


def _vocabulary(policy: Policy) -> int:
    return logits(policy.model, mx.array([[0]])).shape[-1]
