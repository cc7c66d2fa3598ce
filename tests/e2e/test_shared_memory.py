"""Versions in /dev/shm: what a killed learner leaves there goes when any other one starts."""

import sys
from pathlib import Path

import pytest

from protocol.weights_folders import learner_folder

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="macOS has no /dev/shm"),
]

SMALL = ("data.heldout=[]", "generation.group_size=8", "learner.groups_per_step=8")


# A learner that shares nothing itself cleans up as well.
@pytest.mark.parametrize("publish", ["share_files=true", "share_files=false"])
def test_the_next_learner_removes_what_a_killed_one_left(train, tmp_path, publish: str):
    killed = train(*SMALL, "run.max_steps=100000", run_dir=tmp_path / "killed")
    folder = learner_folder(killed.run_dir)
    if folder.parent != Path("/dev/shm"):
        pytest.skip("/dev/shm is no writable tmpfs here")
    killed.until_step(2)
    # Looked at while it lives: once it is dead, any learner of another test may clean up first.
    assert len(list(folder.iterdir())) > 1
    killed.kill("learner")
    killed.ends(10)
    other = train(
        *SMALL, f"learner.publish.{publish}", "run.max_steps=2", run_dir=tmp_path / "other"
    )
    other.succeeds()
    assert not folder.exists()
    assert not learner_folder(other.run_dir).exists()
