"""GANomaly's networks: sizes and widths, values as PyTorch's layers give them, images judged with given statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.agad.dcgan import Autoencoder, Discriminator, Encoder
from jaxad.nn.network import make_network


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(module, shape):
    """Those of all variables of a module for images [H, W, C]."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(make_network(module).init, jax.random.key(0), images)


def test_numbers_of_weights_layer_by_layer():
    """Of colour images 2.04 * 2^20, what Table 8 of AGAD calls 2.04M."""
    for channels, total in ((1, 2_133_632), (3, 2_137_728)):
        halving = 16 * (channels * 64 + 64 * 128 + 128 * 256)
        encoder = halving + 16 * 256 * 100 + 2 * (128 + 256)
        decoder = halving + 16 * 256 * 100 + 2 * (256 + 128 + 64)
        generator = shapes(Autoencoder(), (32, 32, channels))["params"]
        assert count(generator) == encoder + decoder == total
        assert count(shapes(Encoder(), (32, 32, channels))["params"]) == encoder
        assert count(shapes(Discriminator(), (32, 32, channels))["params"]) == encoder + 100
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
    generator = make_network(Autoencoder(latent_dim=7))
    variables = shapes(Autoencoder(latent_dim=7), shape)
    encoder = variables["params"]["encoder"]
    assert tuple(encoder[f"conv{level}"]["kernel"].shape[3] for level in range(len(widths))) == widths
    assert encoder["codes"]["kernel"].shape == (*sides, widths[-1], 7)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    made = jax.eval_shape(generator.apply, variables, images)
    assert made.images.shape == (2, *shape)
    assert made.codes.shape == (2, 7)
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * (2 * len(widths) - 1)
    outputs = jax.eval_shape(make_network(Discriminator()).apply, shapes(Discriminator(), shape), images)
    assert (outputs.logits.shape, outputs.latent.shape) == ((2,), (2, 100))
    assert outputs.features.shape == (2, *sides, widths[-1])


@pytest.mark.parametrize("shape", [(30, 30, 1), (4, 4, 1), (7, 8, 1)])
def test_other_shapes_are_refused_with_the_remedy(shape):
    with pytest.raises(ValueError, match="resize to"):
        shapes(Autoencoder(), shape)


GENERATOR, DISCRIMINATOR = (
    make_network(module(latent_dim=d, multiplier=0.1, momentum=0.0))
    for module, d in ((Autoencoder, 6), (Discriminator, 5))
)


@pytest.fixture(scope="module")
def networks():
    def init(key):
        first, second = jax.random.split(key)
        images = jax.ShapeDtypeStruct((1, 16, 16, 2), jnp.float32)
        return GENERATOR.init(first, images), DISCRIMINATOR.init(second, images)

    return jax.jit(init)(jax.random.key(0))


def both(generator, discriminator, images):
    return GENERATOR.apply(generator, images, train=True), DISCRIMINATOR.apply(discriminator, images, train=True)


def test_values_equal_a_restatement_in_pytorch(rng, networks):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    variables = jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32), networks)
    generator, discriminator = (v["params"] for v in variables)
    images = rng.uniform(-1, 1, (4, 16, 16, 2)).astype(np.float32)

    def tensor(leaf, *axes):
        return torch.tensor(np.asarray(leaf)).permute(*axes)

    def norm(x, params, slope):
        x = functional.batch_norm(
            x, None, None, *(torch.tensor(np.asarray(params[n])) for n in ("scale", "bias")), True
        )
        return functional.leaky_relu(x, slope)

    def encode(params, x):
        for level in (0, 1):
            x = functional.conv2d(x, tensor(params[f"conv{level}"]["kernel"], 3, 2, 0, 1), stride=2, padding=1)
            x = norm(x, params["norm1"], 0.2) if level else functional.leaky_relu(x, 0.2)
        return functional.conv2d(x, tensor(params["codes"]["kernel"], 3, 2, 0, 1))

    x = torch.tensor(images.transpose(0, 3, 1, 2))
    codes = encode(generator["encoder"], x)
    decoder = generator["decoder"]
    dense = tensor(decoder["dense"]["kernel"].reshape(6, 4, 4, -1), 0, 3, 1, 2)
    made = norm(functional.conv_transpose2d(codes, dense), decoder["norm"], 0.0)
    for level in (0, 1):
        # Flax stores the kernel of a transposed convolution turned by 180 degrees.
        kernel = tensor(decoder[f"conv{level}"]["kernel"][::-1, ::-1], 2, 3, 0, 1)
        made = functional.conv_transpose2d(made, kernel, stride=2, padding=1)
        made = torch.tanh(made) if level else norm(made, decoder["norm0"], 0.0)
    latent = encode(discriminator["encoder"], x)
    logits = latent.flatten(1) @ tensor(discriminator["logit"]["kernel"], 0, 1)

    (ours, _), (outputs, _) = jax.jit(both)(*variables, images)
    np.testing.assert_allclose(ours.codes, codes.flatten(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.images, made.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs.latent, latent.flatten(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs.logits, logits[:, 0], rtol=1e-3, atol=1e-4)


def test_frozen_moments_repeat_the_batch_and_judge_each_image_by_itself(rng, networks):
    images = jnp.asarray(rng.uniform(-1, 1, (6, 16, 16, 2)), jnp.float32)

    def again(generator, discriminator, images):
        (made, seen), (outputs, judged) = both(generator, discriminator, images)
        return made, outputs, GENERATOR.apply(seen, images), DISCRIMINATOR.apply(judged, images[:1])

    made, outputs, frozen, alone = jax.jit(again)(*networks, images)
    np.testing.assert_allclose(frozen.images, made.images, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(alone.logits[0], outputs.logits[0], rtol=1e-3, atol=1e-5)
    assert np.abs(made.images).max() <= 1
