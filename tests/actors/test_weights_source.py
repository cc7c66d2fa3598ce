import shutil
from pathlib import Path

import pytest

from actors.weights_source import WeightsSource, source_of
from protocol.messages import Welcome
from protocol.process import this_host
from protocol.weights import digest_of
from protocol.weights_files import WeightsFiles
from protocol.weights_folders import host_folder

DATA = [bytes([i]) * 50 for i in range(5)]
DIGESTS = [digest_of(data) for data in DATA]


def names(folder):
    return {path.name for path in folder.iterdir() if not path.suffix}


def test_without_folders_every_actor_fetches_for_itself():
    source = WeightsSource()
    assert source.claim(DIGESTS[0])
    assert source.find(DIGESTS[0], 50) is None
    assert source.store(DIGESTS[0], DATA[0]) is None
    source.close()


def test_one_actor_claims_a_version_and_the_other_one_finds_it(tmp_path):
    ours, theirs = (WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(2))
    assert ours.claim(DIGESTS[0])
    assert not theirs.claim(DIGESTS[0])
    assert theirs.find(DIGESTS[0], 50) is None
    assert ours.store(DIGESTS[0], DATA[0]) == DATA[0]
    assert theirs.find(DIGESTS[0], 50) == DATA[0]
    assert theirs.claim(DIGESTS[0])  # free again


def test_a_claim_that_is_given_up_is_free_for_others(tmp_path):
    ours, theirs = (WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(2))
    assert ours.claim(DIGESTS[0])
    assert ours.claim(DIGESTS[1])  # one at a time
    assert theirs.claim(DIGESTS[0])
    ours.release()
    assert theirs.claim(DIGESTS[1])


def test_what_was_not_claimed_is_not_shared(tmp_path):
    source = WeightsSource(host=WeightsFiles(tmp_path / "w"))
    assert source.store(DIGESTS[0], DATA[0]) is None
    assert names(tmp_path / "w") == set()


def test_an_actor_that_is_alone_on_its_host_writes_nothing(tmp_path):
    source = WeightsSource(host=WeightsFiles(tmp_path / "w"))
    assert source.claim(DIGESTS[0])
    assert source.store(DIGESTS[0], DATA[0]) is None
    assert names(tmp_path / "w") == set()
    other = WeightsSource(host=WeightsFiles(tmp_path / "w"))
    assert other.claim(DIGESTS[1])
    assert other.store(DIGESTS[1], DATA[1]) == DATA[1]
    source.close()
    assert other.claim(DIGESTS[2])
    assert other.store(DIGESTS[2], DATA[2]) is None


def test_a_folder_that_disappears_over_a_fetch_costs_the_sharing_alone(tmp_path):
    source, _ = (WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(2))
    assert source.claim(DIGESTS[0])
    shutil.rmtree(tmp_path / "w")
    assert source.store(DIGESTS[0], DATA[0]) is None
    source.close()


def test_the_last_actor_of_a_host_removes_the_folder(tmp_path):
    ours, theirs = (WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(2))
    ours.close()
    assert (tmp_path / "w").exists()
    theirs.close()
    assert not (tmp_path / "w").exists()


def test_folders_of_ended_runs_are_removed_and_those_of_living_actors_stay(
    welcome, run_config, tmp_path
):
    left, held, mine = (host_folder(name) for name in ("killed", "living", "mine"))
    for folder in (left, held, mine):
        WeightsFiles(folder).write(DIGESTS[0], DATA[0])
    (mine / "notes").write_text("not ours to remove")
    living = WeightsSource(host=WeightsFiles(held))
    source = source_of(welcome(host="elsewhere"), run_config())
    assert not left.exists()
    assert living.find(DIGESTS[0], 50) == DATA[0]
    assert (mine / "notes").exists()
    assert host_folder("run-7").exists()
    source.close()
    living.close()


def test_where_more_actors_are_than_seats_none_takes_itself_for_alone(tmp_path):
    sources = [WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(17)]
    for source in sources[:16]:
        source.close()
    assert sources[16].claim(DIGESTS[0])
    assert sources[16].store(DIGESTS[0], DATA[0]) == DATA[0]


def test_the_newest_version_and_the_one_before_it_stay(tmp_path):
    source, _ = (WeightsSource(host=WeightsFiles(tmp_path / "w")) for _ in range(2))
    for digest, data in zip(DIGESTS, DATA, strict=True):
        assert source.claim(digest)
        assert source.store(digest, data) == data
    assert names(tmp_path / "w") == set(DIGESTS[-2:])
    source.close()
    assert names(tmp_path / "w") == set()


