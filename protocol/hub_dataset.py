"""Files of a data set of the Hugging Face Hub -> their folder in the Hub's cache."""

# pyright: standard
# (huggingface_hub is typed in part)

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the HTTP library that it uses
    LocalEntryNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from protocol.errors import DataError
from protocol.hub_model import reason_of


def fetch_dataset(repo: str, revision: str, patterns: Sequence[str]) -> Path:
    """Folder with the files of a data set that fit any of these patterns.

    What is in the cache is not fetched again; without a network the cache alone is used.

    Args:
        repo: `owner/name`.
        revision: a branch, tag or commit; empty is the default branch.
        patterns: globs of paths in the repository.

    Raises:
        DataError: it cannot be had; the reason in one sentence.
    """
    disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                repo,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=list(patterns),
            )
        )
    except LocalEntryNotFoundError as error:
        reason = reason_of(error.__cause__ or error, revision)
        raise DataError(f"no data set {repo}: {reason}") from error
    except (HTTPError, HFValidationError, OSError) as error:
        raise DataError(f"no data set {repo}: {reason_of(error, revision)}") from error
