"""Neighbouring ports that are free."""

import socket

import pytest

from learner.evaluate import ports


def test_all_of_them_can_be_bound():
    first = ports.free_ports(4)
    held = []
    for port in range(first, first + 4):
        opened = socket.socket()
        held.append(opened)
        opened.bind(("127.0.0.1", port))
    for opened in held:
        opened.close()


def test_a_taken_one_is_passed_over(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", port - 3)
        monkeypatch.setattr(ports, "LAST", port + 1)
        with pytest.raises(OSError, match="no 4 neighbouring ports"):
            ports.free_ports(4)
