import io
import sys
from pathlib import Path

import pytest

from learner.launch.display import choose_display
from learner.launch.json_display import JsonDisplay
from learner.launch.live_display import LiveDisplay
from learner.launch.plain_display import PlainDisplay
from protocol.config import RunConfig


class Output(io.TextIOWrapper):
    def __init__(self, encoding: str, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture
def config() -> RunConfig:
    tree = {
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["arithmetic:add2?count=8"]},
        "rewards": [{"name": "exact_match"}],
    }
    return RunConfig.model_validate(tree)


@pytest.mark.parametrize(
    ("is_terminal", "term", "log_format", "wanted"),
    [
        (True, "xterm", "text", LiveDisplay),
        (True, "dumb", "text", PlainDisplay),
        (True, "xterm", "json", JsonDisplay),
        (False, "xterm", "text", PlainDisplay),
        (False, "xterm", "json", JsonDisplay),
    ],
)
def test_the_display_fits_where_it_goes(
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
    term: str,
    log_format: str,
    wanted: type,
):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stdout", Output("utf-8", is_terminal=is_terminal))
    assert type(choose_display(config, tmp_path, log_format)) is wanted


def test_what_the_terminal_cannot_show_ends_no_run(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = Output("latin-1", is_terminal=False)
    monkeypatch.setattr(sys, "stdout", output)
    choose_display(config, tmp_path, "text")
    output.write("grüße 日本\n")
    output.flush()
    assert output.buffer.getvalue() == "grüße ??\n".encode("latin-1")  # type: ignore[attr-defined]
