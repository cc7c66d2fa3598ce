"""Saves a checkpoint again and again and fails at another file system operation each time.

    python crashing.py BEFORE NEW STEP CASES MODE [careless]

BEFORE holds whole checkpoints, NEW the files of the one to save as STEP. Case k is CASES/k, a copy
of BEFORE in which a child of this process saves and prunes, and meets MODE at its k-th operation.
Ends with the case in which nothing was met; prints each child's exit code as one JSON list.

before, half, after: the process dies there (half: of a write, when half of its bytes are there)
power: it dies right after, and every byte and name is lost that was not fsynced
full: that operation fails as on a full disk, after half of a write; fills: so do all later ones
      that need space
careless: without the care that is tested, as a control
"""

import errno
import json
import os
import shutil
import sys
import traceback
from pathlib import Path

from learner.checkpoints import storing
from learner.checkpoints.retention import folder_of, prune_checkpoints

DIED, REFUSED = 70, 71
NEED_SPACE = {"mkdir", "open", "write", "fsync", "rename"}
REAL = {name: getattr(os, name) for name in (*NEED_SPACE, "unlink", "rmdir")}


class Faults:
    """Counts operations, and at the k-th does what the mode says."""

    def __init__(self, mode, at):
        self.mode, self.at = mode, at
        self.count = 0
        self.unsynced_files = {}
        self.unsynced_folders = {}

    def call(self, name, *args, **kwargs):
        harmless = name == "open" and not args[1] & os.O_CREAT
        if harmless or (self.mode == "half" and name != "write"):
            return REAL[name](*args, **kwargs)
        self.count += 1
        here = self.count == self.at
        later = self.mode == "fills" and self.count > self.at and name in NEED_SPACE
        if later or (here and self.mode in ("full", "fills")):
            self.half(name, args)
            raise OSError(errno.ENOSPC, "No space left on device")
        if here and self.mode in ("before", "half"):
            if self.mode == "half":
                self.half(name, args)
            os._exit(DIED)
        result = REAL[name](*args, **kwargs)
        self.note(name, args, result)
        if here:
            if self.mode == "power":
                self.cut_power()
            os._exit(DIED)
        return result

    def half(self, name, args):
        if name == "write":
            REAL["write"](args[0], args[1][: len(args[1]) // 2])

    def note(self, name, args, result):
        """What a power cut would take: descriptors of our own, whatever is renamed."""
        if name == "open":
            status = os.fstat(result)
            self.unsynced_files[status.st_ino] = os.dup(result)
            folder = REAL["open"](os.path.dirname(args[0]), os.O_RDONLY)
            self.unsynced_folders.setdefault(os.fstat(folder).st_ino, (folder, []))
            self.unsynced_folders[os.fstat(folder).st_ino][1].append(os.path.basename(args[0]))
        elif name == "write":
            self.unsynced_files[os.fstat(args[0]).st_ino] = os.dup(args[0])
        elif name == "fsync":
            inode = os.fstat(args[0]).st_ino
            self.unsynced_files.pop(inode, None)
            self.unsynced_folders.pop(inode, None)

    def cut_power(self):
        for descriptor in self.unsynced_files.values():
            os.ftruncate(descriptor, 0)
        for folder, names in self.unsynced_folders.values():
            for name in names:
                REAL["unlink"](name, dir_fd=folder)


def in_a_child(work):
    """Exit code of a child that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            os._exit(REFUSED if error.errno == errno.ENOSPC else 1)
        finally:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save(folder, step, contents, careless):
    """As the learner's writer does."""
    if careless:
        storing.sync_descriptor = lambda descriptor: None
        shutil.rmtree(folder_of(folder, 1))
    prune_checkpoints(storing.store(folder, step, contents), 1)


def main():
    before, new, step, cases, mode, *careless = sys.argv[1:]
    contents = {
        path.name: [path.read_bytes()[:100], path.read_bytes()[100:]]
        for path in sorted(Path(new).iterdir())
        if path.name != "manifest.json"
    }
    codes = []
    while not codes or codes[-1] in (DIED, REFUSED):
        folder = Path(cases, f"{len(codes) + 1}")
        shutil.copytree(before, folder)
        faults = Faults(mode, len(codes) + 1)

        def work(folder=folder, faults=faults):
            for name in REAL:
                setattr(
                    os, name, lambda *args, name=name, **kwargs: faults.call(name, *args, **kwargs)
                )
            save(folder, int(step), contents, careless)

        codes.append(in_a_child(work))
    sys.stdout.write(json.dumps(codes))


if __name__ == "__main__":
    main()
