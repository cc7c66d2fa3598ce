"""A checkpoint's files onto disk: whole under their name, or not there. Knows no arrays.

Everything is written and made durable under another name, the manifest last; then one rename makes
it a checkpoint. Wherever that is cut short, what was a checkpoint before still is one.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from learner.checkpoints.manifest import MANIFEST, FileRecord, Manifest
from learner.checkpoints.retention import discard, folder_of
from learner.disk import sync, sync_descriptor, write_all

BLOCK_BYTES = 4 * 2**20
"""Written at once; the digest is taken of the block while it is in the CPU's cache."""

Contents = Mapping[str, Iterable[memoryview | bytes]]
"""Files by name, each as pieces."""


def store(folder: Path, step: int, contents: Contents) -> Path:
    """Write `folder/step_<step>`, in place of one of that step that is there.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: the disk is full, or whatever else; nothing of the attempt is left then.
    """
    final = folder_of(folder, step)
    temporary = final.with_name(f".{final.name}.tmp")
    remove_leftovers(folder)
    try:
        os.mkdir(temporary)
        files = {name: _write(temporary / name, pieces) for name, pieces in contents.items()}
        _write(temporary / MANIFEST, [Manifest(files=files).to_bytes()])
        sync(temporary)
        _replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def remove_leftovers(folder: Path) -> None:
    """Clear away what a crash left in the middle of a write or of a deletion.

    Only for who may write there. A checkpoint that was being replaced is put back.
    """
    for path in sorted(folder.glob(".step_*")):
        if path.suffix == ".replaced":
            final = path.with_name(path.stem.removeprefix("."))
            if not final.exists():
                os.rename(path, final)
                continue
        if path.suffix in (".tmp", ".replaced", ".deleted"):
            shutil.rmtree(path)


def _write(path: Path, pieces: Iterable[memoryview | bytes]) -> FileRecord:
    state, num_bytes = xxhash.xxh3_128(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, view.nbytes, BLOCK_BYTES):
                block = view[start : start + BLOCK_BYTES]
                state.update(block)
                write_all(descriptor, block)
            num_bytes += view.nbytes
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)
    return FileRecord(num_bytes=num_bytes, digest=state.hexdigest())


def _replace(temporary: Path, final: Path) -> None:
    """Give the new checkpoint its name; one that had it stays until then."""
    replaced = final.with_name(f".{final.name}.replaced")
    if final.exists():
        os.rename(final, replaced)
    try:
        os.rename(temporary, final)
    except BaseException:
        if replaced.exists():
            os.rename(replaced, final)
        raise
    sync(final.parent)
    if replaced.exists():
        discard(replaced)
