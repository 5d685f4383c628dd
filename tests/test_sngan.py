"""AMA's networks: sizes and widths, against library convolutions, and what batch normalisation may and may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.methods.ama import networks as sngan


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_numbers_of_weights_are_those_of_the_authors_networks():
    """At 32x32x3 with d = 128, layer by layer."""
    encoder = jax.eval_shape(lambda key: sngan.init_encoder(key, (32, 32, 3), 128), jax.random.key(0))
    assert count(encoder) == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128) + 2 * (64 + 128 + 256)
    generator = jax.eval_shape(lambda key: sngan.init_generator(key, (32, 32, 3), 128), jax.random.key(0))
    block = 2 * 9 * 256 * 256 + 256 * 256 + 4 * 256  # and three biases of 256 that normalisation cancels
    assert count(generator) == 129 * 16 * 256 + 3 * block + 2 * 256 + 9 * 256 * 3 + 3
    critic = jax.eval_shape(lambda key: sngan.init_critic(key, (32, 32, 6)), jax.random.key(0))
    wide = 9 * 128 * 128 + 128
    first = 9 * 6 * 128 + 128 + wide + 6 * 128 + 128
    assert count(critic) == first + 2 * wide + 128 * 128 + 128 + 4 * wide + 128


@pytest.mark.parametrize(("side", "halving", "blocks"), [(8, 1, 4), (16, 1, 4), (32, 2, 4), (64, 3, 5)])
def test_other_sizes_keep_the_form(side, halving, blocks):
    critic = jax.eval_shape(lambda key: sngan.init_critic(key, (side, side, 2), 0.1), jax.random.key(0))
    assert len(critic["blocks"]) == blocks
    assert sum("shortcut" in block for block in critic["blocks"]) == halving
    shape = (2, side, side, 1)

    def through(key, images):
        encoder, generator = jax.random.split(key)
        encoder = sngan.init_encoder(encoder, shape[1:], 7, 0.1)
        codes = sngan.encode(encoder, images).output
        rebuilt = sngan.generate(sngan.init_generator(generator, shape[1:], 7, 0.1), codes).output
        return codes, rebuilt

    codes, rebuilt = jax.eval_shape(through, jax.random.key(0), jnp.zeros(shape))
    assert codes.shape == (2, 7)
    assert rebuilt.shape == shape


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 3), (4, 4, 1), (30, 30, 1)])
def test_other_shapes_are_refused_with_the_remedy(shape):
    with pytest.raises(ValueError, match="resize to"):
        sngan.init_encoder(jax.random.key(0), shape, 8)


def test_next_size():
    assert [sngan.next_size(n) for n in (1, 8, 9, 16, 28, 32, 33, 64)] == [8, 8, 16, 16, 32, 32, 64, 64]


@pytest.fixture(scope="module")
def networks():
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (8, 8, 1)
    return (
        sngan.init_encoder(keys[0], shape, 6, 0.05),
        sngan.init_generator(keys[1], shape, 6, 0.02),
        sngan.init_critic(keys[2], (8, 8, 2), 0.05),
    )


def test_generated_images_are_in_range_and_frozen_moments_repeat_the_batch(networks, rng):
    encoder, generator, _ = networks
    images = jnp.asarray(rng.uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)

    def both(images):
        codes = sngan.encode(encoder, images)
        rebuilt = sngan.generate(generator, codes.output)
        frozen = sngan.encode(encoder, images, codes.moments)
        return codes, rebuilt, frozen, sngan.generate(generator, frozen.output, rebuilt.moments)

    codes, rebuilt, frozen_codes, frozen_rebuilt = jax.jit(both)(images)
    assert len(codes.moments) == 1
    assert len(rebuilt.moments) == 3
    assert np.abs(rebuilt.output).max() <= 1
    np.testing.assert_allclose(frozen_codes.output, codes.output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frozen_rebuilt.output, rebuilt.output, rtol=1e-4, atol=1e-5)


def test_the_critic_judges_each_pair_by_itself_and_values_are_linear_in_features(networks, rng):
    critic = networks[2]
    pairs = jnp.asarray(rng.uniform(-1, 1, (4, 8, 8, 2)), jnp.float32)
    judge = jax.jit(lambda pairs: sngan.judge(critic, pairs))
    together = judge(pairs)
    alone = judge(jnp.concatenate([pairs[:1], 9 * pairs[1:]]))
    np.testing.assert_allclose(alone.values[0], together.values[0], rtol=1e-5)
    np.testing.assert_allclose(together.features @ critic["dense"]["kernel"][:, 0], together.values, rtol=1e-4)
    assert (np.asarray(together.features) >= 0).all()


@pytest.mark.parametrize("side", [8, 32])
def test_the_critic_equals_a_plain_restatement(side, rng):
    """With library convolutions and pooling after the shortcut's convolution, as SNGAN has it."""
    critic = sngan.init_critic(jax.random.key(2), (side, side, 2), 0.03)
    pairs = jnp.asarray(rng.uniform(-1, 1, (2, side, side, 2)), jnp.float32)
    assert [("shortcut" in block) for block in critic["blocks"]] == [True, side == 32, False, False]

    def conv(images, params):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = lax.conv_general_dilated(images, params["kernel"], (1, 1), "SAME", dimension_numbers=numbers)
        return out + params["bias"][None, None, None]

    def half(images):
        return (images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4

    def plain(pairs):
        first, *others = critic["blocks"]
        images = half(conv(jax.nn.relu(conv(pairs, first["conv1"])), first["conv2"]))
        images = images + half(conv(pairs, first["shortcut"]))
        for block in others:
            changed = conv(jax.nn.relu(conv(jax.nn.relu(images), block["conv1"])), block["conv2"])
            if "shortcut" in block:
                images, changed = half(conv(images, block["shortcut"])), half(changed)
            images = images + changed
        return jax.nn.relu(images).sum((1, 2)) @ critic["dense"]["kernel"][:, 0]

    ours, theirs = jax.jit(lambda p: (sngan.judge(critic, p).values, plain(p)))(pairs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
