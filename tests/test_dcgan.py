"""GANomaly's networks: sizes and widths, values as PyTorch's layers give them, images judged with given statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn import dcgan


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(function, *arguments):
    return jax.eval_shape(lambda key: function(key, *arguments), jax.random.key(0))


def test_numbers_of_weights_layer_by_layer():
    """Of colour images 2.04 * 2^20, what Table 8 of AGAD calls 2.04M."""
    for channels, total in ((1, 2_133_632), (3, 2_137_728)):
        halving = 16 * (channels * 64 + 64 * 128 + 128 * 256)
        encoder = halving + 16 * 256 * 100 + 2 * (128 + 256)
        decoder = halving + 16 * 256 * 100 + 2 * (256 + 128 + 64)
        generator = shapes(dcgan.init_autoencoder, (32, 32, channels))
        assert count(generator) == encoder + decoder == total
        assert count(shapes(dcgan.init_encoder, (32, 32, channels))) == encoder
        assert count(shapes(dcgan.init_discriminator, (32, 32, channels))) == encoder + 100
    assert round(total / 2**20, 2) == 2.04


@pytest.mark.parametrize(
    ("shape", "widths", "sides"),
    [
        ((8, 8, 1), (64,), (4, 4)),
        ((28, 28, 1), (64, 128), (7, 7)),
        ((32, 64, 3), (64, 128, 256), (4, 8)),
        ((128, 128, 2), (64, 128, 256, 512, 1024), (4, 4)),
    ],
)
def test_other_sizes_keep_the_form(shape, widths, sides):
    params = shapes(dcgan.init_autoencoder, shape, 7)
    assert tuple(block["kernel"].shape[3] for block in params["encoder"]["blocks"]) == widths
    assert params["encoder"]["dense"]["kernel"].shape == (*sides, widths[-1], 7)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    made = jax.eval_shape(dcgan.autoencode, params, images)
    assert made.output.shape == (2, *shape)
    assert made.codes.shape == (2, 7)
    assert len(made.moments) == 2 * len(widths) - 1
    judged = jax.eval_shape(dcgan.discriminate, shapes(dcgan.init_discriminator, shape), images)
    assert (judged.logits.shape, judged.latent.shape) == ((2,), (2, 100))
    assert judged.features.shape == (2, *sides, widths[-1])


@pytest.mark.parametrize("shape", [(30, 30, 1), (4, 4, 1), (7, 8, 1)])
def test_other_shapes_are_refused_with_the_remedy(shape):
    with pytest.raises(ValueError, match="resize to"):
        dcgan.init_autoencoder(jax.random.key(0), shape)


@pytest.fixture(scope="module")
def networks():
    def init(key):
        first, second = jax.random.split(key)
        generator = dcgan.init_autoencoder(first, (16, 16, 2), 6, 0.1)
        return generator, dcgan.init_discriminator(second, (16, 16, 2), 5, 0.1)

    return jax.jit(init)(jax.random.key(0))


def test_values_equal_a_restatement_in_pytorch(rng, networks):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    generator, discriminator = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), networks
    )
    images = rng.uniform(-1, 1, (4, 16, 16, 2)).astype(np.float32)

    def tensor(leaf, *axes):
        return torch.tensor(np.asarray(leaf)).permute(*axes)

    def norm(x, params, slope):
        x = functional.batch_norm(
            x, None, None, *(torch.tensor(np.asarray(params[n])) for n in ("scale", "offset")), True
        )
        return functional.leaky_relu(x, slope)

    def encode(params, x):
        for block in params["blocks"]:
            x = functional.conv2d(x, tensor(block["kernel"], 3, 2, 0, 1), stride=2, padding=1)
            x = norm(x, block["norm"], 0.2) if "norm" in block else functional.leaky_relu(x, 0.2)
        return functional.conv2d(x, tensor(params["dense"]["kernel"], 3, 2, 0, 1))

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    codes = encode(generator["encoder"], x)
    decoder = generator["decoder"]
    made = functional.conv_transpose2d(codes, tensor(decoder["dense"]["kernel"], 3, 2, 0, 1))
    made = norm(made, decoder["norm"], 0.0)
    for block in decoder["blocks"]:
        made = functional.conv_transpose2d(made, tensor(block["kernel"], 2, 3, 0, 1), stride=2, padding=1)
        made = norm(made, block["norm"], 0.0) if "norm" in block else torch.tanh(made)
    latent = encode(discriminator["encoder"], x)
    logits = latent.flatten(1) @ tensor(discriminator["logit"]["kernel"], 0, 1)

    ours, judged = jax.jit(lambda g, d: (dcgan.autoencode(g, images), dcgan.discriminate(d, images)))(
        generator, discriminator
    )
    np.testing.assert_allclose(ours.codes, codes.flatten(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.output, made.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(judged.latent, latent.flatten(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(judged.logits, logits[:, 0], rtol=1e-3, atol=1e-4)


def test_frozen_moments_repeat_the_batch_and_judge_each_image_by_itself(rng, networks):
    generator, discriminator = networks
    images = jnp.asarray(rng.uniform(-1, 1, (6, 16, 16, 2)), jnp.float32)

    def both(images):
        made, judged = dcgan.autoencode(generator, images), dcgan.discriminate(discriminator, images)
        frozen = dcgan.autoencode(generator, images, made.moments)
        alone = dcgan.discriminate(discriminator, images[:1], judged.moments)
        return made, judged, frozen, alone

    made, judged, frozen, alone = jax.jit(both)(images)
    np.testing.assert_allclose(frozen.output, made.output, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(alone.logits[0], judged.logits[0], rtol=1e-3, atol=1e-5)
    assert np.abs(made.output).max() <= 1
