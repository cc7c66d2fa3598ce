import logging
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import xxhash

from protocol import weights_files, weights_folders
from protocol.errors import WeightsError
from protocol.weights_files import WeightsFiles
from protocol.weights_folders import host_folder, learner_folder, remove_abandoned_folders

BYTES = b"a version's bytes" * 1000
DIGEST = xxhash.xxh3_128_hexdigest(BYTES)
OTHER = xxhash.xxh3_128_hexdigest(b"other")
HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "../" + DIGEST,
    "/" + DIGEST,
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST.upper(),
    DIGEST[:-1] + "g",
    DIGEST + "\n",
    DIGEST[:-1] + "\0",
    DIGEST[:-3] + "\u0661" * 3,
    DIGEST + ".lock",
]

HOLD = """
import sys
from pathlib import Path
from protocol.weights_files import WeightsFiles
lock = WeightsFiles(Path(sys.argv[1])).try_lock(sys.argv[2])
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""

WRITE_HALF = """
import os, sys
from pathlib import Path
from protocol import weights_files
write = os.write
def write_half(descriptor, data):
    if len(data) == int(sys.argv[3]):
        return write(descriptor, data[: len(data) // 2])
    print("half", flush=True)
    sys.stdin.read()
    return write(descriptor, data)
os.write = write_half
data = sys.argv[2].encode() * (int(sys.argv[3]) // len(sys.argv[2]))
print(weights_files.WeightsFiles(Path(sys.argv[1])).write(sys.argv[4], data), flush=True)
"""

WRITE_OFTEN = """
import sys
from pathlib import Path
from protocol.weights_files import WeightsFiles
files, data, results = WeightsFiles(Path(sys.argv[1])), bytes(2**20), []
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    results.append(files.write(sys.argv[2], data))
    found = files.read(sys.argv[2], len(data))
    results.append(found is not None and found == data)
print(all(results), flush=True)
"""

READ_LATE = """
import sys
from pathlib import Path
import xxhash
from protocol.weights_files import WeightsFiles
found = WeightsFiles(Path(sys.argv[1])).read(sys.argv[2], int(sys.argv[3]))
print("mapped", flush=True)
sys.stdin.read()
print(xxhash.xxh3_128_hexdigest(found), flush=True)
"""

WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from protocol.weights_files import WeightsFiles
if sys.argv[3] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
files = WeightsFiles(Path(sys.argv[1]))
results = files.write(sys.argv[2], b"small"), files.write(sys.argv[2], bytes(2**20))
print(*results, sorted(path.name for path in Path(sys.argv[1]).iterdir()))
"""

LEARN = """
import sys
from pathlib import Path
from protocol.weights_files import WeightsFiles
files = WeightsFiles(Path(sys.argv[1]))
claim = files.claim()
files.keep(())
print(files.write(sys.argv[2], b"version"), flush=True)
sys.stdin.read()
"""

LEARN_OFTEN = """
import sys
from pathlib import Path
from protocol import weights_folders
from protocol.weights_files import WeightsFiles
from protocol.weights_folders import learner_folder, remove_abandoned_folders
weights_folders._SHARED_MEMORY, weights_folders._MOUNTS = Path(sys.argv[1]), Path(sys.argv[2])
results = []
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    remove_abandoned_folders()
    files = WeightsFiles(learner_folder(Path(sys.argv[3])))
    claim = files.claim()
    results.append(files.write(sys.argv[4], b"version"))
    remove_abandoned_folders()
    results.append(files.read(sys.argv[4], 7) == b"version")
    claim.release()  # as when it dies
print(results.count(False), flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "weights"


@pytest.fixture
def files(folder):
    return WeightsFiles(folder)


@pytest.fixture
def start():
    """Starts a program in a process of its own; it ends with the test."""
    started = []

    def start_program(program, *arguments):
        command = [sys.executable, "-c", program, *(str(argument) for argument in arguments)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start_program
    for process in started:
        with process:  # closes its pipes
            process.kill()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- read and write ----------------------------------------------------------------------------


@pytest.mark.parametrize("given_as", [bytes, bytearray, memoryview])
def test_what_is_written_is_read_by_others(folder, files, given_as):
    assert files.read(DIGEST, len(BYTES)) is None
    assert files.write(DIGEST, given_as(BYTES))
    found = WeightsFiles(folder).read(DIGEST, len(BYTES))
    assert found == BYTES
    assert found and found.readonly
    assert names(folder) == [DIGEST]


def test_a_version_of_no_bytes_is_shared_too(files):
    digest = xxhash.xxh3_128_hexdigest(b"")
    assert files.write(digest, b"")
    assert files.read(digest, 0) == b""


def test_the_folder_and_its_files_are_their_owners_alone(folder):
    before = os.umask(0)
    try:
        files = WeightsFiles(folder)
        files.write(DIGEST, BYTES)
        lock = files.try_lock(OTHER)
    finally:
        os.umask(before)
    assert lock
    lock.release()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600, 0o600]


@pytest.mark.parametrize(
    "content",
    [b"", BYTES[:-1], BYTES + b"x", BYTES[:-1] + b"x"],
    ids=["empty", "short", "long", "damaged"],
)
def test_a_damaged_file_is_refused_and_removed(folder, files, content, caplog):
    (folder / DIGEST).write_bytes(content)
    assert files.read(DIGEST, len(BYTES)) is None
    assert names(folder) == []
    assert "removed" in caplog.text
    assert files.write(DIGEST, BYTES)
    assert files.read(DIGEST, len(BYTES)) == BYTES


def test_a_file_of_another_size_than_the_manifest_says_is_refused(folder, files):
    files.write(DIGEST, BYTES)
    assert files.read(DIGEST, len(BYTES) - 1) is None
    assert names(folder) == []


@pytest.mark.parametrize("content", [BYTES[:-1], BYTES[:-1] + b"x"])
def test_who_only_reads_removes_nothing(folder, files, content, caplog):
    (folder / DIGEST).write_bytes(content)
    assert files.read(DIGEST, len(BYTES), remove=False) is None
    assert names(folder) == [DIGEST]
    assert "not used" in caplog.text


READ_A_PIPE = """
import sys
from pathlib import Path
from protocol.weights_files import WeightsFiles
print(WeightsFiles(Path(sys.argv[1])).read(sys.argv[2], 0, remove=False), flush=True)
"""


def test_a_pipe_under_a_digests_name_does_not_block(folder, files, start):
    os.mkfifo(folder / DIGEST)
    told, _ = start(READ_A_PIPE, folder, DIGEST).communicate(timeout=20)
    assert told.strip() == "None"


def test_a_folder_that_takes_nothing_is_told_of_once_until_it_does(folder, files, caplog):
    for _ in range(2):
        folder.rmdir()
        assert not any(files.write(DIGEST, BYTES) for _ in range(3))
        assert len(caplog.records) == 1
        folder.mkdir(mode=0o700)
        assert files.write(DIGEST, BYTES)
        files.keep([])
        caplog.clear()


def test_a_good_file_that_took_a_damaged_ones_name_is_not_removed(folder, files, monkeypatch):
    (folder / DIGEST).write_bytes(b"damaged")
    mapped = weights_files._mapped  # pyright: ignore[reportPrivateUsage]

    def replaced_meanwhile(descriptor, num_bytes):
        files.write(DIGEST, BYTES)
        return mapped(descriptor, num_bytes)

    monkeypatch.setattr(weights_files, "_mapped", replaced_meanwhile)
    assert files.read(DIGEST, len(BYTES)) is None
    monkeypatch.undo()
    assert files.read(DIGEST, len(BYTES)) == BYTES


def test_links_and_folders_under_a_digests_name_are_not_read(folder, files, tmp_path):
    (tmp_path / "elsewhere").write_bytes(BYTES)
    (folder / DIGEST).symlink_to(tmp_path / "elsewhere")
    (folder / OTHER).mkdir()
    assert files.read(DIGEST, len(BYTES)) is None
    assert files.read(OTHER, 5) is None
    assert files.write(DIGEST, BYTES)  # replaces the link, not what it points to
    assert not (folder / DIGEST).is_symlink()
    assert not files.write(OTHER, b"other")
    assert names(folder) == sorted([DIGEST, OTHER])


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_never_touches_the_file_system(folder, files, name, monkeypatch):
    def touched(*_arguments, **_options):
        raise AssertionError("the file system was touched")

    for function in ("open", "unlink", "rename", "listdir"):
        monkeypatch.setattr(os, function, touched)
    for work in (
        lambda: files.read(name, 1),
        lambda: files.write(name, b"x"),
        lambda: files.try_lock(name),
    ):
        with pytest.raises(WeightsError, match="digest"):
            work()
    monkeypatch.undo()
    assert names(folder) == []


# --- the folder --------------------------------------------------------------------------------


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(WeightsError, match=r"link.*remove it"):
        WeightsFiles(tmp_path / "link")
    (tmp_path / "real").rmdir()
    with pytest.raises(WeightsError, match="remove it"):
        WeightsFiles(tmp_path / "link")  # which now leads nowhere


def test_a_folder_of_another_user_is_refused(folder, files, monkeypatch):
    files.write(DIGEST, BYTES)
    other_user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other_user)
    with pytest.raises(WeightsError, match=rf"belongs to user {other_user - 1}.*remove it"):
        WeightsFiles(folder)
    assert files.read(DIGEST, len(BYTES)) is None  # nor is another user's file


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o701])
def test_a_folder_that_others_can_enter_is_refused_and_left_as_it_is(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(WeightsError, match=rf"mode {mode:04o}, wanted 0700.*remove it"):
        WeightsFiles(folder)
    assert folder.stat().st_mode & 0o777 == mode


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "weights"):
        with pytest.raises(WeightsError, match=r"cannot hold shared weights.*remove it"):
            WeightsFiles(folder)


def test_a_folder_that_went_away_ends_no_process(folder, files, caplog):
    folder.rmdir()
    assert files.read(DIGEST, len(BYTES)) is None
    assert not files.write(DIGEST, BYTES)
    assert f"version {DIGEST} is not shared" in caplog.text
    files.keep([])
    with pytest.raises(WeightsError, match="cannot hold a lock"):
        files.try_lock(DIGEST)


# --- keep --------------------------------------------------------------------------------------


def test_keep_removes_other_versions_and_nothing_else(folder, files):
    for data in (BYTES, b"other", b"third"):
        files.write(xxhash.xxh3_128_hexdigest(data), data)
    (folder / "notes.txt").write_text("a user's")
    files.keep({DIGEST, xxhash.xxh3_128_hexdigest(b"third")})
    assert names(folder) == sorted([DIGEST, xxhash.xxh3_128_hexdigest(b"third"), "notes.txt"])
    files.keep(())
    assert names(folder) == ["notes.txt"]


def test_a_reader_keeps_what_it_has_mapped(folder, files, start):
    files.write(DIGEST, BYTES)
    reader = start(READ_LATE, folder, DIGEST, len(BYTES))
    assert reader.stdout.readline() == "mapped\n"
    own = files.read(DIGEST, len(BYTES))
    files.keep([])
    assert names(folder) == []
    assert files.read(DIGEST, len(BYTES)) is None
    reader.stdin.close()
    assert reader.stdout.readline().strip() == DIGEST
    assert own == BYTES


def test_writing_a_version_again_leaves_its_readers_alone(files):
    files.write(DIGEST, BYTES)
    found = files.read(DIGEST, len(BYTES))
    files.write(DIGEST, b"damaged")
    assert found == BYTES


# --- several processes -------------------------------------------------------------------------


def test_a_half_written_version_is_never_seen_and_keep_lets_its_writer_finish(folder, files, start):
    size = 2**20
    digest = xxhash.xxh3_128_hexdigest(b"x" * size)
    writer = start(WRITE_HALF, folder, "x", size, digest)
    assert writer.stdout.readline() == "half\n"
    (temporary,) = folder.iterdir()
    assert temporary.name != digest and temporary.stat().st_size == size // 2
    assert files.read(digest, size) is None
    files.keep([])
    assert names(folder) == [temporary.name]
    writer.stdin.close()
    assert writer.stdout.readline() == "True\n"
    assert names(folder) == [digest]
    assert files.read(digest, size) == b"x" * size


def test_keep_removes_what_a_killed_writer_left(folder, files, start):
    writer = start(WRITE_HALF, folder, "x", 2**20, DIGEST)
    assert writer.stdout.readline() == "half\n"
    kill(writer)
    assert len(names(folder)) == 1
    files.keep([DIGEST])
    assert names(folder) == []


def test_a_writer_survives_that_keep_takes_its_new_file_for_a_dead_ones(folder, files, monkeypatch):
    opened = os.open
    taken = []

    def open_and_be_robbed(path, flags, mode=0o777):
        descriptor = opened(path, flags, mode)
        if not taken:
            taken.append(path)
            path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_be_robbed)
    assert files.write(DIGEST, BYTES)
    assert taken
    assert names(folder) == [DIGEST]
    assert files.read(DIGEST, len(BYTES)) == BYTES


def test_two_processes_can_write_the_same_version_at_once(folder, files, start):
    digest = xxhash.xxh3_128_hexdigest(bytes(2**20))
    writers = [start(WRITE_OFTEN, folder, digest) for _ in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.stdout.readline() == "True\n"
    assert names(folder) == [digest]
    assert files.read(digest, 2**20) == bytes(2**20)


def test_a_file_system_that_is_full_costs_the_sharing_alone(folder):
    command = [sys.executable, "-c", WRITE_TOO_MUCH, str(folder), DIGEST, "limit"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"True False ['{DIGEST}']\n"
    assert f"version {DIGEST} is not shared in {folder}: " in done.stderr
    assert (folder / DIGEST).read_bytes() == b"small"


def test_a_full_tmpfs_costs_the_sharing_alone(tmp_path):
    if not (shutil.which("unshare") and os.geteuid() == 0):
        pytest.skip("needs root and unshare(1) to mount a tmpfs")
    mount = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$1" || exit 77; shift; exec "$@"'
    program = [sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path), DIGEST, "mount"]
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), *program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr}")
    assert done.stdout == f"True False ['{DIGEST}']\n"
    assert "No space left on device" in done.stderr


# --- locks -------------------------------------------------------------------------------------


def test_a_version_is_one_holders_at_a_time(files, folder):
    lock = files.try_lock(DIGEST)
    assert files.try_lock(DIGEST) is None
    assert WeightsFiles(folder).try_lock(DIGEST) is None
    other = files.try_lock(OTHER)
    assert lock and other
    lock.release()
    lock.release()
    again = files.try_lock(DIGEST)
    assert again
    lock.release()  # of no consequence for the next holder
    assert files.try_lock(DIGEST) is None
    again.release()
    other.release()


def test_a_lock_dies_with_its_holder(folder, files, start):
    holder = start(HOLD, folder, DIGEST)
    assert holder.stdout.readline() == "held\n"
    assert files.try_lock(DIGEST) is None
    assert start(HOLD, folder, DIGEST).stdout.readline() == "refused\n"
    kill(holder)
    lock = files.try_lock(DIGEST)
    assert lock
    lock.release()


def test_keep_leaves_a_lock_that_is_held_and_removes_one_that_is_not(folder, files, start):
    holder = start(HOLD, folder, DIGEST)
    assert holder.stdout.readline() == "held\n"
    files.keep([])
    assert names(folder) == [f"{DIGEST}.lock"]
    assert files.try_lock(DIGEST) is None
    kill(holder)
    files.keep([])
    assert names(folder) == []


def test_a_lock_that_was_removed_while_it_was_taken_excludes_nobody(files, monkeypatch):
    opened = os.open
    waiting = []

    def open_and_be_late(path, flags, mode=0o777):
        descriptor = opened(path, flags, mode)
        if not waiting:
            waiting.append(path)
            files.keep([])
        return descriptor

    monkeypatch.setattr(os, "open", open_and_be_late)
    assert files.try_lock(DIGEST) is None
    monkeypatch.undo()
    lock = files.try_lock(DIGEST)
    assert lock
    assert files.try_lock(DIGEST) is None
    lock.release()


def test_descriptors_do_not_leak(files):
    files.write(DIGEST, BYTES)
    held = files.try_lock(OTHER)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    for _ in range(5):
        files.read(DIGEST, len(BYTES))
        files.read(OTHER, 3)
        files.write(DIGEST, BYTES)
        assert files.try_lock(OTHER) is None
        files.keep([DIGEST])
    after = os.open(os.devnull, os.O_RDONLY)
    os.close(after)
    held.release()
    assert after == free


def test_threads_hold_a_lock_one_at_a_time(files):
    winners = []
    barrier = threading.Barrier(8)

    def compete():
        barrier.wait()
        winners.append(files.try_lock(DIGEST))

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [lock for lock in winners if lock]
    assert len(held) == 1
    held[0].release()


# --- where -------------------------------------------------------------------------------------


@pytest.fixture
def shared_memory(tmp_path, monkeypatch):
    """A folder that passes for /dev/shm; the list of mounts is a file."""
    memory, mounts = tmp_path / "shm", tmp_path / "mounts"
    memory.mkdir()
    mounts.write_text(f"proc /proc proc rw 0 0\ntmpfs {memory} tmpfs rw,nosuid 0 0\n")
    monkeypatch.setattr(weights_folders, "_SHARED_MEMORY", memory)
    monkeypatch.setattr(weights_folders, "_MOUNTS", mounts)
    return memory, mounts


def test_the_learner_shares_in_memory_under_the_runs_name(shared_memory, tmp_path, monkeypatch):
    memory, _ = shared_memory
    run_dir = tmp_path / "runs" / "arithmetic"
    folder = learner_folder(run_dir)
    assert folder.parent == memory
    assert "arithmetic" in folder.name
    assert learner_folder(run_dir) == folder
    assert learner_folder(tmp_path / "elsewhere" / "arithmetic") != folder
    monkeypatch.chdir(tmp_path)
    assert learner_folder(run_dir.relative_to(tmp_path)) == folder
    assert WeightsFiles(folder).write(DIGEST, BYTES)
    other_user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other_user)
    assert learner_folder(run_dir) != folder


VERSION = xxhash.xxh3_128_hexdigest(b"version")


def test_what_a_killed_learner_left_is_removed_and_what_a_living_one_has_is_not(
    shared_memory, tmp_path, start, caplog
):
    memory, _ = shared_memory
    dead, living = (learner_folder(tmp_path / name) for name in ("a run", "b\nrun"))
    learners = [start(LEARN, folder, VERSION) for folder in (dead, living)]
    assert [learner.stdout.readline() for learner in learners] == ["True\n"] * 2
    (dead / f"{DIGEST}.lock").touch()
    (dead / "0123.part").touch()
    remove_abandoned_folders()
    assert (dead / VERSION).exists()
    kill(learners[0])
    with caplog.at_level(logging.INFO):
        remove_abandoned_folders()
    assert [path.name for path in memory.iterdir()] == [living.name]
    assert f"removed {dead}: no living process uses it" in caplog.text
    assert WeightsFiles(living).read(VERSION, 7) == b"version"


def test_a_folder_from_before_it_was_claimed_is_removed(shared_memory, tmp_path):
    folder = learner_folder(tmp_path / "run")
    WeightsFiles(folder).write(DIGEST, BYTES)
    remove_abandoned_folders()
    assert not folder.exists()


def test_folders_of_others_and_of_other_names_are_left(shared_memory, tmp_path, monkeypatch):
    memory, _ = shared_memory
    user, path_digest = os.geteuid(), "0123456789abcdef"
    for name in (
        f"mlx-rl-trainer-{user}",
        f"mlx-rl-trainer-{user}-run",
        f"mlx-rl-trainer-{user}-run-{path_digest}.old",
        f"mlx-rl-trainer-{user}-run-{path_digest.upper()}",
        f"mlx-rl-trainer-{user + 1}-run-{path_digest}",
        f"my-mlx-rl-trainer-{user}-run-{path_digest}",
    ):
        (memory / name).mkdir(mode=0o700)
        (memory / name / DIGEST).touch()
    name = f"mlx-rl-trainer-{user}-{{}}-{path_digest}"
    (memory / name.format("file")).touch()
    (memory / name.format("link")).symlink_to(memory / f"mlx-rl-trainer-{user}")
    (memory / name.format("open to others")).mkdir(mode=0o755)
    (memory / name.format("open to others") / DIGEST).touch()
    before = sorted(memory.rglob("*"))
    remove_abandoned_folders()
    assert sorted(memory.rglob("*")) == before

    mine = memory / name.format("mine")
    mine.mkdir(mode=0o700)
    (mine / DIGEST).touch()
    (mine / "notes.txt").touch()
    lstat = type(mine).lstat
    other_user = os.stat_result((0o40700, 0, 0, 0, user + 1, 0, 0, 0, 0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(
            type(mine), "lstat", lambda path: other_user if path == mine else lstat(path)
        )
        remove_abandoned_folders()
    assert names(mine) == [DIGEST, "notes.txt"]
    remove_abandoned_folders()
    assert names(mine) == ["notes.txt"]


def test_without_a_tmpfs_nothing_is_removed(shared_memory, tmp_path):
    folder = learner_folder(tmp_path / "run")
    WeightsFiles(folder).write(DIGEST, BYTES)
    shared_memory[1].unlink()
    remove_abandoned_folders()
    assert names(folder) == [DIGEST]


@pytest.mark.parametrize("runs", [("one", "other"), ("same", "same")])
def test_learners_that_start_at_once_never_remove_what_another_has_claimed(
    shared_memory, tmp_path, start, runs
):
    learners = [start(LEARN_OFTEN, *shared_memory, tmp_path / run, VERSION) for run in runs]
    for learner in learners:
        assert learner.stdout.readline() == "ready\n"
    for learner in learners:
        learner.stdin.write("\n")
        learner.stdin.flush()
    assert [learner.stdout.readline() for learner in learners] == ["0\n"] * 2


def test_a_claim_waits_for_who_removes_the_folder_and_makes_it_anew(folder, files, monkeypatch):
    cleaner = files.claim()
    (folder / "of the old folder").touch()
    waits = []

    def remove(seconds):
        waits.append(seconds)
        shutil.rmtree(folder)
        cleaner.release()

    monkeypatch.setattr(weights_files.time, "sleep", remove)
    claim = WeightsFiles(folder).claim()
    assert len(waits) == 1
    assert names(folder) == ["owner.lock"]
    claim.release()


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(folder, monkeypatch):
    check, checked = vars(weights_files)["_check_owned"], []

    def check_late(path):
        checked.append(path)
        if len(checked) == 1:
            path.rmdir()
        check(path)

    monkeypatch.setattr(weights_files, "_check_owned", check_late)
    assert WeightsFiles(folder).write(DIGEST, BYTES)
    assert checked == [folder] * 2


def test_a_folder_that_another_process_owns_is_refused(folder, files, monkeypatch):
    monkeypatch.setattr(weights_files.time, "sleep", lambda _: None)
    claim = files.claim()
    files.keep(())
    assert names(folder) == ["owner.lock"]
    with pytest.raises(WeightsError, match="in use by another process"):
        WeightsFiles(folder).claim()
    claim.release()
    WeightsFiles(folder).claim().release()


@pytest.mark.parametrize("name", ["é" * 120, "a b\nc"])
def test_a_run_folder_of_any_name_can_be_shared(shared_memory, tmp_path, name):
    folder = learner_folder(tmp_path / name)
    assert folder.parent == shared_memory[0]
    assert WeightsFiles(folder).write(DIGEST, BYTES)


@pytest.mark.parametrize("mounts", [None, "", "overlay {memory} overlay rw 0 0\n"])
def test_without_a_tmpfs_the_learner_shares_in_the_run_folder(shared_memory, tmp_path, mounts):
    # None: macOS, which has no list of mounts either
    memory, listed = shared_memory
    listed.unlink() if mounts is None else listed.write_text(mounts.format(memory=memory))
    folder = learner_folder(tmp_path / "run")
    assert folder == tmp_path / "run" / "weights"
    assert WeightsFiles(folder).write(DIGEST, BYTES)


def test_a_tmpfs_that_cannot_be_written_is_not_used(shared_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert learner_folder(tmp_path / "run") == tmp_path / "run" / "weights"


def test_actors_of_another_host_share_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("MLX_RL_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert host_folder("0a1b") == tmp_path / ".cache/mlx-rl-trainer/weights/0a1b"
    monkeypatch.setenv("MLX_RL_CACHE", "~/models")
    assert host_folder("run-1.2_x") == tmp_path / "models/weights/run-1.2_x"
    assert WeightsFiles(host_folder("0a1b")).write(DIGEST, BYTES)


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\n", "x" * 201]
)
def test_a_run_id_that_is_no_plain_name_is_refused(run_id):
    with pytest.raises(WeightsError, match="run id"):
        host_folder(run_id)


def test_nothing_is_logged_while_all_is_well(files, caplog):
    with caplog.at_level(logging.DEBUG):
        files.write(DIGEST, BYTES)
        files.read(DIGEST, len(BYTES))
        files.read(OTHER, 1)
        files.keep([])
    assert caplog.text == ""
