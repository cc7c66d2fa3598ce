"""Where versions are shared as files: a learner's folder, and that of actors on other hosts."""

import contextlib
import os
import re
from pathlib import Path

import xxhash

from protocol.errors import WeightsError
from protocol.weights_files import WeightsFiles

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there, 0700
_MOUNTS = Path("/proc/self/mounts")


def learner_folder(run_dir: Path) -> Path:
    """Where the learner of this run shares its versions, the same after a restart.

    In memory where Linux offers that; elsewhere (macOS) in the run folder, where the page cache
    serves as well.
    """
    run_dir = run_dir.resolve()
    if not _is_writable_tmpfs(_SHARED_MEMORY):
        return run_dir / "weights"
    path_digest = xxhash.xxh3_64_hexdigest(os.fsencode(run_dir))  # names repeat elsewhere
    return _SHARED_MEMORY / f"{_prefix()}{run_dir.name[:40]}-{path_digest}"


def remove_abandoned_folders() -> None:
    """Remove this user's `learner_folder`s in memory that no living learner has claimed.

    A learner that was killed leaves its versions there, and perhaps nobody starts its run again.
    Only what `WeightsFiles` makes is removed; a folder that holds something else stays with it.
    """
    if not _is_writable_tmpfs(_SHARED_MEMORY):
        return
    name = re.compile(re.escape(_prefix()) + r".*-[0-9a-f]{16}", re.DOTALL)
    for folder in sorted(_SHARED_MEMORY.iterdir()):
        if name.fullmatch(folder.name):
            WeightsFiles.remove_abandoned(folder)


def remove_abandoned_host_folders() -> None:
    """Remove the `host_folder`s of this user that no living actor has claimed."""
    folders = host_folder("any").parent
    with contextlib.suppress(OSError):  # there is none yet
        for folder in sorted(folders.iterdir()):
            if _RUN_ID.fullmatch(folder.name):
                WeightsFiles.remove_abandoned(folder)


def host_folder(run_id: str) -> Path:
    """Where actors on another host than the learner's share what one of them fetched.

    Raises:
        WeightsError: the run's id is no plain name.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise WeightsError(f"run id {run_id!r} cannot name a folder")
    named = os.environ.get("MLX_RL_CACHE")
    cache = Path(named).expanduser() if named else Path.home() / ".cache/mlx-rl-trainer"
    return cache / "weights" / run_id


def _prefix() -> str:
    """How the names of this user's folders in memory begin."""
    return f"mlx-rl-trainer-{os.geteuid()}-"


def _is_writable_tmpfs(folder: Path) -> bool:
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text().splitlines()]
    except OSError:  # no Linux
        return False
    return [str(folder), "tmpfs"] in mounts and os.access(folder, os.W_OK | os.X_OK)