def test_the_learners_folder_is_only_read(tmp_path):
    files = WeightsFiles(tmp_path / "w")
    files.write(DIGESTS[0], DATA[0])
    source = WeightsSource(learner=WeightsFiles(tmp_path / "w"))
    assert source.has_learners_files
    assert source.find(DIGESTS[0], 50) == DATA[0]
    assert source.claim(DIGESTS[1])
    assert source.store(DIGESTS[1], DATA[1]) is None
    source.close()
    assert names(tmp_path / "w") == {DIGESTS[0]}


def test_a_manifest_of_a_wrong_size_does_not_remove_the_learners_file(tmp_path):
    WeightsFiles(tmp_path / "w").write(DIGESTS[0], DATA[0])
    source = WeightsSource(learner=WeightsFiles(tmp_path / "w"))
    assert source.find(DIGESTS[0], 49) is None
    assert source.find(DIGESTS[0], 50) == DATA[0]


def test_a_folder_that_takes_nothing_more_ends_the_sharing_with_one_line(tmp_path, caplog):
    source = WeightsSource(host=WeightsFiles(tmp_path / "w"))
    shutil.rmtree(tmp_path / "w")
    for digest in DIGESTS:
        assert source.claim(digest)
        assert source.store(digest, DATA[0]) is None
    [told] = caplog.records
    assert "every actor fetches its own" in told.getMessage()


@pytest.fixture
def welcome(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path / "cache"))

    def make(**fields):
        facts = {"run_id": "run-7", "run_epoch": 1, "policy_version": 0, "config": "{}"}
        where = {"host": this_host(), "run_dir": "/runs/x", "weights_dir": str(tmp_path / "w")}
        return Welcome.model_validate({**facts, **where, **fields})

    return make


def test_the_learners_folder_is_read_where_it_is_on_this_host(welcome, run_config, tmp_path):
    (tmp_path / "w").mkdir(mode=0o700)
    assert source_of(welcome(), run_config()).has_learners_files


@pytest.mark.parametrize(
    "fields", [{"host": "elsewhere"}, {"weights_dir": ""}, {"weights_dir": "/nowhere/at/all"}]
)
def test_the_actors_of_another_host_share_a_folder_of_their_own(
    welcome, run_config, tmp_path, fields
):
    (tmp_path / "w").mkdir(mode=0o700)
    source, _ = (source_of(welcome(**fields), run_config()) for _ in range(2))
    assert not source.has_learners_files
    assert source.claim(DIGESTS[0])
    source.store(DIGESTS[0], DATA[0])
    assert names(host_folder("run-7")) == {DIGESTS[0]}
    assert names(tmp_path / "w") == set()


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(36, "long"), ValueError("0")])
def test_a_learners_folder_that_cannot_be_looked_at_costs_one_line(
    welcome, run_config, monkeypatch, caplog, error
):
    def refuse(_):
        raise error

    monkeypatch.setattr(Path, "is_dir", refuse)
    source = source_of(welcome(), run_config())
    assert not source.has_learners_files
    assert source.claim(DIGESTS[0])
    [told] = caplog.records
    assert "cannot be read here" in told.getMessage()


@pytest.mark.parametrize("odd", ["/" + 3000 * "x", "/a\0b"])
def test_what_is_no_path_is_no_folder_of_the_learners(welcome, run_config, odd):
    assert not source_of(welcome(weights_dir=odd), run_config()).has_learners_files


@pytest.mark.parametrize("learner", [{"tuning": "lora"}, {"publish": {"share_files": False}}])
def test_adapters_are_not_shared_nor_where_the_run_says_no(welcome, run_config, tmp_path, learner):
    (tmp_path / "w").mkdir(mode=0o700)
    for host in (this_host(), "elsewhere"):
        source = source_of(welcome(host=host), run_config(learner=learner))
        assert not source.has_learners_files
        assert source.claim(DIGESTS[0])
        assert source.store(DIGESTS[0], DATA[0]) is None


def test_a_folder_that_cannot_be_made_costs_one_line(welcome, run_config, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file in its place")
    source = source_of(welcome(host="elsewhere"), run_config())
    assert source.claim(DIGESTS[0])
    assert source.store(DIGESTS[0], DATA[0]) is None
    [told] = caplog.records
    assert "every actor fetches its own" in told.getMessage()
