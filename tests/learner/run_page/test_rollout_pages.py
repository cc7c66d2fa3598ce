import itertools
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learner.run_page.query import RequestError
from learner.run_page.rollout_files import RolloutFiles
from learner.run_page.rollout_filter import RolloutFilter
from learner.run_page.rollout_pages import RolloutPages

EVERYTHING = RolloutFilter()


@pytest.fixture
def pages(run_dir):
    return RolloutPages(RolloutFiles(run_dir / "rollouts"))


def walk(pages, wanted=EVERYTHING, limit=50, step=None):
    """All pages, first to last."""
    before, found = None, []
    while not found or before is not None:
        found.append(pages.page(wanted, step=step, before=before, limit=limit))
        before = found[-1]["next"]
    return found


def places(found):
    return [(row["step"], row["line"]) for page in found for row in page["rows"]]


def test_an_empty_run_has_one_empty_page(pages):
    assert pages.page(EVERYTHING, step=None, before=None, limit=5) == {
        "rows": [],
        "next": None,
        "scanned_to": None,
        "is_partial": False,
        "num_rollouts": 0,
        "is_counted": True,
        "steps": None,
    }


def test_the_newest_step_comes_first_and_its_lines_in_order(pages, write_rollouts, row):
    for step in (1, 2, 10):
        write_rollouts(step, *[row(group=step, sample=n) for n in range(3)])
    found = walk(pages, limit=4)
    assert places(found) == list(itertools.product((10, 2, 1), (0, 1, 2)))
    assert [page["next"] for page in found] == ["2.1", "1.2", None]
    assert [page["scanned_to"] for page in found] == [2, 1, 1]
    assert (found[0]["num_rollouts"], found[0]["steps"]) == (9, [1, 10])


def test_a_page_that_holds_the_last_row_has_no_next(pages, write_rollouts, row):
    write_rollouts(1, row(), row())
    write_rollouts(2)
    assert pages.page(EVERYTHING, step=None, before=None, limit=2)["next"] is None


def test_one_step_alone(pages, write_rollouts, row):
    for step in (1, 2, 3):
        write_rollouts(step, row(), row())
    assert places(walk(pages, limit=1, step=2)) == [(2, 0), (2, 1)]
    assert places(walk(pages, step=7)) == []


def test_damaged_lines_keep_their_numbers_and_are_passed_over(pages, write_rollouts, row):
    nested = b"[" * 100_000
    write_rollouts(1, row(), b"oops", b"\xff\xfe", nested, b"[1]", b"", row())
    (found,) = walk(pages)
    assert places([found]) == [(1, 0), (1, 6)]


def test_a_slow_scan_says_so_and_goes_on_where_it_was(run_dir, write_rollouts, row):
    """Each look at the clock takes 0.2 s: three or four lines a request, and one at the least."""
    for step in (1, 2):
        write_rollouts(step, *[row(completion="x" if n == 4 else "y") for n in range(5)])
    seconds = itertools.count(0.0, 0.2)
    pages = RolloutPages(RolloutFiles(run_dir / "rollouts"), clock=lambda: next(seconds))
    found = walk(pages, RolloutFilter(text="x"))
    assert places(found) == [(2, 4), (1, 4)]
    assert [page["is_partial"] for page in found] == [True] * (len(found) - 1) + [False]
    assert len(found) == 4
    frozen = itertools.cycle([0.0, 9.0])
    pages = RolloutPages(RolloutFiles(run_dir / "rollouts"), clock=lambda: next(frozen))
    assert places(walk(pages, RolloutFilter(text="x"))) == [(2, 4), (1, 4)]


def test_a_cursor_into_a_step_that_was_cut_goes_on_below(pages, write_rollouts, row):
    write_rollouts(1, row(), row())
    path = write_rollouts(2, row(), row(), row())
    first = pages.page(EVERYTHING, step=None, before=None, limit=2)
    path.unlink()
    second = pages.page(EVERYTHING, step=None, before=first["next"], limit=9)
    assert places([second]) == [(1, 0), (1, 1)]


def test_new_steps_do_not_move_the_next_page(pages, write_rollouts, row):
    write_rollouts(1, *[row()] * 4)
    first = pages.page(EVERYTHING, step=None, before=None, limit=2)
    write_rollouts(2, *[row()] * 4)
    second = pages.page(EVERYTHING, step=None, before=first["next"], limit=9)
    assert places([second]) == [(1, 2), (1, 3)]


@pytest.mark.parametrize("before", ["x", "1", "1.", "-1.0", "1.2.3", "9" * 50 + ".1"])
def test_what_is_no_cursor_is_refused(pages, before):
    with pytest.raises(RequestError, match="wanted `next` of another page"):
        pages.page(EVERYTHING, step=None, before=before, limit=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), max_size=5),
    seed=st.integers(0, 1000),
    limit=st.integers(1, 7),
    lines_a_request=st.integers(1, 9),
    status=st.sampled_from([None, "ok", "reward_failed"]),
    text=st.sampled_from([None, "a", "É", '"', "\n"]),
    low=st.sampled_from([None, 0.0, 0.5]),
    high=st.sampled_from([None, 0.5]),
    step=st.sampled_from([None, 1, 2]),
)
def test_every_wanted_row_is_on_one_page(
    tmp_path_factory, row, sizes, seed, limit, lines_a_request, status, text, low, high, step
):
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("rollouts")
    rows = {}
    for number, size in enumerate(sizes, start=1):
        for line in range(size):
            rows[number, line] = row(
                completion=draw.choice(["a", "É", '"x"', "\n", "", "éa"]),
                prompt="?",
                reward=draw.choice([None, 0.0, 0.5, 1.0]),
                status=draw.choice(["ok", "reward_failed"]),
            )
        lines = [json.dumps(rows[number, line]) + "\n" for line in range(size)]
        (folder / f"step_{number:06d}.jsonl").write_text("".join(lines))

    def is_wanted(place):
        found = rows[place]
        reward = found["reward"]
        return (
            (step is None or place[0] == step)
            and (status is None or found["status"] == status)
            and (text is None or text.lower() in found["completion"].lower())
            and (low is None or (reward is not None and reward >= low))
            and (high is None or (reward is not None and reward <= high))
        )

    expected = sorted(filter(is_wanted, rows), key=lambda place: (-place[0], place[1]))
    seconds = itertools.count(0.0, 0.51 / lines_a_request)
    pages = RolloutPages(RolloutFiles(folder), clock=lambda: next(seconds))
    wanted = RolloutFilter(status=status, text=text, min_reward=low, max_reward=high)
    found = walk(pages, wanted, limit, step)
    assert places(found) == expected
    assert all(len(page["rows"]) <= limit for page in found)
