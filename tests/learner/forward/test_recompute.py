"""Layers that compute again for a gradient: what is computed twice, and what stays as it was."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models import llama

from learner.forward.recompute import recompute_layers


class Layer(nn.Module):
    """Scales; hands on what it got in a tuple, and counts its calls."""

    def __init__(self, scale):
        super().__init__()
        self.scale = mx.array(scale)
        self.calls = []

    def __call__(self, x, pair=(), mask=None):
        self.calls.append(1)
        x = x * self.scale + sum(pair)
        x = x if mask is None else mx.where(mask, x, 0.0)
        return x, (x, x * self.scale)


class Chain(nn.Module):
    """Its second layer reads what the first gave besides, as layers with shared keys do."""

    def __init__(self):
        super().__init__()
        self.layers = [Layer(2.0), Layer(3.0)]

    def __call__(self, x):
        x, pair = self.layers[0](x)
        x, _ = self.layers[1](x, pair=pair, mask=mx.array([True, False]))
        return x.sum()


def gradients(model, x):
    def loss(parameters, x):
        model.update(parameters)
        return model(x)

    parameters = model.trainable_parameters()
    found = mx.value_and_grad(loss, argnums=[0, 1])(parameters, x)
    mx.eval(found)
    model.update(parameters)
    return found


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_by_hand_reach_parameters_inputs_and_what_lies_in_tuples(recompute):
    # y = x a b + x a + x a a, for the first of two x: a = 2, b = 3, x = 5
    #   y = 30 + 10 + 20   dy/da = x b + x + 2 x a = 40   dy/db = x a = 10   dy/dx = 6 + 2 + 4
    model = Chain()
    if recompute:
        recompute_layers(model)
    value, (by_parameter, by_x) = gradients(model, mx.array([5.0, 7.0]))
    assert float(value) == 60.0
    assert [float(layer["scale"]) for layer in by_parameter["layers"]] == [40.0, 10.0]
    assert by_x.tolist() == [12.0, 0.0]
    assert [len(layer.calls) for layer in model.layers] == ([2, 2] if recompute else [1, 1])


def test_asking_twice_is_asking_once():
    model = Chain()
    recompute_layers(model)
    recompute_layers(model)
    gradients(model, mx.array([5.0, 7.0]))
    assert [len(layer.calls) for layer in model.layers] == [2, 2]


def test_other_models_of_the_same_class_are_left_alone():
    changed, other = Chain(), Chain()
    recompute_layers(changed)
    assert isinstance(changed.layers[0], Layer)
    assert type(changed.layers[0]).__name__ == "Layer"
    assert type(other.layers[0]) is Layer
    gradients(other, mx.array([5.0, 7.0]))
    assert [len(layer.calls) for layer in other.layers] == [1, 1]


def test_a_layer_holds_its_own_parameters_after_a_gradient():
    model = Chain()
    recompute_layers(model)
    before = [layer.scale for layer in model.layers]
    gradients(model, mx.array([5.0, 7.0]))
    assert all(layer.scale is array for layer, array in zip(model.layers, before, strict=True))
    np.testing.assert_array_equal(np.array(before), [2.0, 3.0])


def peak_bytes(depth, *, recompute):
    """Memory that the gradient of a llama takes at most, beyond its parameters."""
    shape = {"hidden_size": 32, "intermediate_size": 128, "vocab_size": 50, "rms_norm_eps": 1e-5}
    heads = {"num_hidden_layers": depth, "num_attention_heads": 2}
    model = llama.Model(llama.ModelArgs(model_type="llama", **shape, **heads))
    if recompute:
        recompute_layers(model)
    tokens_BT = mx.zeros((4, 128), mx.int32)
    parameters = model.trainable_parameters()
    mx.eval(parameters, tokens_BT)

    def loss(parameters):
        model.update(parameters)
        return mx.square(model(tokens_BT)).sum()

    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(loss)(parameters))
    return mx.get_peak_memory() - before


def test_memory_hardly_grows_with_the_layers():
    # 4 and 12 layers: their activations are 3 times as many
    plain = [peak_bytes(depth, recompute=False) for depth in (4, 12)]
    recomputed = [peak_bytes(depth, recompute=True) for depth in (4, 12)]
    assert plain[1] > 2.0 * plain[0]
    assert recomputed[1] < 1.4 * recomputed[0]
    assert recomputed[1] < 0.4 * plain[1]
