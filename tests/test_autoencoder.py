"""The autoencoder of Eq. 2 against a plain NumPy one, layer by layer and pixel by pixel."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxad.nas.space import SearchSpace
from jaxad.nn import autoencoder
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.cost import parameter_count
from jaxad.nn.layers import ACTIVATIONS, NORMS, POOLS, Moments

SHAPE = (9, 7, 2)
LAYERS = (
    Layer(channels=3, kernel=3, pool="max", pool_kernel=3, norm="batch", activation="elu"),
    Layer(channels=5, kernel=7, pool="average", pool_kernel=5, norm="none", activation="sigmoid"),
)
TWO = Architecture(hypothesis="centroid", distance="l2", layers=LAYERS)
FIRST, SECOND = LAYERS


def random_params(rng, architecture, shape=SHAPE):
    """As `init` shapes them, but with no value that a forgotten scale or offset would leave unchanged."""
    shapes = jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), architecture, shape))
    return jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape).astype(np.float32), shapes)


# ---- the oracle: float64, one loop per sum -----------------------------------------------------------------------


def numpy_conv(images, kernel):
    taps, radius = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(images, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
    height, width = images.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(float) for i in range(taps) for j in range(taps)
    )


def numpy_pool(images, kind, size):
    reduce = {"max": np.max, "average": np.mean}[kind]
    rows = range(0, images.shape[1], size)
    columns = range(0, images.shape[2], size)
    return np.stack(
        [np.stack([reduce(images[:, r : r + size, c : c + size], axis=(1, 2)) for c in columns], 1) for r in rows], 1
    )


def numpy_finish(images, layer, weights):
    if layer.norm != "none":
        axes = {"batch": (0, 1, 2), "instance": (1, 2)}[layer.norm]
        if layer.norm == "batch" or images.shape[1] * images.shape[2] > 1:
            centred = images - images.mean(axes, keepdims=True)
            images = centred / np.sqrt(images.var(axes, keepdims=True) + 1e-5)
        images = images * weights["scale"]
    images = images + weights["offset"]
    activations = {"elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "sigmoid": expit, "tanh": np.tanh}
    return activations[layer.activation](images)


def numpy_autoencoder(params, layers, images):
    images, sizes = images.astype(float), []
    for layer, weights in zip(layers, params["encoder"]):
        sizes.append(images.shape[1:3])
        images = numpy_pool(numpy_conv(images, weights["kernel"]), layer.pool, layer.pool_kernel)
        images = numpy_finish(images, layer, weights)
    latent = images.mean((1, 2)) @ params["projection"]["kernel"] + params["projection"]["bias"]
    for layer, weights, (height, width) in reversed(list(zip(layers, params["decoder"], sizes))):
        images = numpy_conv(images, weights["kernel"])
        images = numpy_finish(images, layer, weights)
        images = images.repeat(layer.pool_kernel, 1).repeat(layer.pool_kernel, 2)[:, :height, :width]
    return images, latent


# ---- tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers",
    [
        LAYERS,
        (
            dataclasses.replace(FIRST, pool_kernel=1, norm="instance", activation="tanh"),
            dataclasses.replace(SECOND, kernel=5, pool_kernel=3, pool="max", norm="batch"),
        ),
        (dataclasses.replace(SECOND, pool_kernel=7, norm="batch"), dataclasses.replace(FIRST, norm="instance")),
    ],
)
def test_it_equals_a_numpy_autoencoder(rng, layers):
    params = random_params(rng, dataclasses.replace(TWO, layers=layers))
    images = rng.random((4, *SHAPE), dtype=np.float32)
    reconstruction, latent = numpy_autoencoder(params, layers, images)
    output = jax.jit(lambda params, images: autoencoder.apply(params, layers, images))(params, images)
    assert output.reconstruction.shape == images.shape
    np.testing.assert_allclose(output.reconstruction, reconstruction, atol=1e-4)
    np.testing.assert_allclose(output.latent, latent, atol=1e-4)


def test_a_latent_of_one_pixel_reaches_the_reconstruction(rng):
    """Instance normalisation after upsampling would erase it: a fifth of the paper's space would be dead."""
    layers = (dataclasses.replace(FIRST, pool_kernel=7), dataclasses.replace(SECOND, pool_kernel=7, norm="instance"))
    params = random_params(rng, dataclasses.replace(TWO, layers=layers))
    images = rng.random((2, *SHAPE), dtype=np.float32)
    first, second = jax.jit(lambda p, x: autoencoder.apply(p, layers, x).reconstruction)(params, images)
    assert np.abs(first - second).max() > 1e-3


