"""Layers of confinement on macOS."""

import sys

import pytest

from reward_workers.sandbox.macos.layers import check_all, version_layer


@pytest.mark.parametrize("version", ["14.0", "14.7.1", "15.2", "26.0"])
def test_a_new_enough_macos_is_found(version):
    layer = version_layer("darwin", version)
    assert layer.ok
    assert layer.detail == f"darwin {version}"


@pytest.mark.parametrize(
    ("system", "version"), [("darwin", "13.6"), ("darwin", ""), ("linux", ""), ("linux", "14.0")]
)
def test_anything_else_is_refused_with_what_is_wanted(system, version):
    layer = version_layer(system, version)
    assert not layer.ok
    assert "macOS 14 or newer is needed" in layer.sentence()


@pytest.mark.skipif(sys.platform == "darwin", reason="what other systems see")
def test_elsewhere_only_the_system_is_looked_at():
    assert [layer.name for layer in check_all()] == ["macOS"]


@pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")
def test_on_a_mac_every_layer_is_there():
    assert [layer.sentence() for layer in check_all() if not layer.ok] == []
