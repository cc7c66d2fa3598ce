"""`python -m learner.trackers._wandb_process`: lines of JSON on stdin -> a run of wandb.

The first line says what the run is; each other is a report, and `{"finish_seconds": s}` the last.

A process of its own, because wandb brings threads, hooks of the interpreter's end and a server that
it waits for without bound: all of that ends here, and takes no time from training. When the learner
dies, stdin ends: what was reported is still handed over, but not for long. wandb's server ends with
this process.
"""

import json
import os
import sys
import threading
import time
from queue import SimpleQueue
from typing import Any

from protocol.process import EXIT_FAILED, exit_now, run_main

ORPHAN_SECONDS = 2.0
"""To finish once the learner is gone without a word."""

Message = dict[str, Any]


def main() -> int:
    """Report until stdin ends."""
    messages: SimpleQueue[Message | None] = SimpleQueue()
    begun = threading.Event()
    reader = threading.Thread(target=_read, args=(messages, begun), name="stdin", daemon=True)
    reader.start()  # a thread: wandb.init may hang when the learner ends
    settings = messages.get()
    if settings is None:
        return EXIT_FAILED
    _report(settings, messages, begun)
    return 0


def _report(
    settings: Message, messages: "SimpleQueue[Message | None]", begun: threading.Event
) -> None:
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # read at import: reports on wandb itself
    import wandb

    from learner.tracker_names import GLOBAL_STEP

    # Its figures of the machine would be of this process.
    quiet = wandb.Settings(console="off", silent=True, disable_code=True, x_disable_stats=True)
    run = wandb.init(**settings, resume="allow", settings=quiet)
    begun.set()
    run.define_metric(GLOBAL_STEP)
    run.define_metric("*", step_metric=GLOBAL_STEP)
    while (message := messages.get()) is not None:
        run.log(message)
    run.finish()
    wandb.teardown()


def _read(messages: "SimpleQueue[Message | None]", begun: threading.Event) -> None:
    """Hand messages on; from the end of them on, this process has not long."""
    parent, seconds = os.getppid(), ORPHAN_SECONDS
    for line in sys.stdin:
        message = json.loads(line)
        if "finish_seconds" in message:
            seconds = message["finish_seconds"]
        else:
            messages.put(message)
    messages.put(None)
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        if os.getppid() != parent:  # told to end while it waited for this
            deadline = min(deadline, now + ORPHAN_SECONDS)
        time.sleep(0.05)
    left = (
        "`wandb sync` sends what is left"
        if begun.is_set()
        else "its server did not answer, and it has nothing: mode offline keeps it"
    )
    exit_now(EXIT_FAILED, f"wandb did not finish within {seconds:.1f} s; {left}")


if __name__ == "__main__":
    run_main(main)
