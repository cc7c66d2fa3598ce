"""What programs may try to steal or to hurt: files, a secret, listening sockets, a process."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile.program import ESCAPED

ROOT = Path(__file__).resolve().parents[5]
SECRET = "ADVERSARIAL_SECRET"


@contextlib.contextmanager
def planted() -> Iterator[dict[str, Any]]:
    """Facts that are handed to programs, while what they speak of exists.

    The secret stays in the environment: other canaries of this process may still need it.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="adversarial-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        os.environ[SECRET] = ESCAPED
        yield {
            **_plant_files(folder),
            **_listen(stack, folder),
            "checkout": str(ROOT),
            "host": socket.gethostname(),
            "supervisor": os.getpid(),
            "victim": _victim(stack),
        }


def _plant_files(folder: Path) -> dict[str, str]:
    (folder / "writable").mkdir()
    (folder / "writable").chmod(0o777)
    (folder / ".ssh").mkdir()
    for name in ("canary", ".ssh/id_ed25519"):
        (folder / name).write_text(ESCAPED)
        (folder / name).chmod(0o644)
    (folder / "private").write_text(ESCAPED)
    (folder / "private").chmod(0o600)
    names = ("canary", "private", "writable")
    return {"folder": str(folder), **{name: str(folder / name) for name in names}}


def _listen(stack: contextlib.ExitStack, folder: Path) -> dict[str, Any]:
    """Listeners that give the canary to whoever connects."""
    abstract = folder.name
    tcp = socket.create_server(("127.0.0.1", 0))
    listeners = [tcp]
    for address in (str(folder / "socket"), f"\0{abstract}"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
        listeners.append(listener)
    (folder / "socket").chmod(0o777)
    for listener in listeners:
        thread = threading.Thread(target=_give, args=(listener,), daemon=True)
        thread.start()
        stack.callback(_stop, listener, thread)
    return {
        "port": tcp.getsockname()[1],
        "unix": str(folder / "socket"),
        "abstract": abstract,
    }


def _give(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # it was shut
            return
        with connection, contextlib.suppress(OSError):
            connection.sendall(ESCAPED.encode())


def _stop(listener: socket.socket, thread: threading.Thread) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def _victim(stack: contextlib.ExitStack) -> int:
    """A process of the same user, with the secret in its environment."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

    def end() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    stack.callback(end)
    return process.pid


def damage(facts: dict[str, Any]) -> list[str]:
    """What was changed of that which no program may change."""
    folder = Path(facts["folder"])
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    changed = [] if files == [".ssh/id_ed25519", "canary", "private"] else files
    changed += [name for name in files if (folder / name).read_text() != ESCAPED]
    with contextlib.suppress(OSError):
        os.kill(facts["victim"], 0)
        return changed
    return [*changed, "the victim has ended"]
