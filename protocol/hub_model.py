"""A model of the Hugging Face Hub -> its folder in the Hub's cache, fetched once a machine.

huggingface_hub begins a broken download anew, so large files are fetched here, by plain HTTP, each
into a partial file beside its place in the cache; whoever comes next goes on where that ends.
"""

# pyright: standard
# (huggingface_hub is typed in part)

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - of the HTTP library that it uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    build_hf_headers,
    disable_progress_bars,
    filter_repo_objects,
    get_session,
    hf_raise_for_status,
)

from protocol.errors import ConfigError

log = logging.getLogger("protocol.hub_model")

PATTERNS = ["*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
"""What mlx-lm reads of a repository, but for Python code, which nothing here runs."""
WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each new try."""
PROGRESS_SECONDS = 5.0
PARTIAL = ".mlxrl-partial"
_BUSY = (408, 425, 429, 500, 502, 503, 504)

T = TypeVar("T")


def fetch_model(repo: str, revision: str = "") -> Path:
    """Folder of a model that is on the Hub.

    What lies whole in the cache is taken without asking the Hub, so that a run goes on with the
    same model, offline too, and no start waits for a network.

    Args:
        repo: `org/name`.
        revision: a branch, tag or commit; empty is the default branch.

    Raises:
        ConfigError: it cannot be had, or is no model; the reason in one sentence.
    """
    name = f"{repo}@{revision}" if revision else repo
    try:
        if found := cached_model(repo, revision):
            return found
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled
        with _one_a_machine(repo):
            return cached_model(repo, revision) or _fetch(repo, revision)
    except (HTTPError, HFValidationError, OSError) as error:
        raise ConfigError(f"no model {name}: {reason_of(error, revision)}") from error


def cached_model(repo: str, revision: str = "") -> Path | None:
    """Folder of a model whose files are all in the cache, else None; asks nobody.

    Raises:
        HFValidationError: that is no Hub id. ConfigError: a file in the cache is damaged.
    """
    try:
        folder = Path(
            snapshot_download(
                repo, revision=revision or None, local_files_only=True, allow_patterns=PATTERNS
            )
        )
    except LocalEntryNotFoundError:
        return None
    weights = _weights(folder)
    if not (folder / "config.json").is_file() or not weights:
        return None
    for file in weights:
        _refuse_damaged(file)
    return folder


def _weights(folder: Path) -> list[Path]:
    """Its weight files; none if one of them is missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ConfigError(
                f"{index} is damaged: delete {index.resolve()} and start again to fetch it anew"
            ) from None
        files = [folder / name for name in sorted(names)]
    else:
        files = sorted(folder.glob("model*.safetensors"))
    return files if all(file.is_file() for file in files) else []


def _refuse_damaged(file: Path) -> None:
    """A safetensors file says in its header how long it is."""
    found = file.stat().st_size
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > found:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(content.read(length))
        ends = (entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__")
        wanted = 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        wanted = None
    if found != wanted:
        known = f"{found} bytes, wanted {wanted}" if wanted else "its header cannot be read"
        raise ConfigError(
            f"{file} is damaged ({known}): delete {file.resolve()} and start again to fetch it anew"
        )


def _fetch(repo: str, revision: str) -> Path:
    disable_progress_bars()
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)  # else a line a request
    api = HfApi()
    commit = _patiently(lambda: api.repo_info(repo, revision=revision or None), reached=False).sha
    listed = _patiently(lambda: list(api.list_repo_tree(repo, recursive=True, revision=commit)))
    files = [file for file in listed if isinstance(file, RepoFile)]
    wanted = list(filter_repo_objects(files, allow_patterns=PATTERNS, key=lambda file: file.path))
    names = {file.path for file in wanted}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise ConfigError(
            f"{repo} on the Hub holds no config.json with model*.safetensors: wanted a model that "
            "mlx-lm loads, such as those of mlx-community"
        )
    progress = _Progress(repo, sum(file.size for file in wanted))
    for file in wanted:
        if file.lfs is not None:
            _fetch_large(repo, hf_hub_url(repo, file.path, revision=commit), file, progress)
    folder = _patiently(
        lambda: snapshot_download(repo, revision=revision or None, allow_patterns=PATTERNS)
    )
    progress.done()
    return Path(folder)


def _fetch_large(repo: str, url: str, file: RepoFile, progress: "_Progress") -> None:
    assert file.lfs is not None
    blob = _cache(repo) / "blobs" / file.lfs.sha256
    if blob.exists():
        progress.add(file.size)
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(blob.name + PARTIAL)
    if begun := _length(partial):
        log.info("%s of %s: %s are here already", file.path, repo, _size(begun))
        progress.add(begun)
    for _ in range(2):
        _patiently(lambda: _append(url, partial, file.size, progress), length=partial)
        if _sha256(partial) == file.lfs.sha256:
            partial.replace(blob)
            return
        log.warning("%s of %s came damaged, or was left so: fetching it anew", file.path, repo)
        partial.unlink()
    raise ConfigError(
        f"no model {repo}: {file.path} is damaged on its way from {constants.ENDPOINT} (its sha256 "
        "is not the announced one, twice): try again, or another network"
    )


def _append(url: str, partial: Path, size: int, progress: "_Progress") -> None:
    """Fetch what a partial file lacks."""
    with partial.open("ab", buffering=0) as out:  # unbuffered: a kill loses nothing
        begin = out.tell()
        if begin == size:
            return
        if begin > size:
            begin = 0
            out.truncate(0)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            if begin and response.status_code != 206:
                out.truncate(0)  # a server that knows no ranges sends all of it
            for chunk in response.iter_bytes():
                out.write(chunk)
                progress.add(len(chunk))
    found = partial.stat().st_size
    if found < size:
        raise ConnectionError(f"the connection ended after {found} of {size} bytes")


def _patiently(call: Callable[[], T], *, reached: bool = True, length: Path | None = None) -> T:
    """A call's result, tried again while the failure may pass.

    Args:
        call: asks the Hub.
        reached: the Hub has answered before; else a network that is not there is no passing thing.
        length: a file that grows; whoever makes way is not given up.
    """
    tries = 0
    while True:
        before = _length(length)
        try:
            return call()
        except (HTTPError, OSError) as error:
            tries = 1 if _length(length) > before else tries + 1
            if tries > len(WAITS_SECONDS) or not _may_pass(error, reached=reached):
                raise
            wait = WAITS_SECONDS[tries - 1]
            log.warning("fetching the model: %s; trying again in %g s", _first_line(error), wait)
            time.sleep(wait)


def _length(file: Path | None) -> int:
    return file.stat().st_size if file is not None and file.exists() else 0


def _may_pass(error: Exception, *, reached: bool) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _BUSY
    if isinstance(error, OSError) and error.errno is not None and not _is_network(error):
        return False  # a full disk, a folder that may not be written
    return reached


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)


