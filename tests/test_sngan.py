"""AMA's networks: sizes and widths, against library convolutions, and what batch normalisation may and may not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxad.methods.ama.networks import make_networks, next_size


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(side, channels, latent_dim, width=1.0, pair_channels=None):
    """Shapes of the params of the three networks."""
    networks = make_networks((side, side, channels), latent_dim, width)
    inputs = {
        "encoder": jnp.zeros((1, side, side, channels)),
        "generator": jnp.zeros((1, latent_dim)),
        "critic": jnp.zeros((1, side, side, pair_channels or 2 * channels)),
    }
    init = {name: jax.eval_shape(getattr(networks, name).init, jax.random.key(0), x) for name, x in inputs.items()}
    return {name: variables["params"] for name, variables in init.items()}


def test_numbers_of_weights_are_those_of_the_authors_networks():
    """At 32x32x3 with d = 128, layer by layer."""
    params = shapes(32, 3, 128)
    assert count(params["encoder"]) == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128) + 2 * (64 + 128 + 256)
    block = 2 * 9 * 256 * 256 + 256 * 256 + 4 * 256  # and three biases of 256 that normalisation cancels
    assert count(params["generator"]) == 129 * 16 * 256 + 3 * block + 2 * 256 + 9 * 256 * 3 + 3
    wide = 9 * 128 * 128 + 128
    first = 9 * 6 * 128 + 128 + wide + 6 * 128 + 128
    assert count(params["critic"]) == first + 2 * wide + 128 * 128 + 128 + 4 * wide + 128


@pytest.mark.parametrize(("side", "halving", "blocks"), [(8, 1, 4), (16, 1, 4), (32, 2, 4), (64, 3, 5)])
def test_other_sizes_keep_the_form(side, halving, blocks):
    critic = [block for name, block in shapes(side, 1, 7, 0.1)["critic"].items() if name.startswith("block")]
    assert len(critic) == blocks
    assert sum("shortcut" in block for block in critic) == halving
    networks = make_networks((side, side, 1), 7, 0.1)

    def through(key, images):
        encoder, generator = jax.random.split(key)
        codes, _ = networks.encoder.apply(networks.encoder.init(encoder, images), images, train=True)
        rebuilt, _ = networks.generator.apply(networks.generator.init(generator, codes), codes, train=True)
        return codes, rebuilt

    codes, rebuilt = jax.eval_shape(through, jax.random.key(0), jnp.zeros((2, side, side, 1)))
    assert codes.shape == (2, 7)
    assert rebuilt.shape == (2, side, side, 1)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 16, 3), (4, 4, 1), (30, 30, 1)])
def test_other_shapes_are_refused_with_the_remedy(shape):
    with pytest.raises(ValueError, match="resize to"):
        make_networks(shape, 8).encoder.init(jax.random.key(0), jnp.zeros((1, *shape)))


def test_next_size():
    assert [next_size(n) for n in (1, 8, 9, 16, 28, 32, 33, 64)] == [8, 8, 16, 16, 32, 32, 64, 64]


NETWORKS = make_networks((8, 8, 1), 6, 0.05)


def test_generated_images_are_in_range_and_frozen_statistics_repeat_the_batch(rng):
    images = jnp.asarray(rng.uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)
    encoder = jax.jit(NETWORKS.encoder.init)(jax.random.key(0), images)
    generator = jax.jit(NETWORKS.generator.init)(jax.random.key(1), jnp.zeros((1, 6)))

    def batch_only(before, after):
        """Statistics of the batch itself, from running averages before and after it."""
        return after | {
            "batch_stats": jax.tree.map(
                lambda old, new: (new - 0.9 * old) / 0.1, before["batch_stats"], after["batch_stats"]
            )
        }

    def both(images):
        codes, seen = NETWORKS.encoder.apply(encoder, images, train=True)
        rebuilt, met = NETWORKS.generator.apply(generator, codes, train=True)
        frozen = NETWORKS.encoder.apply(batch_only(encoder, seen), images)
        again = NETWORKS.generator.apply(batch_only(generator, met), codes)
        return codes, rebuilt, frozen, again

    codes, rebuilt, frozen_codes, frozen_rebuilt = jax.jit(both)(images)
    assert len(encoder["batch_stats"]) == 1
    assert {name: len(leaf) for name, leaf in generator["batch_stats"].items()} == {"block0": 2, "norm": 2}
    assert np.abs(rebuilt).max() <= 1
    np.testing.assert_allclose(frozen_codes, codes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frozen_rebuilt, rebuilt, rtol=1e-4, atol=1e-5)


def test_the_critic_judges_each_pair_by_itself_and_values_are_linear_in_features(rng):
    pairs = jnp.asarray(rng.uniform(-1, 1, (4, 8, 8, 2)), jnp.float32)
    critic = jax.jit(NETWORKS.critic.init)(jax.random.key(2), pairs)
    judge = jax.jit(lambda pairs: NETWORKS.critic.apply(critic, pairs))
    together = judge(pairs)
    alone = judge(jnp.concatenate([pairs[:1], 9 * pairs[1:]]))
    np.testing.assert_allclose(alone.values[0], together.values[0], rtol=1e-5)
    kernel = critic["params"]["dense"]["kernel"]
    np.testing.assert_allclose(together.features @ kernel[:, 0], together.values, rtol=1e-4)
    assert (np.asarray(together.features) >= 0).all()


@pytest.mark.parametrize("side", [8, 32])
def test_the_critic_equals_a_plain_restatement(side, rng):
    """With library convolutions and pooling after the shortcut's convolution, as SNGAN has it."""
    network = make_networks((side, side, 1), 6, 0.03).critic
    pairs = jnp.asarray(rng.uniform(-1, 1, (2, side, side, 2)), jnp.float32)
    critic = jax.jit(network.init)(jax.random.key(2), pairs)["params"]
    blocks = [critic[f"block{index}"] for index in range(4)]
    assert [("shortcut" in block) for block in blocks] == [True, side == 32, False, False]

    def conv(images, params):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = lax.conv_general_dilated(images, params["kernel"], (1, 1), "SAME", dimension_numbers=numbers)
        return out + params["bias"][None, None, None]

    def half(images):
        return (images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4

    def plain(pairs):
        first, *others = blocks
        images = half(conv(jax.nn.relu(conv(pairs, first["conv1"])), first["conv2"]))
        images = images + half(conv(pairs, first["shortcut"]))
        for block in others:
            changed = conv(jax.nn.relu(conv(jax.nn.relu(images), block["conv1"])), block["conv2"])
            if "shortcut" in block:
                images, changed = half(conv(images, block["shortcut"])), half(changed)
            images = images + changed
        return jax.nn.relu(images).sum((1, 2)) @ critic["dense"]["kernel"][:, 0]

    ours, theirs = jax.jit(lambda p: (network.apply({"params": critic}, p).values, plain(p)))(pairs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
