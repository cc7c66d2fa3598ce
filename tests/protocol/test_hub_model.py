"""Against a stand-in for the Hub, in child processes with a cache of their own."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocol.errors import ConfigError
from protocol.hub_model import cached_model
from protocol.model_folder import BUILTIN
from tests.hub_server import COMMIT, Hub, serving

REPO, TINY = "test-org/tiny", BUILTIN / "tiny"
SIZE = (TINY / "model.safetensors").stat().st_size
PART = 300_000
WEIGHTS = f"/{REPO}/resolve/{COMMIT}/model.safetensors"
ROOT = Path(__file__).parents[2]

ASK = """
import sys, json, logging
logging.basicConfig(level="INFO", format="%(message)s")
from protocol.errors import ConfigError
from protocol.model_folder import model_folder
for name in sys.argv[1:]:
    try:
        print(model_folder(*name.split("@")))
    except ConfigError as error:
        print(error)
"""
LOAD = """
from protocol.config import RunConfig
from protocol.policy import load_policy
import sys
config = {"model": {"path": sys.argv[1]}, "data": {"train": ["x"]}, "rewards": [{"name": "y"}]}
print(sum(array.size for array in load_policy(RunConfig.model_validate(config)).trained().values()))
"""


@pytest.fixture
def hub():
    with serving() as hub:
        hub.add(REPO, TINY)
        yield hub


@pytest.fixture
def start(tmp_path):
    """Starts a process that asks for models; all are ended."""
    running = []

    def start(*names, code=ASK, endpoint, **variables):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        ours = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *names],
                env={**inherited, **ours, **variables},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def says(process) -> tuple[list[str], str]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "\r" not in errors
    assert "%|" not in errors  # no bars
    return output.splitlines(), errors


def weight_requests(hub: Hub) -> list[str]:
    return [asked for asked in hub.requests if asked.startswith(f"GET {WEIGHTS}")]


def partial_file(home: Path) -> Path:
    """The partial file, once it holds all that the stalled server sent."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in home.glob("hub/models--*/blobs/*.mlxrl-partial"):
            if path.stat().st_size == PART:
                return path
        time.sleep(0.01)
    raise AssertionError("nothing was kept of the download")


def test_a_hub_id_loads_and_then_needs_no_hub(hub, start):
    assert says(start(REPO, code=LOAD, endpoint=hub.url))[0] == ["431104"]
    assert hub.sent == {"model.safetensors": SIZE}
    hub.forget()
    (folder,), _ = says(start(REPO, endpoint=hub.url))
    assert {path.name for path in Path(folder).iterdir()} == {path.name for path in TINY.iterdir()}
    assert hub.requests == []  # so that no start waits for a network
    nowhere = "http://127.0.0.1:9"
    offline = start(REPO, "test-org/other", endpoint=nowhere, HF_HUB_OFFLINE="1")
    (again, other), _ = says(offline)
    assert again == folder
    assert other == (
        "no model test-org/other: it is not whole in the cache, and HF_HUB_OFFLINE forbids to ask "
        "the Hub"
    )


def test_what_a_cut_left_is_kept_and_the_rest_fetched_within_one_start(hub, start):
    hub.cut_after = PART
    (folder,), log = says(start(REPO, endpoint=hub.url))
    assert weight_requests(hub) == [f"GET {WEIGHTS}", f"GET {WEIGHTS} bytes={PART}-"]
    assert hub.sent == {"model.safetensors": SIZE}
    assert (Path(folder) / "model.safetensors").read_bytes() == (
        TINY / "model.safetensors"
    ).read_bytes()
    assert "trying again in 0.5 s" in log
    assert "model test-org/tiny: 0.9 MB from http://" in log
    assert "httpx" not in log


def test_what_a_killed_process_had_fetched_is_not_fetched_again(hub, start, tmp_path):
    hub.stall_after = PART
    first = start(REPO, endpoint=hub.url)
    partial = partial_file(tmp_path)
    first.kill()
    first.wait()
    hub.stall_after = None
    hub.forget()
    _, log = says(start(REPO, endpoint=hub.url))
    assert weight_requests(hub) == [f"GET {WEIGHTS} bytes={PART}-"]
    assert hub.sent == {"model.safetensors": SIZE - PART}
    assert "0.3 MB are here already" in log
    assert not partial.exists()


def test_of_several_processes_one_fetches_and_the_others_wait(hub, start, tmp_path):
    hub.stall_after = PART
    first = start(REPO, endpoint=hub.url)
    partial_file(tmp_path)
    second = start(REPO, endpoint=hub.url)
    assert "waiting for another process that fetches it" in second.stderr.readline()
    hub.go_on.set()
    assert says(first)[0] == says(second)[0]
    assert hub.sent == {"model.safetensors": SIZE}
    assert len(weight_requests(hub)) == 1


def test_a_server_without_ranges_and_one_that_is_busy_twice_give_the_model_too(hub, start):
    hub.ranges, hub.cut_after = False, PART
    hub.faults, hub.num_faults = {REPO: "busy"}, 1
    (folder,), _ = says(start(REPO, endpoint=hub.url))
    assert weight_requests(hub)[-1].endswith(f"bytes={PART}-")
    assert (Path(folder) / "model.safetensors").stat().st_size == SIZE


def test_what_cannot_be_had_is_said_in_a_sentence(hub, start):
    for name in ("gated", "damaged"):
        hub.add(f"test-org/{name}", TINY)
        hub.faults[f"test-org/{name}"] = name
    hub.repos["test-org/gguf"] = {"config.json": b"{}", "model.gguf": b"GGUF"}
    names = ["no/such", f"{REPO}@v2", "test-org/gated", "test-org/damaged", "test-org/gguf"]
    said, _ = says(start(*names, endpoint=hub.url))
    wanted = [
        r"no model no/such: no such folder here and no such id on the Hub; .*HF_TOKEN\)",
        r"no model test-org/tiny@v2: the Hub has it, but no revision 'v2': .*",
        r"no model test-org/gated: it is gated: accept its .*huggingface-cli login.*HF_TOKEN\)",
        r"no model test-org/damaged: model.safetensors is damaged on its way from http.*",
        r"test-org/gguf on the Hub holds no config.json with model\*.safetensors: .*",
    ]
    assert len(said) == len(wanted)
    for sentence, pattern in zip(said, wanted, strict=True):
        assert re.fullmatch(pattern, sentence), sentence


def test_a_hub_that_cannot_be_reached_is_named_at_once(start):
    began = time.monotonic()
    (said,), _ = says(start(REPO, endpoint="http://127.0.0.1:9"))
    assert said.startswith(f"no model {REPO}: http://127.0.0.1:9 cannot be reached (")
    assert "the cache" in said
    assert time.monotonic() - began < 20


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with the tiny model, as another program may have left it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--test-org--tiny"
    folder = repo / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for file in TINY.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_cache_that_is_whole_is_taken(cache):
    assert cached_model(REPO) == cached_model(REPO, COMMIT) == cache
    assert cached_model(REPO, "v2") is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_cache_without_a_needed_file_is_not_taken(cache, name):
    (cache / name).unlink()
    assert cached_model(REPO) is None


def test_a_cache_without_one_of_several_weight_files_is_not_taken(cache):
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = cache / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    (cache / "model.safetensors").rename(cache / weights["a"])
    assert cached_model(REPO) is None
    (cache / weights["b"]).write_bytes((cache / weights["a"]).read_bytes())
    assert cached_model(REPO) == cache
    index.write_text("{")
    with pytest.raises(ConfigError, match=r"index.json is damaged: delete"):
        cached_model(REPO)


@pytest.mark.parametrize("length", [0, 5, 1000, SIZE - 1])
def test_a_weight_file_of_another_length_than_it_says_is_named(cache, length):
    os.truncate(cache / "model.safetensors", length)
    with pytest.raises(ConfigError, match=r"is damaged .*delete .* to fetch it anew"):
        cached_model(REPO)
