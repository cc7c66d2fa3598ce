"""Which files a checkpoint has, and how to tell that they are what was written."""

import os
import stat
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import CheckpointError
from protocol.weights import file_digest

MANIFEST = "manifest.json"


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no plain file name")
    return name


_FileName = Annotated[str, AfterValidator(_plain)]


class FileRecord(BaseModel):
    """One file as it was written."""

    model_config = ConfigDict(frozen=True)
    num_bytes: int = Field(ge=0)
    digest: str
    """xxh3-128, hexadecimal."""


class Manifest(BaseModel):
    """Every file of a checkpoint but the manifest itself, by name."""

    model_config = ConfigDict(frozen=True)
    files: Annotated[dict[_FileName, FileRecord], Field(min_length=1)]

    def to_bytes(self) -> bytes:
        """Returns the file's content."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    def check_size(self, folder: Path, name: str) -> None:
        """Compare one file's size.

        Raises:
            CheckpointError: it is not listed, missing, no regular file, or longer or shorter than
                it was.
        """
        record = self.files.get(name)
        if record is None:
            raise CheckpointError(f"{MANIFEST} does not list {name}")
        try:
            found = _size_of(folder / name)
        except OSError as error:
            raise CheckpointError(f"{name} cannot be read: {error.strerror}") from None
        if found != record.num_bytes:
            raise CheckpointError(f"{name} has {found} bytes, wanted {record.num_bytes}")

    def check_digest(self, folder: Path, name: str) -> None:
        """Compare one file's content, size first.

        Raises:
            CheckpointError: it is not what was written.
        """
        self.check_size(folder, name)
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise CheckpointError(f"{name} cannot be read: {error}") from None
        if found != self.files[name].digest:
            raise CheckpointError(
                f"{name} does not match its digest: found {found}, wanted {self.files[name].digest}"
            )


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest and compare the sizes of all its files.

    Raises:
        CheckpointError: there is none, or a file is missing or of another size.
    """
    path = folder / MANIFEST
    try:
        _size_of(path)
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"it has no {MANIFEST}: never finished, or of an older version"
        ) from None
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{MANIFEST} cannot be read: {_first_line(error)}") from None
    for name in manifest.files:
        manifest.check_size(folder, name)
    return manifest


def _size_of(path: Path) -> int:
    """A file's size; what is no file is not opened: a pipe would keep the reader for ever.

    Raises:
        CheckpointError: it is a link, a folder, a pipe or a device.
        OSError: it is not there.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path.name} is no regular file ({stat.filemode(found.st_mode)})")
    return found.st_size


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_input=False)[0]["msg"]
    return str(error)
