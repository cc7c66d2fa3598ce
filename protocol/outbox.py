"""What a peer keeps until the learner has acked it."""

from collections.abc import Hashable, Iterator

from protocol.messages import Message


class Outbox:
    """Unacked messages by key, each due again after `resend_seconds`. No clock, no socket.

    Args:
        resend_seconds: how long to wait for an ack before sending again.
    """

    def __init__(self, resend_seconds: float) -> None:
        self._resend_seconds = resend_seconds
        self._kept: dict[Hashable, tuple[Message, float]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: Hashable, message: Message, now: float) -> None:
        """Hold a message; it is due at once."""
        self._kept[key] = (message, now)

    def ack(self, key: Hashable) -> None:
        """Forget the message of that key, if it is held."""
        self._kept.pop(key, None)

    def due(self, now: float) -> Iterator[tuple[Hashable, Message]]:
        """Messages to send now, the one held longest first; say `sent` of each that was."""
        for key, (message, due_at) in list(self._kept.items()):
            if due_at <= now and key in self._kept:
                yield key, message

    def sent(self, key: Hashable, now: float) -> None:
        """Note that a message was sent: it is due again later, until it is acked."""
        if kept := self._kept.get(key):
            self._kept[key] = (kept[0], now + self._resend_seconds)

    def make_all_due(self) -> None:
        """Send everything again at once: the connection is new."""
        self._kept = {key: (message, 0.0) for key, (message, _) in self._kept.items()}

    def clear(self) -> None:
        """Forget everything: the learner began a new run epoch and wants none of it."""
        self._kept.clear()
