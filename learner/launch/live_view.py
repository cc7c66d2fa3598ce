"""What the live view of mlx-train looks like: a few lines of text, for a terminal of some width."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from learner.launch.progress import RunProgress, duration, figure
from learner.launch.role_line import RoleLine, clean
from learner.launch.sparkline import sparkline

_LABEL_CELLS = 10
_BAR_CELLS = 40
_MIN_BAR_CELLS = 10
_NAMES = {"actor": "actors", "reward_worker": "reward workers"}


def view_lines(
    progress: RunProgress,
    warnings: Iterable[RoleLine],
    *,
    elapsed_seconds: float,
    width: int,
    is_unicode: bool = True,
) -> list[Text]:
    """Return the view's lines, none of them wider than the terminal.

    Args:
        progress: of the run.
        warnings: the last ones, newest last.
        elapsed_seconds: since mlx-train began.
        width: cells of a line.
        is_unicode: whether the terminal can show more than ASCII.
    """
    rows = [
        ("reward", _reward(progress, is_unicode)),
        ("held-out", [progress.accuracy_line().removeprefix("held-out ")]),
        ("rates", _rates(progress)),
        ("time", [f"{name} {share:.0%}" for name, share in progress.time_shares().items()]),
        ("peers", _peers(progress)),
        ("staleness", _staleness(progress)),
    ]
    lines = [_head(progress, elapsed_seconds, width, is_unicode)]
    for label, parts in rows:
        lines += _filled(label, [part for part in parts if part], width)
    lines += [_warning(line) for line in warnings]
    if progress.page:
        lines += _filled("run page", [progress.page], width)
    for line in lines:
        line.truncate(width, overflow="ellipsis" if is_unicode else "crop")
    return lines


def _head(progress: RunProgress, elapsed_seconds: float, width: int, is_unicode: bool) -> Text:
    step, total = progress.step, progress.max_steps
    done = min(step / total, 1.0) if total else 1.0
    start = f"step {step}/{total} "
    left = progress.eta_seconds()
    times = f"{duration(elapsed_seconds)} elapsed" + (f", {duration(left)} left" if left else "")
    end = f" {done:.0%}  {times}"
    cells = min(_BAR_CELLS, width - len(start) - len(end))
    head = Text(start, style="bold")
    if cells >= _MIN_BAR_CELLS:
        full, empty = "━─" if is_unicode else "=-"
        num_full = round(done * cells)
        head.append(full * num_full, style="not bold green")
        head.append(empty * (cells - num_full), style="not bold dim")
    return head.append(end, style="not bold")


def _reward(progress: RunProgress, is_unicode: bool) -> list[str]:
    last = progress.value("reward/mean")
    if last is None:
        return ["waiting for the first step"] if not progress.step else []
    parts = [f"{last:.3f}", sparkline(progress.series("reward/mean"), is_unicode=is_unicode)]
    if len(progress.rewards) > 1:
        means = {name: progress.value(f"reward/{name}/mean") for name in progress.rewards}
        parts += [f"{clean(name)} {figure(mean, '.3f')}" for name, mean in means.items()]
    return parts


def _rates(progress: RunProgress) -> list[str]:
    known = (
        (progress.value("tokens_per_second"), ".0f", "tokens/s"),
        (progress.value("samples_per_second"), ".1f", "samples/s"),
        (progress.value("seconds/step"), ".2f", "s/step"),
    )
    return [f"{value:{form}} {unit}" for value, form, unit in known if value is not None]


def _peers(progress: RunProgress) -> list[str]:
    if not progress.step:
        return []
    parts: list[str] = []
    for role, wanted in progress.wanted.items():
        found, idle = progress.value(f"peers/{role}"), progress.value(f"idle/{role}")
        rest = "" if idle is None else f" ({idle:.0%} idle)"
        parts.append(f"{figure(found, '.0f')} of {wanted} {_NAMES.get(role, role)}{rest}")
    idle = progress.value("idle/learner")
    return parts if idle is None else [*parts, f"learner ({idle:.0%} idle)"]


def _staleness(progress: RunProgress) -> list[str]:
    mean, most = progress.value("staleness/mean"), progress.value("staleness/max")
    return [] if mean is None else [f"mean {mean:.2f}, max {figure(most, '.0f')}"]


def _warning(line: RoleLine) -> Text:
    style = "yellow" if line.level == "WARNING" else "red"
    return Text(f"{line.time} {clean(line.process)}: {line.message}", style=style)


def _filled(label: str, parts: Sequence[str], width: int) -> list[Text]:
    """The label and its parts, on as many lines as they need; nothing where there are no parts."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + Text(part).cell_len <= width:
            lines[-1].append("  " + part)
        else:
            start = "" if lines else label
            lines.append(Text(start.ljust(_LABEL_CELLS), style="cyan"))
            lines[-1].append(part, style="default")
    return lines
