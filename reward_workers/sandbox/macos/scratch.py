"""The folder that a worker may write to, where it is no mount of its own: made, measured, removed.

Whatever a candidate leaves there is hostile: folders without permissions, a thousand levels of
them, links. Nothing here follows a link, builds a path longer than a few names, or recurses.
"""

import contextlib
import os
import tempfile
from pathlib import Path

MAX_ENTRIES = 4096
MAX_DEPTH = 32


def make_scratch(parent: Path) -> Path:
    """A new folder that only this user may enter; its path has no links."""
    return Path(tempfile.mkdtemp(prefix="worker-", dir=parent)).resolve()


def is_over(folder: Path, max_bytes: int) -> bool:
    """Whether it holds more than `max_bytes`, or more entries or levels than anybody needs.

    A folder that cannot be read counts as over. Files that were unlinked while open are not seen:
    those are bounded by RLIMIT_FSIZE and RLIMIT_NOFILE alone.
    """
    num_bytes = num_entries = 0
    pending = [(str(folder), 0)]
    while pending:
        path, depth = pending.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    num_entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, depth + 1))
                    else:
                        num_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    if num_bytes > max_bytes or num_entries > MAX_ENTRIES or depth > MAX_DEPTH:
                        return True
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def remove_scratch(folder: Path) -> None:
    """Remove it with all that it holds. For after the worker has ended.

    Folders deeper down are moved up before they are emptied, so that no path grows long. What the
    system refuses to remove is left behind.
    """
    with contextlib.suppress(OSError):
        while _remove_level(folder):
            pass
        folder.rmdir()


def _remove_level(folder: Path) -> int:
    """Remove all that is not in folders of folders, and move those up; how many folders changed."""
    changed = 0
    for path in _folders_left(str(folder)):
        for deeper in _folders_left(path):
            with contextlib.suppress(OSError):
                os.rename(deeper, tempfile.mktemp(dir=folder))  # noqa: S306 - nobody else is left
                changed += 1
        with contextlib.suppress(OSError):
            os.rmdir(path)
            changed += 1
    return changed


def _folders_left(folder: str) -> list[str]:
    """Remove the files of a folder, whatever its permissions were; the folders in it."""
    os.chmod(folder, 0o700)
    folders: list[str] = []
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
    return folders
