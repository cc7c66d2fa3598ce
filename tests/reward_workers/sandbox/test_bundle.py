import io
import zipfile

from reward_workers.sandbox import bundle


def test_the_same_sources_give_the_same_bytes():
    assert bundle.pack(bundle.sources()) == bundle.pack(bundle.sources()) == bundle.harness_zip()


def test_it_holds_the_harness_and_nothing_else_of_the_project():
    with zipfile.ZipFile(io.BytesIO(bundle.harness_zip())) as packed:
        names = packed.namelist()
    assert {"__main__.pyc", "reward_workers/sandbox/harness/frames.pyc"} <= set(names)
    outside = [name for name in names if not name.startswith("reward_workers/sandbox/harness/")]
    assert sorted(outside) == [
        "__main__.pyc",
        "reward_workers/__init__.pyc",
        "reward_workers/sandbox/__init__.pyc",
    ]


def test_the_packages_above_are_empty_inside():
    assert bundle.sources()["reward_workers/sandbox/__init__"] == b""
