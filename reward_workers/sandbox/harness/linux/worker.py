"""A worker on Linux, from its start to its job: cloned or forked, confined, ready, serving."""

import json
import os
import socket
import sys

from reward_workers.sandbox.harness import frames, worker
from reward_workers.sandbox.harness.linux.confine import CHANNEL, Confinement, Place
from reward_workers.sandbox.harness.linux.init import FAULT_EXIT, Request, guard
from reward_workers.sandbox.harness.linux.zygote import next_candidate


def main(mode: str, place_json: str, *rest: str) -> None:
    """Become a worker, in this process or in clones of it, and serve its one job."""
    place = Place(**json.loads(place_json))
    if mode == "zygote":  # else each candidate imports what it needs: the library stays readable
        worker.preload()
    _settle(place)
    confinement = Confinement(place)
    if mode == "zygote":
        control = socket.socket(fileno=int(rest[0]))
        request = next_candidate(confinement, control)
        if request is None:
            return
    else:
        request = Request(json.loads(rest[0]), *map(int, rest[1:]))
        guard(confinement, request)
    channel = socket.socket(fileno=CHANNEL)
    _confine(confinement, request, channel)
    worker.serve(channel)


def _settle(place: Place) -> None:
    """No trace of the harness in the search path and the arguments."""
    sys.path.remove(place.harness)
    sys.path_importer_cache.pop(place.harness, None)
    if place.packages:
        sys.path.append(place.packages)
    sys.argv = [""]


def _confine(confinement: Confinement, request: Request, channel: socket.socket) -> None:
    """Confine this process, then say so."""
    try:
        confinement.enter(request.limits)
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor is told
        fault = {"fault": f"{type(error).__name__}: {error}"}
        frames.send(channel, fault, frames.MAX_FROM_WORKER)
        os._exit(FAULT_EXIT)
    frames.send(channel, {"ready": True}, frames.MAX_FROM_WORKER)
