"""The run page's routes: its files, and a JSON API over one run folder.

Nothing but JSON is made of what models wrote, and the page may load nothing from elsewhere.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from learner.run_page.json_values import to_json
from learner.run_page.one_rollout import one_rollout
from learner.run_page.query import Query, RequestError, not_found
from learner.run_page.rollout_files import RolloutFiles
from learner.run_page.rollout_filter import RolloutFilter
from learner.run_page.rollout_pages import RolloutPages
from learner.run_page.rollout_tokens import TokenTexts
from learner.run_page.run_facts import Live, RunFacts
from learner.run_page.series import Series
from learner.run_page.static_files import INDEX, static_file

__all__ = ["Live", "run_page"]

DEFAULT_POINTS = 1500
MAX_POINTS = 20_000
DEFAULT_LIMIT = 50
MAX_LIMIT = 500

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_JSON = "application/json"


def run_page(run_dir: Path, live: Live | None = None) -> WSGIApplication:
    """The application that shows a run.

    Args:
        run_dir: the run folder; only read.
        live: what the learner that serves the page knows beyond its folder.
    """
    api = _Api(run_dir.absolute(), live)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        status, (body, kind) = "200 OK", (b"", _JSON)
        try:
            body, kind = api.answer(environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", ""))
        except RequestError as error:
            status, body = error.status, to_json({"error": str(error)}).encode()
        length = ("Content-Length", str(len(body)))
        start(status, [("Content-Type", kind), length, *HEADERS])
        return [body]

    return answer


class _Api:
    """Everything that is kept from one request to the next."""

    def __init__(self, run_dir: Path, live: Live | None) -> None:
        self._series = Series(run_dir)
        self._facts = RunFacts(run_dir, self._series, live)
        self._files = RolloutFiles(run_dir / "rollouts")
        self._pages = RolloutPages(self._files)
        self._texts = TokenTexts(run_dir)
        self._routes: dict[str, Callable[[str], dict[str, Any]]] = {
            "/api/run": self._run,
            "/api/series": self._all_series,
            "/api/rollouts": self._rollouts,
            "/api/rollout": self._rollout,
        }

    def answer(self, path: str, query: str) -> tuple[bytes, str]:
        """Body and media type.

        Raises:
            RequestError: there is no such thing.
        """
        route = self._routes.get(path)
        if route is not None:
            return to_json(route(query)).encode(), _JSON
        name = INDEX if path == "/" else path.removeprefix("/static/")
        found = static_file(name) if name != path else None
        if found is None:
            raise not_found(f"there is no {path}: begin at /")
        return found

    def _run(self, text: str) -> dict[str, Any]:
        Query(text, ())
        return self._facts.answer()

    def _all_series(self, text: str) -> dict[str, Any]:
        query = Query(text, ("after", "points"))
        points = query.whole("points", 1, MAX_POINTS) or DEFAULT_POINTS
        return self._series.answer(query.whole("after"), points)

    def _rollouts(self, text: str) -> dict[str, Any]:
        named = ("status", "finish_reason", "prompt_id", "text")
        query = Query(text, (*named, "step", "min_reward", "max_reward", "before", "limit"))
        wanted = RolloutFilter(
            **{name: query.text(name) for name in named},
            min_reward=query.number("min_reward"),
            max_reward=query.number("max_reward"),
        )
        limit = query.whole("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT
        step, before = query.whole("step"), query.text("before")
        return self._pages.page(wanted, step=step, before=before, limit=limit)

    def _rollout(self, text: str) -> dict[str, Any]:
        query = Query(text, ("step", "line"))
        step, line = query.wanted_whole("step"), query.wanted_whole("line")
        return one_rollout(self._files, self._texts, self._facts.model_path(), step, line)
