"""Calls from one thread to another: carried out in order, and never waited for in vain."""

import threading
from concurrent.futures import Future

import pytest

from learner.exchange.commands import Commands
from protocol.errors import RunStopped

DEADLINE_SECONDS = 10.0


@pytest.fixture
def woken():
    return threading.Event()


def in_thread(call):
    """Runs a call in a thread; returns a future of what came of it."""
    outcome = Future()

    def run():
        try:
            outcome.set_result(call())
        except RunStopped as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def test_commands_are_carried_out_in_their_order(woken):
    commands, done = Commands(woken.set), []
    for number in range(3):
        commands.put(lambda number=number: done.append(number))
    assert woken.is_set()
    assert done == []
    commands.carry_out()
    commands.carry_out()
    assert done == [0, 1, 2]


def test_an_answer_is_waited_for_even_if_it_comes_after_its_command(woken):
    commands, answer = Commands(woken.set), Future()
    asked = in_thread(lambda: commands.ask(lambda: None, answer))
    assert woken.wait(DEADLINE_SECONDS)
    commands.carry_out()
    assert not asked.done()
    answer.set_result(5)
    assert asked.result(DEADLINE_SECONDS) == 5


@pytest.mark.parametrize("carried_out", [True, False])
def test_the_end_reaches_the_call_that_waits(woken, carried_out):
    commands = Commands(woken.set)
    asked = in_thread(lambda: commands.ask(lambda: None, Future()))
    assert woken.wait(DEADLINE_SECONDS)
    if carried_out:
        commands.carry_out()
    commands.end(RunStopped("it broke"))
    with pytest.raises(RunStopped, match="it broke"):
        asked.result(DEADLINE_SECONDS)


def test_the_end_leaves_an_answer_that_has_come(woken):
    commands, answer = Commands(woken.set), Future()
    asked = in_thread(lambda: commands.ask(lambda: answer.set_result(7), answer))
    assert woken.wait(DEADLINE_SECONDS)
    commands.carry_out()
    commands.end(RunStopped("it broke"))
    assert asked.result(DEADLINE_SECONDS) == 7


def test_every_call_after_the_end_raises_its_reason(woken):
    commands = Commands(woken.set)
    commands.end(RunStopped("it broke"))
    for _ in range(2):
        with pytest.raises(RunStopped, match="it broke"):
            commands.put(lambda: None)
        with pytest.raises(RunStopped, match="it broke"):
            commands.ask(lambda: None, Future())
