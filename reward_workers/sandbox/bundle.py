"""The harness as one zip of compiled modules: all that a confined interpreter gets to load.

It holds the harness package only, under its own name, so that what is trusted outside and what
runs inside are the same files, and nothing else of the project is in reach.
"""

import functools
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Mapping
from pathlib import Path

import reward_workers.sandbox.harness

_PACKAGE = "reward_workers/sandbox/harness"
_EMPTY: tuple[str, ...] = ("reward_workers/__init__", "reward_workers/sandbox/__init__")
_MAIN = "from reward_workers.sandbox.harness.start import main\nmain()\n"
_FIRST_DATE_OF_ZIP = (1980, 1, 1, 0, 0, 0)
_HASH_BASED_UNCHECKED = 1


@functools.cache
def harness_zip() -> bytes:
    """The same code for the same sources and interpreter; run it as `python harness.zip MODE`.

    Not the same bytes: which strings marshal names once depends on what else the process holds.
    """
    return pack(sources())


def pack(sources: Mapping[str, bytes]) -> bytes:
    """A zip of these modules, by path without suffix."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as bundle:
        for name, source in sources.items():
            entry = zipfile.ZipInfo(f"{name}.pyc", _FIRST_DATE_OF_ZIP)
            bundle.writestr(entry, _compiled(name, source))
    return packed.getvalue()


def sources() -> dict[str, bytes]:
    """Every module of the harness, by path without suffix."""
    folder = Path(reward_workers.sandbox.harness.__file__).parent
    found: dict[str, bytes] = dict.fromkeys(_EMPTY, b"")
    for path in sorted(folder.rglob("*.py")):
        module = path.relative_to(folder).with_suffix("").as_posix()
        found[f"{_PACKAGE}/{module}"] = path.read_bytes()
    return {**found, "__main__": _MAIN.encode()}


def _compiled(name: str, source: bytes) -> bytes:
    code = compile(source, f"/{name}.py", "exec", dont_inherit=True)
    head = importlib.util.MAGIC_NUMBER + _HASH_BASED_UNCHECKED.to_bytes(4, "little")
    return head + importlib.util.source_hash(source) + marshal.dumps(code)
