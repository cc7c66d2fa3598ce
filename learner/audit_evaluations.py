"""What an audit asks of eval.jsonl: every evaluation that the config wants, once an evaluator."""

from collections import Counter
from collections.abc import Iterator

from learner.audit_files import RunFiles


def wrong_evaluations(run: RunFiles) -> Iterator[str]:
    """Yields every evaluation that is missing, double, of an unknown evaluator or out of place.

    A run that has not ended may have been killed between its last step and the evaluation of it.
    """
    counted = Counter((row["evaluator"], row["step"]) for row in run.evaluations)
    for (name, step), number in sorted(counted.items()):
        if number > 1:
            yield f"evaluator {name} has {number} rows of step {step} in eval.jsonl"
        if name not in _names(run, step) or not 0 <= step <= run.last_step:
            yield f"eval.jsonl has a row of {name} at step {step}, which the run does not have"
    for step in sorted(_wanted_steps(run)):
        for name in _names(run, step):
            if not counted[name, step]:
                yield f"evaluator {name} has no row of step {step} in eval.jsonl"
    in_order = [row["step"] for row in run.evaluations]
    if in_order != sorted(in_order):
        yield "the rows of eval.jsonl are not in order"


def wrong_evaluation_versions(run: RunFiles) -> Iterator[str]:
    """Yields evaluations of another policy than the one that their step ended with."""
    for row in run.evaluations:
        of_step = run.steps.get(row["step"])
        wanted = 0 if row["step"] == 0 else of_step and of_step["policy_version"]
        if wanted is not None and row["policy_version"] != wanted:
            found = row["policy_version"]
            yield f"the evaluation at step {row['step']} is of version {found}, wanted {wanted}"


def _wanted_steps(run: RunFiles) -> set[int]:
    return {step for step in range(run.last_step + 1) if _is_wanted(run, step)}


def _is_wanted(run: RunFiles, step: int) -> bool:
    """As the config asks that the step was taken with; step 0 is before the first one."""
    config = run.config_of(max(step, 1))
    section, has_begun = config.evaluation, bool(run.last_step or run.has_ended)
    if not _names(run, step):
        return False
    if step == run.last_step and run.has_ended:
        return True
    if step == 0:
        return section.before_training and has_begun
    return bool(section.interval) and step % section.interval == 0 and step < run.last_step


def _names(run: RunFiles, step: int) -> list[str]:
    config = run.config_of(max(step, 1))
    sections = config.evaluation.evaluators
    return [section.name for section in sections if section.data or config.data.heldout]
