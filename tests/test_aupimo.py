"""AUPIMO: against a numerical integral over thresholds of plain NumPy, closed forms, and what must not matter."""

import numpy as np
import pytest

from jaxad.metrics.aupimo import aupimo


def plain(maps, masks, low, high, steps=20_001):
    """The integral by the midpoint rule over ln F, each rate with the lowest threshold that keeps it."""
    normal = np.sort(np.concatenate([m.ravel() for m, mask in zip(maps, masks) if not mask.any()]))[::-1]
    edges = np.linspace(np.log(low), np.log(high), steps)
    rates = np.exp((edges[1:] + edges[:-1]) / 2)
    found = []
    for image, mask in zip(maps, masks):
        if not mask.any():
            found.append(np.nan)
            continue
        thresholds = [normal[int(rate * len(normal))] for rate in rates]
        found.append(np.mean([np.mean(image[mask == 1] > cut) for cut in thresholds]))
    return np.array(found)


@pytest.fixture
def example(rng):
    masks = np.zeros((6, 12, 10), int)
    for index, size in ((1, 4), (3, 7), (5, 2)):
        masks[index, 2 : 2 + size, 3 : 3 + size] = 1
    maps = rng.integers(0, 40, masks.shape) + 15 * masks * rng.random(masks.shape)  # with ties
    return maps, masks


@pytest.mark.parametrize("bounds", [(0.01, 0.1), (0.05, 0.5), (1e-4, 0.02)])
def test_it_equals_a_numerical_integral(example, bounds):
    np.testing.assert_allclose(aupimo(*example, bounds), plain(*example, *bounds), atol=2e-4)


def test_perfect_useless_and_inverted_maps(example, rng):
    _, masks = example
    anomalous = masks.any((1, 2))
    assert (aupimo(masks, masks)[anomalous] == 1).all()
    assert (aupimo(np.zeros(masks.shape), masks)[anomalous] == 0).all()
    assert (aupimo(-masks, masks)[anomalous] == 0).all()
    noise, masks = rng.random((40, 50, 50)), np.repeat([0, 1], 20)[:, None, None] * np.ones((40, 50, 50), int)
    low, high = 0.01, 0.1
    assert np.nanmean(aupimo(noise, masks, (low, high))) == pytest.approx((high - low) / np.log(high / low), rel=0.03)


def test_images_count_alone_and_only_the_order_of_scores_matters(example):
    maps, masks = example
    values = aupimo(maps, masks, (0.01, 0.1))
    np.testing.assert_array_equal(aupimo(np.exp(maps / 9), masks, (0.01, 0.1)), values)
    np.testing.assert_array_equal(aupimo(maps[[0, 2, 4, 3]], masks[[0, 2, 4, 3]], (0.01, 0.1))[3], values[3])
    normal_pixels_of_anomalous_images = np.where(~masks.astype(bool) & masks.any((1, 2))[:, None, None], 99, maps)
    np.testing.assert_array_equal(aupimo(normal_pixels_of_anomalous_images, masks, (0.01, 0.1)), values)


def test_what_makes_no_sense_is_refused(example):
    maps, masks = example
    with pytest.raises(ValueError, match="0 < lower < upper"):
        aupimo(maps, masks, (0.1, 0.01))
    with pytest.raises(ValueError, match="all 3 images have anomalous pixels"):
        aupimo(maps[1::2], masks[1::2])
    with pytest.raises(ValueError, match="0 of 360 pixels are anomalous"):
        aupimo(maps[::2], masks[::2])
