"""The networks of the baselines: shapes for any size, statistics as they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn import convnet, layers
from jaxad.nn.layers import NORM_EPSILON
from jaxad.nn.network import make_network


def started(module, inputs, seed=0):
    """Network and variables."""
    network = make_network(module)
    return network, jax.jit(network.init)(jax.random.key(seed), inputs)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 10, 3)])
def test_what_is_encoded_can_be_decoded_to_its_size(shape, rng):
    images = rng.random((3, *shape), np.float32)
    encoder, first = started(convnet.Encoder((4, 6), 5), images)
    encoded = jax.jit(encoder.apply)(first, images)
    assert encoded.output.shape == (3, 5)
    assert encoded.features.shape == (3, -(-shape[0] // 4), -(-shape[1] // 4), 6)
    decoder, second = started(convnet.Decoder(shape, (4, 6)), encoded.output)
    assert jax.jit(decoder.apply)(second, encoded.output).shape == images.shape
    assert set(first) == set(second) == {"params"}  # without normalisation there are no statistics


def test_an_autoencoder_is_an_encoder_and_its_mirror(rng):
    images = rng.random((3, 7, 10, 2), np.float32)
    both, variables = started(convnet.Autoencoder((4, 6), 5), images)
    params = variables["params"]
    rebuilt, codes = jax.jit(both.apply)(variables, images)
    encoded = jax.jit(make_network(convnet.Encoder((4, 6), 5)).apply)({"params": params["encoder"]}, images)
    np.testing.assert_allclose(codes, encoded.output, rtol=1e-5, atol=1e-6)
    decoder = make_network(convnet.Decoder((7, 10, 2), (4, 6)))
    np.testing.assert_allclose(rebuilt, jax.jit(decoder.apply)({"params": params["decoder"]}, codes), atol=1e-5)


def test_weights_keep_the_size_of_what_passes(rng):
    images = rng.standard_normal((16, 16, 16, 3)).astype(np.float32)
    encoder, variables = started(convnet.Encoder((32,), 64), images)
    params = variables["params"]
    assert params["ConvBlock_0"]["Conv_0"]["kernel"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.1)
    assert params["Dense_0"]["kernel"].std() == pytest.approx(np.sqrt(1 / (8 * 8 * 32)), rel=0.1)
    assert 0.1 < np.asarray(jax.jit(encoder.apply)(variables, images).output).std() < 2


@pytest.mark.parametrize("use_norm", [False, True])
def test_biases_may_be_left_out(use_norm):
    black = jnp.zeros((2, 8, 8, 1))
    encoder, variables = started(convnet.Encoder((4, 4), 3, use_bias=False, use_norm=use_norm), black)
    assert all(leaf.ndim in (2, 4) for leaf in jax.tree.leaves(variables["params"]))
    np.testing.assert_array_equal(jax.jit(encoder.apply)(variables, black).output, 0)


def test_frozen_statistics_of_a_batch_give_what_the_batch_gives(rng):
    images = rng.random((6, 8, 8, 1), np.float32)
    encoder, variables = started(convnet.Encoder((4, 5), 3, use_norm=True), images)
    free, seen = jax.jit(lambda variables: encoder.apply(variables, images, train=True))(variables)
    frozen = jax.jit(encoder.apply)(seen, images)
    np.testing.assert_allclose(frozen.output, free.output, rtol=1e-3, atol=1e-5)
    found = seen["batch_stats"]["ConvBlock_0"]["BatchNorm_0"]
    assert found["mean"].shape == (4,)
    assert seen["batch_stats"]["ConvBlock_1"]["BatchNorm_0"]["mean"].shape == (5,)
    first = jax.lax.conv_general_dilated(
        images,
        variables["params"]["ConvBlock_0"]["Conv_0"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(found["mean"], np.mean(first, (0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"] + NORM_EPSILON, np.var(first, (0, 1, 2)), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_a_maximum_may_be_taken_before_the_activation(shape, rng):
    """LeakyReLU grows, so that the largest value of a window stays the largest, to the bit; an average would not."""
    images = 4 * rng.standard_normal((2, *shape, 3)).astype(np.float32)
    for kind in ("max", "average"):
        network, variables = started(convnet.ConvBlock(5, 3, True, True, 0.2, pool=kind), images)
        whole = make_network(convnet.ConvBlock(5, 3, True, True, 0.2))
        after = jax.jit(lambda v, x, whole=whole, kind=kind: layers.pool(whole.apply(v, x, train=False), kind, 2))
        pooled = jax.jit(lambda v, x, network=network: network.apply(v, x, train=False))(variables, images)
        np.testing.assert_array_equal(pooled, after(variables, images))


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="images are 3x9; 2 levels halve them to nothing: give fewer widths"):
        convnet.sizes((3, 9, 1), 2)
    for widths in ((), (4, 0), (2.5,)):
        with pytest.raises(ValueError, match="widths are"):
            convnet.check_widths(widths)
