"""Layers against plain NumPy loops, and their hand-written gradients against autodiff of naive formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.special import expit

from jaxad._utils.compile import accepts
from jaxad.nn import layers as nn

REDUCE = {"max": np.max, "average": np.mean}


def images_of(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def pull(function, *inputs):
    """Value, and gradients under a fixed cotangent that weighs every output differently."""
    value, back = jax.vjp(function, *inputs)
    return value, *back(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))


def vjp(function, *inputs):
    return jax.jit(partial(pull, function))(*inputs)


def assert_close(got, expected, atol=2e-5):
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, atol=atol)


def test_the_order_of_names_is_that_of_the_tokens():
    assert nn.POOLS.standard == ("max", "average")
    assert nn.NORMS.standard == ("none", "batch", "instance")
    assert nn.ACTIVATIONS.standard[:4] == ("sigmoid", "tanh", "relu", "linear")
    assert nn.ACTIVATIONS.standard[4:] == ("softplus", "leaky_relu", "relu6", "elu")


# ---- POOL and UPPOOL -------------------------------------------------------------------------------------------


def oracle_pool(images, kind, size):
    batch, height, width, channels = images.shape
    pooled = np.zeros((batch, -(-height // size), -(-width // size), channels))
    for b, row, column, c in np.ndindex(pooled.shape):
        window = images[b, row * size : (row + 1) * size, column * size : (column + 1) * size, c]
        pooled[b, row, column, c] = REDUCE[kind](window.astype(np.float64))
    return pooled


def naive_pool(images, kind, size):
    """One reduction per window, written window by window; autodiff of it is beyond doubt."""
    rows = [
        jnp.stack(
            [
                getattr(jnp, {"max": "max", "average": "mean"}[kind])(
                    images[:, row : row + size, column : column + size], axis=(1, 2)
                )
                for column in range(0, images.shape[2], size)
            ],
            axis=1,
        )
        for row in range(0, images.shape[1], size)
    ]
    return jnp.stack(rows, axis=1)


@pytest.mark.parametrize("kind", nn.POOLS)
@pytest.mark.parametrize(("height", "width", "size"), [(7, 5, 3), (4, 4, 7), (1, 1, 3), (6, 11, 5), (6, 3, 3)])
def test_pooling_equals_loops_and_autodiff(rng, kind, height, width, size):
    """Whole and partial windows; windows larger than the image; negative pixels."""
    images = images_of(rng, 2, height, width, 3) - 5  # padding with 0 would win every maximum
    pools = [lambda images, pool=pool: pool(images, kind, size) for pool in (nn.pool, naive_pool)]
    (value, gradient), naive = jax.jit(lambda images: [pull(pool, images) for pool in pools])(images)
    np.testing.assert_allclose(value, oracle_pool(images, kind, size), rtol=1e-6)
    assert_close((value, gradient), naive)


@pytest.mark.parametrize("kind", nn.POOLS)
def test_pooling_by_one_is_the_identity(rng, kind):
    images = images_of(rng, 2, 3, 4, 1)
    assert nn.pool(images, kind, 1) is images
    assert nn.upsample(images, 1, 3, 4) is images


@pytest.mark.parametrize("size", [3, 5])
def test_of_tied_pixels_one_has_the_gradient(rng, size):
    images = np.round(images_of(rng, 2, 7, 6, 3))
    value, gradient = vjp(lambda images: nn.pool(images, "max", size), images)
    cotangent = np.cos(np.arange(value.size)).reshape(value.shape)
    for row in range(0, 7, size):
        for column in range(0, 6, size):
            window, received = (x[:, row : row + size, column : column + size] for x in (images, gradient))
            best, sent = (x[:, row // size, column // size, :] for x in (value, cotangent))
            assert (np.count_nonzero(received, (1, 2)) == 1).all()
            np.testing.assert_allclose(received.sum((1, 2)), sent, rtol=1e-6)
            np.testing.assert_array_equal(np.where(received, window, -np.inf).max((1, 2)), best)


OPTIONS = {
    "XLA's own": {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True},
    "of kernels": {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": False},
    "quick": {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
}


@pytest.mark.parametrize(
    "options",
    [pytest.param(o, id=name, marks=[pytest.mark.slow] * (name == "XLA's own")) for name, o in OPTIONS.items()],
)
@pytest.mark.parametrize(("kind", "size"), [("batch", 3), ("instance", 5)])
def test_a_maximum_has_its_gradient_where_a_compiler_computes_pixels_twice(rng, options, kind, size):
    """What is pooled is computed anew in every loop that reads it, and rounded differently in each."""

    def loss(images, kernel):
        pixels = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        pooled = nn.pool(1.3 * nn.normalise(pixels, kind) + 0.1, "max", size)
        return jnp.sum(pooled * jnp.cos(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape))

    gradient = jax.grad(loss, (0, 1))
    known = {name: value for name, value in options.items() if accepts(name, value)}
    compiled = jax.jit(gradient, compiler_options=known)
    for _ in range(8):
        operands = images_of(rng, 4, 9, 7, 3), images_of(rng, 3, 3, 3, 5)
        assert_close(compiled(*operands), gradient(*operands), atol=2e-3)


@pytest.mark.parametrize(
    ("rows", "columns", "size", "height", "width"), [(3, 2, 3, 7, 5), (1, 1, 7, 4, 6), (2, 3, 5, 10, 11)]
)
def test_upsampling_repeats_pixels_and_crops(rng, rows, columns, size, height, width):
    images = images_of(rng, 2, rows, columns, 3)
    value, gradient = vjp(lambda images: nn.upsample(images, size, height, width), images)
    expected, summed = np.zeros((2, height, width, 3)), np.zeros(images.shape)
    cotangent = np.cos(np.arange(expected.size)).reshape(expected.shape)
    for row in range(height):
        for column in range(width):
            expected[:, row, column] = images[:, row // size, column // size]
            summed[:, row // size, column // size] += cotangent[:, row, column]
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(gradient, summed, atol=1e-5)


def test_upsampling_mirrors_pooling(rng):
    """Pooling what was upsampled gives it back, whatever the image size."""
    images = images_of(rng, 1, 3, 2, 2)
    for kind in nn.POOLS:
        np.testing.assert_allclose(nn.pool(nn.upsample(images, 3, 8, 5), kind, 3), images, rtol=1e-6)


# ---- NORMA -----------------------------------------------------------------------------------------------------

AXES = {"batch": (0, 1, 2), "instance": (1, 2)}


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (4, 1, 2, 3)])
def test_normalisation_equals_numpy_and_autodiff(rng, kind, shape):
    images = 3 + 2 * images_of(rng, *shape)

    def naive(images):
        mean = jnp.mean(images, AXES[kind], keepdims=True)
        variance = jnp.mean(jnp.square(images - mean), AXES[kind], keepdims=True)
        return (images - mean) / jnp.sqrt(variance + nn.NORM_EPSILON)

    value, gradient = vjp(lambda images: nn.normalise(images, kind), images)
    exact = images.astype(np.float64)
    expected = (exact - exact.mean(AXES[kind], keepdims=True)) / np.sqrt(exact.var(AXES[kind], keepdims=True) + 1e-5)
    np.testing.assert_allclose(value, expected, atol=2e-5)
    assert_close((value, gradient), vjp(naive, images), atol=1e-4)


def test_normalisation_may_be_none(rng):
    images = images_of(rng, 2, 3, 3, 1)
    assert nn.normalise(images, "none") is images


def test_instance_normalisation_keeps_a_single_pixel(rng):
    images = images_of(rng, 4, 1, 1, 3)
    value, gradient = vjp(lambda images: nn.normalise(images, "instance"), images)
    np.testing.assert_array_equal(value, images)
    assert np.abs(gradient).min() > 0
    assert np.abs(nn.normalise(images, "batch") - images).max() > 0.1  # which this exception is not for


def test_constant_channels_become_zero_and_their_gradient_stays_finite():
    images = np.full((2, 3, 3, 2), 0.7, np.float32)
    for kind in AXES:
        value, gradient = vjp(lambda images: nn.normalise(images, kind), images)  # noqa: B023
        np.testing.assert_allclose(value, 0, atol=1e-4)
        assert np.isfinite(gradient).all()


def test_frozen_moments_replace_those_of_the_batch(rng):
    images, other = 2 * images_of(rng, 3, 4, 4, 2) + 1, images_of(rng, 3, 4, 4, 2)
    moments = nn.batch_moments(images)
    np.testing.assert_allclose(moments.mean, images.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(moments.variance, images.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(nn.normalise(images, "batch", moments), nn.normalise(images, "batch"), atol=1e-5)
    expected = (other - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(nn.normalise(other, "batch", moments), expected, atol=1e-5)
    # One image alone is normalised as in company.
    alone = nn.normalise(other[:1], "batch", moments)
    np.testing.assert_allclose(alone, expected[:1], atol=1e-5)


# ---- ACT -------------------------------------------------------------------------------------------------------

ORACLES = {
    "sigmoid": expit,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "softplus": lambda x: np.logaddexp(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_activations_with_scale_and_offset_equal_numpy(rng, kind):
    images, scale, offset = 3 * images_of(rng, 2, 3, 4, 5), 2 + images_of(rng, 5), images_of(rng, 5)

    @jax.jit
    def both(images, scale, offset):
        return nn.activate(images, kind, scale, offset), nn.activate(images, kind, None, offset)

    scaled, shifted = both(images, scale, offset)
    np.testing.assert_allclose(scaled, ORACLES[kind](np.float64(images) * scale + offset), atol=1e-5)
    np.testing.assert_allclose(shifted, ORACLES[kind](np.float64(images) + offset), atol=1e-5)


def test_gradients_of_scale_and_offset_equal_autodiff(rng):
    images, scale, offset = images_of(rng, 2, 3, 4, 5), images_of(rng, 5), images_of(rng, 5)

    def naive(images, scale, offset):
        return jnp.tanh(images * scale[None, None, None] + offset[None, None, None])

    assert_close(
        vjp(lambda *operands: nn.activate(operands[0], "tanh", *operands[1:]), images, scale, offset),
        vjp(naive, images, scale, offset),
    )
    assert_close(
        vjp(lambda images, offset: nn.activate(images, "tanh", None, offset), images, offset),
        vjp(lambda images, offset: naive(images, jnp.ones(5), offset), images, offset),
    )


# ---- run-time choices --------------------------------------------------------------------------------------------


def test_integer_choices_equal_named_ones(rng):
    """One program for all options of a table, as children of equal shape need it."""
    images, scale, offset = 5 * images_of(rng, 2, 4, 5, 3), images_of(rng, 3), images_of(rng, 3)
    tables = {
        "pool": (nn.POOLS, lambda kind, images: nn.pool(images, kind, 3)),
        "norm": (nn.NORMS, lambda kind, images: nn.normalise(images, kind)),
        "activation": (nn.ACTIVATIONS, lambda kind, images: nn.activate(images, kind, scale, offset)),
    }

    @jax.jit
    def by_name(images):
        return {role: [pull(partial(layer, name), images) for name in table] for role, (table, layer) in tables.items()}

    @jax.jit
    def by_index(images, index):
        return {role: pull(partial(layer, index), images) for role, (_, layer) in tables.items()}

    named = by_name(images)
    for index in range(8):
        chosen = by_index(images, jnp.int32(index))
        for role in tables:
            if index < len(named[role]):
                assert_close(chosen[role], named[role][index], atol=1e-5)
    for results in named.values():
        assert len({np.asarray(value).tobytes() for value, _ in results}) == len(results)


# ---- latent vector -----------------------------------------------------------------------------------------------


def test_projection_is_a_linear_map_of_channel_means(rng):
    images, kernel = images_of(rng, 3, 4, 5, 6), images_of(rng, 6, 10)
    value, *gradients = vjp(nn.project, images, kernel)
    np.testing.assert_allclose(value, np.float64(images).mean((1, 2)) @ kernel, atol=1e-5)
    naive = vjp(lambda images, kernel: jnp.mean(images, (1, 2)) @ kernel, images, kernel)
    assert_close((value, *gradients), naive)


def test_shapes_are_checked(rng):
    images = images_of(rng, 3, 4, 5)
    for call in (
        lambda: nn.pool(images, "max", 3),
        lambda: nn.upsample(images, 3, 6, 6),
        lambda: nn.normalise(images, "batch"),
        lambda: nn.activate(images, "relu", None, np.zeros(5, np.float32)),
        lambda: nn.project(images, np.zeros((5, 2), np.float32)),
    ):
        with pytest.raises(AssertionError):
            call()
