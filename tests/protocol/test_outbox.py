from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Goodbye
from protocol.outbox import Outbox


def message(text):
    return Goodbye(reason=text)


def send_due(outbox, now):
    found = []
    for key, kept in outbox.due(now):
        outbox.sent(key, now)
        found.append(kept.reason)
    return found


def test_a_message_is_due_at_once_and_again_after_the_resend_time_until_it_is_acked():
    outbox = Outbox(resend_seconds=5.0)
    outbox.keep("a", message("a"), now=100.0)
    assert send_due(outbox, 100.0) == ["a"]
    assert send_due(outbox, 104.9) == []
    assert send_due(outbox, 105.0) == ["a"]
    assert send_due(outbox, 109.9) == []
    outbox.ack("a")
    assert send_due(outbox, 1000.0) == []
    assert len(outbox) == 0


def test_messages_are_sent_in_the_order_they_were_kept():
    outbox = Outbox(5.0)
    for name in "cab":
        outbox.keep(name, message(name), now=0.0)
    assert send_due(outbox, 0.0) == ["c", "a", "b"]


def test_what_could_not_be_sent_stays_due():
    outbox = Outbox(5.0)
    outbox.keep("a", message("a"), now=0.0)
    assert [key for key, _ in outbox.due(0.0)] == ["a"]
    assert send_due(outbox, 0.1) == ["a"]
    assert send_due(outbox, 0.2) == []
    outbox.ack("a")
    outbox.sent("a", 0.3)  # the ack came while it was sent
    assert len(outbox) == 0


def test_an_ack_of_an_unknown_key_or_a_second_ack_changes_nothing():
    outbox = Outbox(5.0)
    outbox.keep(("group", 1), message("kept"), now=0.0)
    outbox.ack(("group", 2))
    assert len(outbox) == 1
    outbox.ack(("group", 1))
    outbox.ack(("group", 1))
    assert len(outbox) == 0


def test_a_new_connection_makes_everything_due_again():
    outbox = Outbox(5.0)
    outbox.keep("a", message("a"), now=100.0)
    assert send_due(outbox, 100.0) == ["a"]
    outbox.make_all_due()
    assert send_due(outbox, 100.1) == ["a"]
    assert send_due(outbox, 100.2) == []


def test_a_new_run_epoch_can_forget_everything():
    outbox = Outbox(5.0)
    outbox.keep("a", message("a"), now=0.0)
    outbox.clear()
    assert send_due(outbox, 100.0) == []


def test_an_ack_while_the_due_messages_are_being_sent_is_heeded():
    outbox = Outbox(5.0)
    outbox.keep("a", message("a"), now=0.0)
    outbox.keep("b", message("b"), now=0.0)
    sending = outbox.due(0.0)
    next(sending)
    outbox.ack("b")
    list(sending)
    assert len(outbox) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_what_is_due_is_what_was_kept_and_not_acked(steps):
    outbox, expected = Outbox(1.0), {}
    for now, (keep, key) in enumerate(steps):
        if keep:
            outbox.keep(key, message(str(now)), now=float(now))
            expected[key] = str(now)
        else:
            outbox.ack(key)
            expected.pop(key, None)
        assert sorted(send_due(outbox, float(now))) == sorted(expected.values())
