"""Data sets from a stand-in for the Hub."""

import json
from datetime import date

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from learner.data.hub_rows import hub_rows, patterns
from learner.data.sources import read_source
from protocol.config_data import SourceConfig
from protocol.errors import DataError
from tests.hub_server import serving

REPO = "test-org/sums"
ROWS = [{"question": f"{n}+{n}?", "answer": str(2 * n), "parts": [n, n]} for n in range(5)]


def parquet(rows) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def point_at(url, monkeypatch):
    """What HF_ENDPOINT does where it is set before huggingface_hub is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving() as hub:
        point_at(hub.url, monkeypatch)
        hub.repos[REPO] = {
            "README.md": b"sums",
            "train.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
            "main/test-00000-of-00002.parquet": parquet(ROWS[:3]),
            "main/test-00001-of-00002.parquet": parquet(ROWS[3:]),
            "data/dates.parquet": parquet([{"question": "when?", "day": date(2026, 1, 2)}]),
            "data/broken.parquet": b"PAR1 no",
            "data/broken.jsonl": b"{",
        }
        yield hub


def options(**given):
    return {"split": "train", **given}


def test_a_split_is_fetched_once_in_the_order_of_its_files(hub):
    placed = hub_rows("s", REPO, options(split="test", config="main"))
    assert [row for _, row in placed] == ROWS
    assert [place for place, _ in placed][::4] == [f"hub:{REPO}/main/test:{n}" for n in (1, 5)]
    assert not [request for request in hub.requests if "train" in request]
    hub.forget()
    assert hub_rows("s", REPO, options(split="test", config="main")) == placed
    assert not [request for request in hub.requests if "/resolve/" in request]


def test_without_the_hub_the_cache_is_used_and_what_it_lacks_is_refused(hub, monkeypatch):
    placed = hub_rows("s", REPO, options())
    hub.repos.clear()
    point_at("http://127.0.0.1:9", monkeypatch)
    assert hub_rows("s", REPO, options()) == placed
    with pytest.raises(DataError, match=r"no data set test-org/other: .*cannot be reached"):
        hub_rows("s", "test-org/other", options())


@pytest.mark.parametrize(
    ("repo", "given", "words"),
    [
        (REPO, {"split": ""}, r"wanted hub:<owner>/<name>\?split=train"),
        (REPO, {"splat": "x"}, r"wanted hub:<owner>/<name>\?split=train"),
        ("", {}, r"wanted hub:<owner>/<name>\?split=train"),
        (REPO, {"split": "dev"}, r"no file dev\.jsonl, dev-\*\.jsonl \.\.\. in \.jsonl or"),
        ("test-org/none", {}, "no data set test-org/none: no such"),
        (REPO, {"revision": "v9"}, "no revision 'v9'"),
        ("one/two/three", {}, "no Hub id"),
        (REPO, {"split": "dates"}, "column 'day' holds a date, which JSON does not have"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(hub, repo, given, words):
    with pytest.raises(DataError, match=words):
        hub_rows("s", repo, options(**given))


def test_a_damaged_file_is_named(hub):
    with pytest.raises(DataError, match=r"broken\.(jsonl|parquet)"):
        hub_rows("s", REPO, options(split="broken"))


async def test_columns_make_the_prompt(hub):
    source = SourceConfig(source=f"hub:{REPO}?split=train", count=2, columns={"prompt": "question"})
    rows = await read_source(source, "train", "text")
    assert [row.prompt for row in rows] == ["0+0?", "1+1?"]
    plain = await read_source(f"hub:{REPO}?split=train", "train", "question")
    assert [row.prompt for row in plain[:2]] == [row.prompt for row in rows]


def test_patterns_are_the_hubs_naming():
    assert patterns("train", "main")[0] == "main/train.jsonl"
    assert "data/train-*.parquet" in patterns("train", "")
