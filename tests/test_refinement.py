"""Grad-CAM against the closed form of a linear head, its invariants, and Eq. 20 by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.data.images import resize
from jaxad.data.tiles import resize_map
from jaxad.methods.common.knowledge import SIDE, make_knowledge, make_weights, refined_maps
from jaxad.methods.common.refinement import first_component, grad_cam, principal_object, refine
from jaxad.runs.detection_refined import make_refiner

KERNEL = np.random.default_rng(1).normal(size=(3, 6, 4)).astype(np.float32)


def features(images):
    """Two by two pixels of an image as one of six features."""
    batch, height, width, channels = images.shape
    cells = images.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return jax.nn.relu(cells @ KERNEL[:, :, 0])


def head(maps):
    return maps.mean((1, 2)) @ KERNEL[0]


@pytest.fixture
def images(rng):
    return jnp.asarray(rng.random((5, 8, 12, 3)), jnp.float32)


def test_a_linear_head_has_its_weights_as_gradients(images):
    """Then Grad-CAM is the class activation map of Zhou et al. (2016)."""
    classes = np.array([0, 1, 2, 3, 0])
    maps = np.asarray(features(images))
    expected = np.maximum(np.einsum("bhwf,fb->bhw", maps, KERNEL[0][:, classes]), 0)
    largest = expected.max((1, 2), keepdims=True)
    expected = np.divide(expected, largest, out=np.zeros_like(expected), where=largest > 0)
    expected = np.asarray(jax.image.resize(expected, (5, 8, 12), "linear"))
    np.testing.assert_allclose(grad_cam(features, head, images, jnp.asarray(classes)), expected, atol=1e-5)


def test_by_default_it_explains_what_the_classifier_says(images):
    said = jnp.argmax(head(features(images)), 1)
    np.testing.assert_array_equal(grad_cam(features, head, images), grad_cam(features, head, images, said))


def test_each_image_is_explained_by_itself_and_compiled_alike(images):
    together = grad_cam(features, head, images)
    alone = [grad_cam(features, head, images[i : i + 1])[0] for i in range(len(images))]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda x: grad_cam(features, head, x))(images), together, atol=1e-6)
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1 + 1e-6


def test_where_nothing_speaks_for_the_class_the_map_is_zero_and_finite(images):
    def opposed(maps):
        return jnp.stack([-maps.mean((1, 2, 3)), jnp.zeros(maps.shape[0])], 1)

    seen = grad_cam(features, opposed, images, jnp.zeros(5, jnp.int32))
    np.testing.assert_array_equal(seen, 0)


def test_refinement_is_eq_20(rng):
    errors, recognised, saliency = (jnp.asarray(rng.random((2, 4, 5)), jnp.float32) for _ in range(3))
    both = refine(errors, recognised, saliency)
    np.testing.assert_allclose(
        both, np.asarray(errors) * (1 - np.asarray(recognised)) * np.asarray(saliency), rtol=1e-6
    )
    endless, nothing = errors.at[0, 1, 2].set(jnp.inf), saliency.at[0, 1].set(0.0)
    assert np.isinf(refine(endless, recognised, saliency)[0, 1, 2])
    np.testing.assert_array_equal(refine(endless, recognised, nothing), refine(errors, recognised, nothing))
    np.testing.assert_array_equal(refine(errors), errors)
    np.testing.assert_array_equal(refine(errors, saliency=jnp.ones_like(errors)), errors)
    with pytest.raises(AssertionError):
        refine(errors, recognised[:1])


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)])
def test_the_first_component_is_that_of_a_singular_value_decomposition(rng, shape):
    rows = rng.normal(size=shape)
    rows -= rows.mean(0)
    _, sizes, directions = np.linalg.svd(rows)
    component, size = first_component(rows)
    np.testing.assert_allclose(size, sizes[0], rtol=1e-12)
    expected = rows @ directions[0]
    np.testing.assert_allclose(component * np.sign(component @ expected), expected, rtol=1e-9, atol=1e-12)


def test_the_object_is_what_differs_and_does_not_fill_the_edge(rng):
    thing = np.zeros((2, 12, 10), bool)
    thing[0, 3:9, 2:7] = True
    thing[1, 4:, 3:8] = True  # it may leave the picture
    features = np.where(thing[..., None], [1.0, 3.0, 0.0], [2.0, 0.0, 0.0]) + rng.normal(0, 0.05, (2, 12, 10, 3))
    features[0, 5, 4] = [2.0, 0.0, 0.0]  # a hole, such as something foreign on it
    features[:, 0, 9] = [1.0, 3.0, 0.0]  # a speck elsewhere
    np.testing.assert_array_equal(principal_object(features), thing)
    np.testing.assert_array_equal(principal_object(np.ones((1, 4, 5, 2))), 1)


def test_maps_of_any_photograph_are_refined_by_eq_20(rng):
    """On 224 pixels it is what the experiment measures; on others, the product of maps in the photograph's size."""
    refiner, knowledge = make_refiner("random"), make_knowledge("random", jax.random.key(0))
    square, errors = rng.integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8), rng.random((1, SIDE, SIDE))
    maps, parts = refined_maps(knowledge, square, errors.astype(np.float32), 1)
    found = refiner(square[0] / np.float32(255), errors[0].astype(np.float32))
    np.testing.assert_allclose(found, maps["refined (Eq. 20)"][0], rtol=1e-5, atol=1e-6)
    recognised, thing = (part[0].astype(np.float64) for part in parts.values())
    np.testing.assert_allclose(found, errors[0] * (1 - recognised) * thing, rtol=1e-4, atol=1e-6)

    grey, heat = rng.random((30, 50, 1)).astype(np.float32), rng.random((30, 50)).astype(np.float32)
    heat[:3] = np.nan  # what a detector of squares did not see
    found = refiner(grey, heat)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(heat))
    rgb = np.rint(resize(np.repeat(grey[None], 3, 3), SIDE) * 255).astype(np.uint8)
    recognised, thing = (resize_map(np.asarray(m[0]), (30, 50)) for m in make_weights(knowledge, (SIDE, SIDE))(rgb))
    np.testing.assert_allclose(found[3:], (heat * (1 - recognised) * thing)[3:], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="cannot turn 5 channels into 3"):
        refiner(np.zeros((8, 8, 5), np.float32), np.zeros((8, 8), np.float32))