def reason_of(error: BaseException, revision: str) -> str:
    """Why something of the Hub cannot be had, and what to do."""
    if isinstance(error, GatedRepoError):
        return (
            "it is gated: accept its terms on its page of the Hub, then log in here "
            "(huggingface-cli login, or set HF_TOKEN)"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the Hub has it, but no revision {revision!r}: take a branch, a tag or a commit"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "no such folder here and no such id on the Hub; if it is private, log in "
            "(huggingface-cli login, or set HF_TOKEN)"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not whole in the cache, and HF_HUB_OFFLINE forbids to ask the Hub"
    if isinstance(error, HFValidationError):
        return f"that is no Hub id ({_first_line(error)})"
    if isinstance(error, HfHubHTTPError):
        return f"the Hub answered {error.response.status_code} ({_first_line(error)})"
    if isinstance(error, OSError) and error.errno is not None and not _is_network(error):
        return f"it cannot be kept in {constants.HF_HUB_CACHE} ({_first_line(error)})"
    return (
        f"{constants.ENDPOINT} cannot be reached ({_first_line(error)}) and the cache "
        f"{constants.HF_HUB_CACHE} does not have all of it"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _cache(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


@contextmanager
def _one_a_machine(repo: str) -> Iterator[None]:
    """One process at a time fetches a model; the kernel frees the lock of one that dies."""
    path = Path(constants.HF_HUB_CACHE) / ".locks" / f"{_cache(repo).name}.mlxrl.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("model %s: waiting for another process that fetches it", repo)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Progress:
    """Log lines on how far a download is, a few seconds apart.

    Args:
        repo: what is fetched.
        total: bytes.
    """

    def __init__(self, repo: str, total: int) -> None:
        self._repo, self._total, self._have = repo, total, 0
        self._began = self._said = time.monotonic()
        log.info("model %s: %s from %s", repo, _size(total), constants.ENDPOINT)

    def add(self, num_bytes: int) -> None:
        """So many bytes more are here."""
        self._have += num_bytes
        if time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            have, total = _size(self._have), _size(self._total)
            log.info("model %s: %s of %s are here", self._repo, have, total)

    def done(self) -> None:
        """All of it is here."""
        seconds = time.monotonic() - self._began
        log.info("model %s: all of it is in the cache after %.0f s", self._repo, seconds)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
