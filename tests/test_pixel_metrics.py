"""Compiled pixel metrics equal those of the host, and regions those of SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxad.metrics import image as metrics
from jaxad.metrics import pixel as segmentation_metrics
from jaxad.metrics.pixel_jax import largest_region, normal_threshold, pixel_auroc, pixel_truth, rpro

NEIGHBOURS = np.ones((3, 3), int)


@pytest.fixture
def example(rng):
    """Smooth maps with ties and regions of all sizes, and masks of five of eight images."""
    maps = ndimage.gaussian_filter(rng.standard_normal((8, 40, 36)), (0, 2, 2))
    masks = ndimage.gaussian_filter(rng.standard_normal((8, 40, 36)), (0, 2, 2)) > 0.2
    masks[[1, 4, 7]] = False
    maps = (maps + 0.8 * masks).round(2).astype(np.float32)
    return maps, masks.astype(np.uint8)


def largest(image):
    return max(np.bincount(ndimage.label(image, NEIGHBOURS)[0].ravel())[1:], default=0)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.35, 0.6, 1.0])
def test_the_largest_region_is_that_of_scipy(rng, density):
    flagged = rng.random((3, 17, 23)) < density
    found = jax.jit(largest_region)(flagged)
    assert int(found) == max(largest(image) for image in flagged)


def test_a_long_winding_region_is_one():
    flagged = np.zeros((1, 41, 41), bool)
    flagged[0, ::4], flagged[0, ::8, -1] = True, True
    flagged[0, 2::8, -1], flagged[0, 6::8, 0] = True, True
    for row in range(0, 40, 4):
        flagged[0, row : row + 4, -1 if row % 8 == 0 else 0] = True
    assert ndimage.label(flagged[0], NEIGHBOURS)[1] == 1
    assert int(jax.jit(largest_region)(flagged)) == flagged.sum()


def test_all_equal_the_metrics_of_the_host(example):
    maps, masks = example
    truth = pixel_truth(masks)
    normal = ~masks.any((1, 2))
    np.testing.assert_array_equal(truth.normal, normal)
    np.testing.assert_allclose(pixel_auroc(maps, truth), segmentation_metrics.pixel_auroc(maps, masks), atol=1e-6)
    expected = segmentation_metrics.rpro(maps, masks, maps[normal])
    assert 0.05 < expected.overlap < 0.95
    assert float(normal_threshold(maps, normal)) == expected.threshold
    np.testing.assert_allclose(rpro(maps, truth), expected.overlap, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, -5.0, 1e6])
def test_the_threshold_of_images_large_enough_for_regions_is_that_of_the_host(rng, shift):
    """0.1 % of 80x60 is 4.8 pixels, so single ones may stand out."""
    maps = (ndimage.gaussian_filter(rng.standard_normal((4, 80, 60)), (0, 1, 1)) + shift).astype(np.float32)
    normal = np.array([True, False, True, False])
    expected = segmentation_metrics.normal_threshold(maps[normal])
    assert expected < maps[normal].max()
    assert float(normal_threshold(maps, normal)) == expected


def test_the_smallest_numbers_are_told_apart(example):
    maps, masks = example
    tiny, truth = (maps * 1e-39).astype(np.float32), pixel_truth(masks)
    np.testing.assert_allclose(pixel_auroc(tiny, truth), segmentation_metrics.pixel_auroc(tiny, masks), atol=1e-6)
    expected = segmentation_metrics.rpro(tiny, masks, tiny[~masks.any((1, 2))])
    np.testing.assert_allclose(rpro(tiny, truth), expected.overlap, atol=1e-6)


def test_maps_that_are_all_one_number_are_measured(example):
    _, masks = example
    flat = jnp.full(masks.shape, 2.0)
    truth = pixel_truth(masks)
    assert (float(pixel_auroc(flat, truth)), float(rpro(flat, truth))) == (0.5, 0.0)


def test_maps_of_several_children_are_measured_side_by_side(example):
    maps, masks = example
    truth = pixel_truth(masks)
    both = np.stack([maps, -maps])
    found = jax.vmap(rpro, (0, None))(both, truth)
    np.testing.assert_allclose(found, [rpro(m, truth) for m in both], atol=1e-6)


def test_more_pixels_than_fit_into_one_sum_are_ranked_exactly(rng):
    labels = rng.random(1_300_000) < 0.1
    scores = (rng.standard_normal(labels.size) + labels).round(2).astype(np.float32)
    with pytest.raises(ValueError, match="1300000 scores are more than 1048575"):
        metrics.auroc(scores, labels)
    expected = segmentation_metrics.pixel_auroc(scores.reshape(13, 1000, 100), labels.reshape(13, 1000, 100))
    np.testing.assert_allclose(metrics.auroc_of_many(scores, labels), expected, atol=3e-7)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((3, 4, 4)), "no mask of 3 has an anomalous pixel"),
        (np.ones((3, 4, 4)), "no mask of 3 has no anomalous pixel"),
        (np.full((3, 4, 4), 2), r"give \[N, H, W\] of 0 and 1"),
        (np.ones((4, 4)), r"give \[N, H, W\] of 0 and 1"),
    ],
)
def test_masks_that_measure_nothing_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        pixel_truth(masks)
