"""Flax modules as two pure functions: one draw for all weights, statistics brought forward, parts replaced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn import initializers
from jaxad.nn.convolution import Conv
from jaxad.nn.network import make_network, norms_of, replaced, split
from jaxad.nn.normalization import BatchNorm


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        images = Conv(300, (4, 4), 2, 1, use_bias=False, kernel_init=initializers.glorot_uniform(2.0))(images)
        images = BatchNorm(not train, scale_init=initializers.normal(0.02, 1.0))(images)
        return nn.Dense(200, kernel_init=initializers.kaiming_normal())(images)


IMAGES = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)


@pytest.fixture(scope="module")
def network():
    return make_network(Encoder())


@pytest.fixture(scope="module")
def variables(network):
    return jax.jit(lambda key: network.init(key, IMAGES))(jax.random.key(0))


def test_variables_are_plain_dicts_of_arrays(variables):
    assert jax.tree.map(np.shape, variables) == {
        "params": {
            "Conv_0": {"kernel": (4, 4, 3, 300)},
            "BatchNorm_0": {"scale": (300,), "bias": (300,)},
            "Dense_0": {"kernel": (300, 200), "bias": (200,)},
        },
        "batch_stats": {"BatchNorm_0": {"mean": (300,), "var": (300,)}},
    }
    assert all(type(node) is dict for node in (variables, *variables.values(), variables["params"]["Conv_0"]))


def test_weights_have_the_distributions_asked_for(variables):
    params = variables["params"]
    kernel, limit = params["Conv_0"]["kernel"], 2 * np.sqrt(6 / (16 * (3 + 300)))
    assert -limit <= kernel.min() < -0.99 * limit
    assert 0.99 * limit < kernel.max() < limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
    np.testing.assert_allclose(params["Dense_0"]["kernel"].std(), np.sqrt(2 / 300), rtol=0.02)
    np.testing.assert_allclose(params["BatchNorm_0"]["scale"].mean(), 1, atol=0.005)
    np.testing.assert_allclose(params["BatchNorm_0"]["scale"].std(), 0.02, rtol=0.15)
    for name in ("bias", "mean"):
        assert not np.any((params | variables["batch_stats"])["BatchNorm_0"].get(name, 0))


def test_flaxs_own_init_draws_from_the_same_distributions():
    """Boxes are metadata: whoever initialises a module without `make_network` has weights, too."""
    kernel = nn.meta.unbox(Encoder().init(jax.random.key(1), jnp.zeros(IMAGES.shape)))["params"]["Conv_0"]["kernel"]
    np.testing.assert_allclose(kernel.std(), 2 * np.sqrt(6 / (16 * 303)) / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize(
    ("ours", "flaxs"),
    [
        (initializers.glorot_uniform(), nn.initializers.glorot_uniform()),
        (initializers.kaiming_normal(1.0), nn.initializers.variance_scaling(1.0, "fan_in", "normal")),
        (initializers.normal(0.3), nn.initializers.normal(0.3)),
    ],
)
def test_scales_are_those_of_flaxs_initialisers(ours, flaxs):
    shape = (3, 3, 20, 70)
    drawn = (init(key, shape) for init, key in zip((ours, flaxs), jax.random.split(jax.random.key(2)), strict=True))
    np.testing.assert_allclose(*(np.std(nn.meta.unbox(array)) for array in drawn), rtol=0.03)


def test_keys_make_all_the_difference(network, variables):
    init = jax.jit(lambda key: network.init(key, IMAGES))
    jax.tree.map(np.testing.assert_array_equal, init(jax.random.key(0)), variables)
    other = init(jax.random.key(3))["params"]
    for layer in ("Conv_0", "Dense_0"):
        assert not np.any(other[layer]["kernel"] == variables["params"][layer]["kernel"])


def test_weights_of_one_shape_are_drawn_apart():
    class Twins(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            return [nn.Dense(5, kernel_init=initializers.normal(1.0))(x) for _ in range(2)]

    params = make_network(Twins()).init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
    assert not np.any(params["Dense_0"]["kernel"] == params["Dense_1"]["kernel"])


def test_a_program_that_initialises_holds_one_draw_alone():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            for width in (30, 50, 70):
                x = nn.Dense(width, kernel_init=initializers.glorot_uniform())(x)
            return x

    network = make_network(Stack())
    text = jax.jit(lambda key: network.init(key, jnp.zeros((1, 20)))).lower(jax.random.key(0)).compile().as_text()
    single, together = (20 * 30, 30 * 50, 50 * 70), 20 * 30 + 30 * 50 + 50 * 70
    assert f"[{together}]" in text
    assert not any(f"u32[{size}]" in text or f"u32[{size // 2}]" in text for size in single)


def test_training_brings_statistics_forward_and_scoring_does_not(network, variables, rng):
    images = jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32)
    frozen = network.apply(variables, images)
    output, after = network.apply(variables, images, train=True)
    assert not np.array_equal(output, frozen)
    assert np.any(after["batch_stats"]["BatchNorm_0"]["mean"])
    jax.tree.map(np.testing.assert_array_equal, after["params"], variables["params"])
    trained, remembered = split(after)
    jax.tree.map(np.testing.assert_array_equal, trained | remembered, after)


def test_affine_parts_are_found_and_replaced(variables):
    params = variables["params"]
    found = norms_of(params)
    assert jax.tree.map(np.shape, found) == {"BatchNorm_0": {"scale": (300,), "bias": (300,)}}
    changed = replaced(params, jax.tree.map(lambda leaf: leaf + 1, found))
    np.testing.assert_array_equal(changed["BatchNorm_0"]["scale"], params["BatchNorm_0"]["scale"] + 1)
    assert changed["Conv_0"]["kernel"] is params["Conv_0"]["kernel"]
    with pytest.raises(KeyError, match="no 'Norm'"):
        replaced(params, {"Norm": {"scale": 1}})
