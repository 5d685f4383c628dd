"""Batch normalisation against Flax's own and by hand: values, gradients, statistics, images apart."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nn.network import make_network
from jaxad.nn.normalization import BatchNorm, InstanceNorm, recalibrated

AFFINE = {"scale": jnp.array([2.0, 1.0]), "bias": jnp.array([0.5, -1.0])}
FROZEN = {"mean": jnp.array([1.0, -2.0]), "var": jnp.array([4.0, 0.25])}
VARIABLES = {"params": AFFINE, "batch_stats": FROZEN}


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.normal(3, 2, (6, 2, 3, 2)), jnp.float32)


def normal(values, mean, variance):
    return (np.asarray(values) - np.asarray(mean)) / np.sqrt(np.asarray(variance) + 1e-5)


def trained(module, variables, x, **options):
    """Output and updated statistics, and the gradients of a function of the output."""
    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

    def function(params, x):
        variables_ = {**variables, "params": params}
        out, updated = module.apply(variables_, x, False, mutable=["batch_stats"], **options)
        return jnp.sum(weights * jnp.sin(out)), (out, updated["batch_stats"])

    (_, aux), gradients = jax.jit(jax.value_and_grad(function, (0, 1), has_aux=True))(variables["params"], x)
    return aux, gradients


@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"use_bias": False}, {"use_scale": False}])
@pytest.mark.parametrize("shape", [(6, 2, 3, 2), (7, 2)])
def test_variables_outputs_gradients_and_statistics_are_flaxs(rng, options, shape):
    x = jnp.asarray(rng.normal(3, 2, shape), jnp.float32)
    ours, theirs = (cls(**{"momentum": 0.9} | options) for cls in (BatchNorm, nn.BatchNorm))
    fresh = theirs.init(jax.random.key(0), x, use_running_average=False)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0), x, use_running_average=False), fresh)
    params = {name: AFFINE[name] for name in fresh["params"]} if "params" in fresh else {}
    variables = {"params": params, "batch_stats": FROZEN}
    for got, expected in zip(*map(jax.tree.leaves, (trained(m, variables, x) for m in (ours, theirs))), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    got, expected = (m.apply(variables, x, use_running_average=True) for m in (ours, theirs))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_without_an_affine_part_there_are_no_params(images):
    variables = BatchNorm(use_bias=False, use_scale=False).init(jax.random.key(0), images, False)
    assert set(variables) == {"batch_stats"}
    out = BatchNorm(use_bias=False, use_scale=False).apply(variables, images, False)
    np.testing.assert_allclose(out, normal(images, images.mean((0, 1, 2)), images.var((0, 1, 2))), rtol=1e-3, atol=1e-5)


def test_whether_statistics_are_running_ones_must_be_said_once(images):
    with pytest.raises(ValueError, match="use_running_average"):
        BatchNorm().init(jax.random.key(0), images)


def test_running_averages_of_two_batches_by_hand():
    """Two batches of two images of one pixel: means 2 and 6, variances 1 and 4."""
    norm = BatchNorm()
    batches = jnp.array([[1.0, 3.0], [4.0, 8.0]]).reshape(2, 2, 1, 1, 1)
    variables = jax.jit(norm.init, static_argnums=2)(jax.random.key(0), batches[0], False)
    for batch in batches:
        out, updated = norm.apply(variables, batch, False, mutable=["batch_stats"])
        np.testing.assert_allclose(out.ravel(), [-1, 1], rtol=1e-4)
        variables = variables | updated
    np.testing.assert_allclose(variables["batch_stats"]["mean"], [0.9 * (0.1 * 2) + 0.1 * 6], rtol=1e-6)
    np.testing.assert_allclose(variables["batch_stats"]["var"], [0.9 * (0.9 + 0.1 * 1) + 0.1 * 4], rtol=1e-6)


def test_images_apart_meet_running_statistics_and_do_not_count(images):
    apart = np.array([0, 1, 0, 0, 1, 0], bool)
    bare = {"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}, "batch_stats": FROZEN}
    (out, own), _ = trained(BatchNorm(momentum=0.0), bare, images, frozen=jnp.asarray(apart))
    images, others = np.asarray(images), np.asarray(images)[~apart]
    np.testing.assert_allclose(own["mean"], others.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(own["var"], others.var((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(out[~apart], normal(others, own["mean"], own["var"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out[apart], normal(images[apart], FROZEN["mean"], FROZEN["var"]), rtol=1e-4, atol=1e-5)


def test_with_no_image_apart_it_is_the_usual_normalisation_with_its_gradient(images):
    usual = trained(BatchNorm(), VARIABLES, images)
    apart = trained(BatchNorm(), VARIABLES, images, frozen=jnp.zeros(6, bool))
    for got, expected in zip(*map(jax.tree.leaves, (apart, usual)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_images_apart_pass_their_gradient_through_the_running_scale_alone(images):
    apart = jnp.array([0, 1, 0, 0, 1, 0], bool)

    def seen(x):  # of image 1, whose values no other image's normalisation should see
        return jnp.sum(
            BatchNorm(use_bias=False, use_scale=False).apply({"batch_stats": FROZEN}, x, False, frozen=apart)
        )

    gradient = jax.jit(jax.grad(seen))(images)
    scale = 1 / np.sqrt(np.asarray(FROZEN["var"]) + 1e-5)
    np.testing.assert_allclose(gradient[1], np.broadcast_to(scale, (2, 3, 2)), rtol=1e-5)


def test_a_batch_all_apart_changes_no_statistics(images):
    (out, own), _ = trained(BatchNorm(), VARIABLES, images, frozen=jnp.ones(6, bool))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), own, FROZEN)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("options", [{}, {"frozen": jnp.array([1, 0, 0, 0, 0, 0], bool)}])
def test_no_gradient_passes_through_what_is_remembered(images, options):
    def remembered(x):
        _, updated = BatchNorm().apply(VARIABLES, x, False, mutable=["batch_stats"], **options)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updated))

    assert not np.any(jax.jit(jax.grad(remembered))(images))


def test_shorter_numbers_are_normalised_in_float32(images):
    out = BatchNorm().apply(VARIABLES, images.astype(jnp.bfloat16), False)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, BatchNorm().apply(VARIABLES, images, False), atol=0.03)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return BatchNorm(not train, momentum=0.0)(images)


def test_statistics_of_many_images_are_those_of_a_mixture(rng):
    images = rng.random((10, 4, 4, 2), np.float32)
    network = make_network(Normed())
    variables = jax.jit(network.init)(jax.random.key(0), images)
    found = jax.jit(lambda images: recalibrated(network, variables, images, 5))(images)
    stats = found["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], images.var((0, 1, 2)), rtol=1e-4)


def test_untracked_statistics_are_always_the_batchs(images):
    tracked, untracked = BatchNorm(), BatchNorm(track_running_stats=False)
    assert set(untracked.init(jax.random.key(0), images)) == {"params"}
    expected, _ = trained(tracked, VARIABLES, images)
    np.testing.assert_array_equal(jax.jit(untracked.apply)({"params": AFFINE}, images), expected[0])


def test_instance_normalisation_is_flaxs_but_for_single_pixels(images):
    variables = {"params": AFFINE}
    ours, theirs = (jax.jit(norm.apply)(variables, images) for norm in (InstanceNorm(), nn.InstanceNorm(epsilon=1e-5)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    pixel = np.asarray(images[:, :1, :1])
    kept = pixel * np.asarray(AFFINE["scale"]) + np.asarray(AFFINE["bias"])
    np.testing.assert_allclose(InstanceNorm().apply(variables, pixel), kept, rtol=1e-6)
