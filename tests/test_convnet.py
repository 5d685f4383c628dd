"""The networks of the baselines: shapes for any size, statistics as they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn import convnet
from jaxad.nn.layers import NORM_EPSILON


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 10, 3)])
def test_what_is_encoded_can_be_decoded_to_its_size(shape, rng):
    images = rng.random((3, *shape), np.float32)

    def there_and_back(key, images):
        first, second = jax.random.split(key)
        encoder = convnet.init_encoder(first, shape, (4, 6), 5)
        decoder = convnet.init_decoder(second, shape, (4, 6), 5)
        encoded = convnet.encode(encoder, images)
        return encoded, convnet.decode(decoder, encoded.output, shape)

    encoded, decoded = jax.jit(there_and_back)(jax.random.key(0), images)
    assert encoded.output.shape == (3, 5)
    assert encoded.features.shape == (3, -(-shape[0] // 4), -(-shape[1] // 4), 6)
    assert decoded.images.shape == images.shape
    assert encoded.moments == decoded.moments == ()


def test_weights_keep_the_size_of_what_passes(rng):
    images = rng.standard_normal((16, 16, 16, 3)).astype(np.float32)
    params = jax.jit(lambda key: convnet.init_encoder(key, (16, 16, 3), (32,), 64))(jax.random.key(0))
    assert params["blocks"][0]["kernel"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.1)
    assert params["dense"]["kernel"].std() == pytest.approx(np.sqrt(1 / (8 * 8 * 32)), rel=0.1)
    assert 0.1 < np.asarray(jax.jit(convnet.encode)(params, images).output).std() < 2


def test_offsets_may_be_left_out():
    params = jax.jit(lambda key: convnet.init_encoder(key, (8, 8, 1), (4, 4), 3, offsets=False))(jax.random.key(0))
    assert all(leaf.ndim in (2, 4) for leaf in jax.tree.leaves(params))
    black = jax.jit(lambda params, images: convnet.encode(params, images))(params, jnp.zeros((2, 8, 8, 1)))
    np.testing.assert_array_equal(black.output, 0)


def test_frozen_moments_of_a_batch_give_what_the_batch_gives(rng):
    images = rng.random((6, 8, 8, 1), np.float32)

    def both(key, images):
        params = convnet.init_encoder(key, (8, 8, 1), (4, 5), 3)
        free = convnet.encode(params, images, norm=True)
        return params, free, convnet.encode(params, images, norm=True, moments=free.moments)

    params, free, frozen = jax.jit(both)(jax.random.key(0), images)
    np.testing.assert_allclose(frozen.output, free.output, rtol=1e-3, atol=1e-5)
    assert [m.mean.shape for m in free.moments] == [(4,), (5,)]
    first = jax.lax.conv_general_dilated(
        images, params["blocks"][0]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(free.moments[0].mean, np.mean(first, (0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(free.moments[0].variance + NORM_EPSILON, np.var(first, (0, 1, 2)), rtol=1e-3, atol=2e-5)


def test_moments_of_many_images_are_those_of_a_mixture(rng):
    images = rng.random((10, 4, 4, 2), np.float32)

    def of_batch(batch):
        from jaxad.nn.layers import batch_moments

        return (batch_moments(batch),)

    (found,) = jax.jit(lambda images: convnet.population_moments(of_batch, images, 5))(images)
    np.testing.assert_allclose(found.mean, images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.variance, images.var((0, 1, 2)), rtol=1e-4)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="images are 3x9; 2 levels halve them to nothing: give fewer widths"):
        convnet.sizes((3, 9, 1), 2)
    for widths in ((), (4, 0), (2.5,)):
        with pytest.raises(ValueError, match="widths are"):
            convnet.check_widths(widths)
