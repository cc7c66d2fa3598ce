import pytest

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.layers import Layer, check_layers, require


def test_this_machine_has_every_layer():
    require(check_layers())


def test_a_missing_layer_is_named_with_its_remedy():
    present = Layer("one", True, "there", "nothing to do")
    missing = Layer("two", False, "not there", "get it")
    with pytest.raises(
        SandboxUnavailable, match=r"^sandbox layer 'two' is missing: not there; get"
    ):
        require([present, missing])
