"""The table's arithmetic: medians in turn, ratios where higher is better, entries that stay."""

import json
import sys
from collections.abc import Sequence

import pytest

from bench.table import __main__ as command
from bench.table.catalogue import all_rows, chosen
from bench.table.results import entry, read, significant, write
from bench.table.row import Better, Row, WorstOf, measure, ratio_of


class Scripted(Row):
    """Says figures that are given, and notes who was asked when."""

    unit = "things"
    rival_name = "them"
    reach = 1.5
    note = "how"

    def __init__(
        self,
        ours: Sequence[float],
        rival: Sequence[float],
        better: Better = "higher",
        name: str = "family/row",
    ) -> None:
        self._ours, self._rival = iter(ours), iter(rival)
        self.better, self.name = better, name
        self.asked: list[str] = []

    def prepare(self) -> None:
        self.asked.append("prepare")

    def ours(self) -> float:
        self.asked.append("ours")
        return next(self._ours)

    def rival(self) -> float:
        self.asked.append("rival")
        return next(self._rival)

    def close(self) -> None:
        self.asked.append("close")


class Cases(WorstOf):
    name = "family/worst"
    unit = "seconds"
    better: Better = "lower"
    note = "how"

    def __init__(self, rows: Sequence[tuple[str, Row]]) -> None:
        self._rows = rows

    def cases(self) -> Sequence[tuple[str, Row]]:
        return self._rows


def test_sides_take_turns_and_medians_are_compared():
    row = Scripted([10, 30, 90], [10, 20, 10])
    result = measure(row, 3)
    assert row.asked == ["prepare", *["ours", "rival"] * 3, "close"]
    # medians 30 and 10; single rounds 1, 1.5 and 9
    assert (result.ours, result.rival, result.ratio) == (30, 10, 3)
    assert result.spread == (1, 9)


@pytest.mark.parametrize(("better", "ratio"), [("higher", 0.5), ("lower", 2.0)])
def test_a_ratio_above_one_is_good_whatever_is_measured(better, ratio):
    assert ratio_of(5.0, 10.0, better) == ratio
    assert measure(Scripted([5], [10], better), 1).ratio == ratio


def test_the_case_with_the_lowest_ratio_counts():
    cases = [
        ("one", Scripted([1], [2], "lower")),
        ("four", Scripted([4], [2], "lower")),
        ("eight", Scripted([8], [8], "lower")),
    ]
    result = measure(Cases(cases), 1)
    assert (result.ours, result.rival, result.ratio) == (4, 2, 0.5)
    assert result.note == "worst of one: 2.00, four: 0.50, eight: 1.00. how"


def test_a_row_that_fails_is_closed():
    row = Scripted([], [])
    with pytest.raises(StopIteration):
        measure(row, 1)
    assert row.asked[-1] == "close"


def test_an_entry_has_the_five_fields_that_readers_know():
    found = entry(measure(Scripted([3.0000004], [2]), 1), "the machine was busy")
    assert found == {
        "ours": 3.0,
        "rival": 2.0,
        "ratio": 1.5,
        "unit": "things",
        "note": "against them; rounds in turn: 1, ratio of single rounds 1.5 to 1.5; how; "
        "the machine was busy",
    }


def test_figures_keep_what_was_measured():
    assert significant(269030016.0) == 269030000.0
    assert significant(0.012345678) == 0.0123457


def test_rows_that_were_not_run_keep_their_entries(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.json"
    write(out, {"family/old": {"ratio": 7}, "family/row": {"ratio": 0}})
    rows = {"family/row": Scripted([], []), "family/torn": Scripted([], [], name="family/torn")}
    measured = {"family/row": measure(Scripted([4], [2]), 1), "family/torn": None}
    monkeypatch.setattr(command, "all_rows", lambda: rows)
    monkeypatch.setattr(command, "machine", lambda: {"cores": 2})
    monkeypatch.setattr(command, "_busy", lambda _: "")
    monkeypatch.setattr(command, "_in_a_process", lambda row, *_, **__: measured[row.name])
    monkeypatch.setattr(sys, "argv", ["table", "--out", str(out)])
    assert command.main() == 1  # one row failed
    found = json.loads(out.read_text())
    assert found.keys() == {"family/old", "family/row", "machine"}
    assert found["family/old"] == {"ratio": 7}
    assert found["family/row"]["ratio"] == 2
    assert "2.00" in capsys.readouterr().out


def test_a_first_table_begins_with_nothing(tmp_path):
    assert read(tmp_path / "results.json") == {}


def test_rows_are_chosen_by_name_or_family():
    rows = {name: Scripted([], [], name=name) for name in ("a/x", "a/y", "ab/x")}
    assert [row.name for row in chosen(["a"], rows)] == ["a/x", "a/y"]
    assert [row.name for row in chosen(["ab/x", "a/y"], rows)] == ["a/y", "ab/x"]
    assert len(chosen([], rows)) == 3
    with pytest.raises(SystemExit, match="no row is called c"):
        chosen(["c"], rows)


def test_every_row_says_what_it_is_without_being_prepared():
    rows = all_rows()
    assert {"engine/short", "engine/decode_share", "weights/delta_lr1e-6"} <= rows.keys()
    for row in rows.values():
        assert row.name
        assert row.unit
        assert row.rival_name
        assert row.reach > 0
