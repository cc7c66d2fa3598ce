"""The texts of a completion's tokens, by the run's own tokenizer; nothing is downloaded."""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from protocol.model_folder import BUILTIN

log = logging.getLogger("learner.run_page")

_FILE = "tokenizer.json"


class TokenTexts:
    """The tokenizer of a run, loaded when it is first there. Thread-safe.

    Args:
        run_dir: the run folder; a checkpoint's tokenizer.json is as good as the model's.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._special: dict[int, str] = {}
        self._refused: set[Path] = set()

    def texts(self, token_ids: Sequence[Any], model_path: str) -> list[str | None]:
        """One text a token; None for all where the run's tokenizer is not on this machine.

        Those of one character's bytes are empty but for the last. All together are the completion,
        but for special tokens, whose text is their name.

        Args:
            token_ids: as a row has them.
            model_path: of the config.
        """
        with self._lock:
            if self._tokenizer is None:
                self._load(model_path)
            if self._tokenizer is None:
                return [None] * len(token_ids)
            return _texts(self._tokenizer, self._special, token_ids)

    def _load(self, model_path: str) -> None:
        for path in tokenizer_files(self._run_dir, model_path):
            if path in self._refused:
                continue
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # noqa: BLE001 - the library raises nothing more exact
                self._refused.add(path)
                log.warning("%s cannot be read, rollouts show token ids: %s", path, error)
                continue
            added = tokenizer.get_added_tokens_decoder()
            self._special = {n: token.content for n, token in added.items() if token.special}
            self._tokenizer = tokenizer
            return


def tokenizer_files(run_dir: Path, model_path: str) -> list[Path]:
    """Where a run's tokenizer may be, best first; only files that are there."""
    checkpoints = sorted(run_dir.glob("checkpoints/step_*[0-9]"), reverse=True)
    folders = [*checkpoints, *_model_folders(model_path)]
    return [path for folder in folders if (path := folder / _FILE).is_file()]


def _model_folders(model_path: str) -> list[Path]:
    scheme, colon, name = model_path.partition(":")
    if colon and scheme == "builtin":
        return [BUILTIN / name] if name.isidentifier() else []
    if colon and scheme == "pypi":
        cache = os.environ.get("MLX_RL_CACHE") or Path("~/.cache/mlx-rl-trainer/models")
        return sorted(Path(cache).expanduser().glob("smollm2-*/"), reverse=True)
    if not model_path or Path(model_path).is_dir():
        return [Path(model_path)] if model_path else []
    return _cached_from_hub(model_path)


def _cached_from_hub(repo: str) -> list[Path]:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, _FILE)
    except HFValidationError:
        return []
    return [Path(found).parent] if isinstance(found, str) else []


def _texts(
    tokenizer: Tokenizer, special: Mapping[int, str], token_ids: Sequence[Any]
) -> list[str | None]:
    """Decode as a stream; what it holds back at the end (half a character) is the last one's."""
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    known = [n for n in token_ids if _is_token(n, size) and n not in special]
    stream = DecodeStream(skip_special_tokens=True)
    texts: list[str | None] = []
    last = None
    try:
        for index, token in enumerate(token_ids):
            if not _is_token(token, size):
                texts.append("")
            elif token in special:
                texts.append(special[token])
            else:
                texts.append(stream.step(tokenizer, token) or "")
                last = index
    except Exception as error:  # noqa: BLE001 - the library raises nothing more exact
        log.debug("tokens are decoded one by one: %s", error)
        return [_alone(tokenizer, special, token, size) for token in token_ids]
    if last is not None:
        said = "".join(t for t, n in zip(texts, token_ids, strict=True) if t and n not in special)
        whole = tokenizer.decode(known, skip_special_tokens=True)
        if whole.startswith(said):
            texts[last] = f"{texts[last]}{whole[len(said) :]}"
    return texts


def _alone(tokenizer: Tokenizer, special: Mapping[int, str], token: object, size: int) -> str:
    if not isinstance(token, int) or not _is_token(token, size):
        return ""
    return special.get(token) or tokenizer.decode([token])


def _is_token(value: object, size: int) -> bool:
    return type(value) is int and 0 <= value < size
