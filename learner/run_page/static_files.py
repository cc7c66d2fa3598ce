"""The page's own files, which the package holds."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def static_file(name: str, folder: Path = STATIC) -> tuple[bytes, str] | None:
    """A file's bytes and its media type; None for whatever is no file of the page.

    Args:
        name: below the folder, with slashes, as it was asked for.
        folder: where the files are.
    """
    parts = name.split("/")
    if any(part.startswith(".") or not part or set(part) & set("\\\0:") for part in parts):
        return None
    path = folder.joinpath(*parts)
    kind = _TYPES.get(path.suffix)
    if kind is None:
        return None
    try:
        whole = path.resolve(strict=True)
        if not whole.is_relative_to(folder.resolve()):
            return None
        return whole.read_bytes(), kind
    except (OSError, ValueError):  # a name that cannot be one is a ValueError
        return None
