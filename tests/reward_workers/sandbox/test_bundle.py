import io
import marshal
import zipfile

from reward_workers.sandbox import bundle


def modules(packed):
    """Head and code of each module."""
    with zipfile.ZipFile(io.BytesIO(packed)) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    return {name: (file[:16], marshal.loads(file[16:])) for name, file in files.items()}


def test_the_same_sources_give_the_same_code_and_others_do_not():
    sources = bundle.sources()
    assert modules(bundle.pack(sources)) == modules(bundle.harness_zip())
    changed = {**sources, "__main__": b"1 + 1"}
    assert modules(bundle.pack(changed)) != modules(bundle.harness_zip())


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