def test_choices_as_numbers_equal_choices_by_name(rng):
    """Pool, normalisation and activation may be known at run time only; scales then exist but may be unused."""

    @dataclasses.dataclass
    class RunTime:
        pool_kernel: int
        pool: jax.Array
        norm: jax.Array
        activation: jax.Array
        extra: tuple = ()

    params = random_params(rng, TWO)
    images = rng.random((4, *SHAPE), dtype=np.float32)
    for role in ("encoder", "decoder"):
        params[role][1] = params[role][1] | {"scale": 7 * np.ones_like(params[role][1]["offset"])}

    @jax.jit
    def run(params, images, choices):
        layers = [RunTime(layer.pool_kernel, *choice) for layer, choice in zip(LAYERS, choices)]
        return autoencoder.apply(params, layers, images)[:2]

    choices = [
        tuple(jnp.int32(list(t).index(v)) for t, v in ((POOLS, x.pool), (NORMS, x.norm), (ACTIVATIONS, x.activation)))
        for x in LAYERS
    ]
    expected = numpy_autoencoder(params, LAYERS, images)
    for got, want in zip(run(params, images, choices), expected):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_frozen_moments_make_images_independent_of_their_batch(rng):
    layers = tuple(dataclasses.replace(layer, norm="batch") for layer in LAYERS)
    params = random_params(rng, dataclasses.replace(TWO, layers=layers))
    images = rng.random((4, *SHAPE), dtype=np.float32)

    @jax.jit
    def run(params, images, moments=None):
        return autoencoder.apply(params, layers, images, moments=moments)

    own = run(params, images)
    assert len(own.moments) == 4  # two layers, there and back
    assert all(isinstance(moments, Moments) for moments in own.moments)
    frozen = run(params, images, own.moments)
    assert frozen.moments == ()
    np.testing.assert_allclose(frozen.reconstruction, own.reconstruction, atol=1e-5)
    np.testing.assert_allclose(frozen.latent, own.latent, atol=1e-5)
    alone = run(params, images[:1], own.moments)
    np.testing.assert_allclose(alone.reconstruction, own.reconstruction[:1], atol=1e-5)
    assert np.abs(run(params, images[:1]).reconstruction - own.reconstruction[:1]).max() > 1e-2


def test_the_latent_alone_is_the_same(rng):
    params, images = random_params(rng, TWO), rng.random((4, *SHAPE), dtype=np.float32)
    output = jax.jit(lambda p, x: autoencoder.apply(p, LAYERS, x, with_decoder=False))(params, images)
    np.testing.assert_allclose(output.latent, numpy_autoencoder(params, LAYERS, images)[1], atol=1e-4)
    assert len(output.moments) == 1


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 7, 2), (32, 32, 3)])
def test_parameter_count_counts_what_init_makes(shape):
    space = SearchSpace()
    for tokens in np.asarray(space.sample(jax.random.key(5), 20)):
        architecture = space.to_architecture(tokens)
        made = jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), architecture, shape))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(made)) == parameter_count(architecture, shape)


def test_fresh_weights_keep_the_variance_and_differ_everywhere():
    wide = dataclasses.replace(TWO, layers=(dataclasses.replace(FIRST, channels=64, kernel=5),))
    params = autoencoder.init(jax.random.key(1), wide, (9, 7, 64))
    (encoder,), (decoder,) = params["encoder"], params["decoder"]
    for kernel in (encoder["kernel"], decoder["kernel"], params["projection"]["kernel"]):
        deviation = np.sqrt(1 / np.prod(kernel.shape[:-1]))
        np.testing.assert_allclose(np.std(kernel), deviation, rtol=0.1)  # of 640 values: 4 standard errors
    assert np.abs(encoder["kernel"] - decoder["kernel"]).max() > 0.01
    for weights in (encoder, decoder):
        np.testing.assert_array_equal(weights["scale"], 1)
        np.testing.assert_array_equal(weights["offset"], 0)


def test_sizes_are_what_the_layers_receive():
    assert autoencoder.sizes_of(LAYERS, 9, 7) == [(9, 7), (3, 3)]
    assert autoencoder.sizes_of([FIRST] * 4, 28, 10) == [(28, 10), (10, 4), (4, 2), (2, 1)]


def test_shapes_are_checked(rng):
    with pytest.raises(AssertionError):
        autoencoder.apply(random_params(rng, TWO), LAYERS, np.zeros(SHAPE, np.float32))
