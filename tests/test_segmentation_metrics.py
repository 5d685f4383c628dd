"""Metrics of masks and maps against scikit-learn and plain loops over thresholds and regions."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sk

from jaxad.metrics.pixel import (
    au_pro,
    best_threshold,
    normal_threshold,
    pixel_auroc,
    pixel_scores,
    region_overlap,
    rpro,
    summarise_segmentation,
)

EIGHT = np.ones((3, 3))


@pytest.fixture
def example(rng):
    """Blobs as truth; maps that see them, dimly, with many ties."""
    smooth = ndimage.gaussian_filter(rng.standard_normal((6, 24, 20)), (0, 2, 2))
    masks = (smooth > np.quantile(smooth, 0.9)).astype(np.uint8)
    masks[0] = 0
    noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 1, 1))
    return np.round(4 * (smooth / smooth.std() + noise / noise.std())) / 4, masks


def regions(masks):
    for index, mask in enumerate(masks):
        named, count = ndimage.label(mask, EIGHT)
        for k in range(1, count + 1):
            yield index, named == k


def overlap(flagged, masks):
    return np.mean([flagged[index][region].mean() for index, region in regions(masks)])


def plain_au_pro(maps, masks, limit):
    """Threshold by threshold, region by region."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        flagged = maps >= threshold
        points.append((flagged[masks == 0].mean(), overlap(flagged, masks)))
    x, y = np.array(points).T
    grid = np.unique(np.append(x[x <= limit], limit))
    # Where the false-positive rate stands still while the overlap rises, the line is vertical: take each end apart.
    total = 0.0
    for a, b in itertools.pairwise(grid):
        start, end = y[x == a].max(), np.interp(b, x, y) if b not in x else y[x == b].min()
        total += (b - a) * (start + end) / 2
    return total / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_au_pro_equals_a_loop_over_thresholds_and_regions(example, limit):
    np.testing.assert_allclose(au_pro(*example, limit), plain_au_pro(*example, limit), rtol=1e-9)


def test_au_pro_of_perfect_constant_and_inverted_maps(example):
    _, masks = example
    assert au_pro(masks, masks) == pytest.approx(1)
    assert au_pro(np.zeros(masks.shape), masks) == pytest.approx(0.15)  # the diagonal, up to 0.3
    assert au_pro(-masks.astype(float), masks) == pytest.approx(0)


def test_regions_count_alike_whatever_their_size():
    """A large region found and a small one missed is one half; corners join regions."""
    masks = np.zeros((1, 12, 12), np.uint8)
    masks[0, :6, :6], masks[0, 8, 8], masks[0, 9, 9] = 1, 1, 1
    assert len(list(regions(masks))) == 2
    flagged = masks.copy()
    flagged[0, 8:, 8:] = 0
    assert region_overlap(flagged, masks) == 0.5
    flagged[0, 8, 8] = 1
    assert region_overlap(flagged, masks) == 0.75


def test_pixel_auroc_and_scores_equal_scikit_learn(example):
    maps, masks = example
    np.testing.assert_allclose(pixel_auroc(maps, masks), sk.roc_auc_score(masks.ravel(), maps.ravel()), rtol=1e-9)
    flagged = maps > 1
    expected = sk.precision_recall_fscore_support(masks.ravel(), flagged.ravel(), average="binary")[:3]
    np.testing.assert_allclose(pixel_scores(flagged, masks)[:3], expected, rtol=1e-9)
    np.testing.assert_allclose(pixel_scores(flagged, masks).iou, sk.jaccard_score(masks.ravel(), flagged.ravel()))
    assert pixel_scores(np.zeros_like(masks), masks) == (0, 0, 0, 0)


def test_the_threshold_is_the_lowest_that_leaves_no_region_of_the_area(rng):
    maps = ndimage.gaussian_filter(rng.standard_normal((4, 24, 20)), (0, 2, 2))

    def largest(threshold):
        flagged = maps > threshold
        return max((int(region.sum()) for _, region in regions(flagged)), default=0)

    for area in (1, 5, 40):
        threshold = normal_threshold(maps, min_area=area)
        assert largest(threshold) < area
        lower = np.unique(maps)[np.unique(maps) < threshold]
        assert len(lower) == 0 or largest(lower[-1]) >= area
    # By default 0.1 % of the image, at least a pixel: nothing may be flagged in images this small.
    assert normal_threshold(maps) == maps.max()
    assert normal_threshold(np.full((1, 3, 3), 2.0)) == 2.0


def test_rpro_is_the_overlap_at_that_threshold(example, rng):
    maps, masks = example
    normal = ndimage.gaussian_filter(rng.standard_normal((3, 24, 20)), (0, 1, 1))
    found = rpro(maps, masks, normal, min_area=6)
    assert found.threshold == normal_threshold(normal, min_area=6)
    np.testing.assert_allclose(found.overlap, overlap(maps > found.threshold, masks))


def test_the_summary_has_the_metrics_and_intervals_of_drawn_images(example, rng):
    maps, masks = example
    normal = ndimage.gaussian_filter(rng.standard_normal((3, 24, 20)), (0, 1, 1))
    table = summarise_segmentation(maps, maps > 1, masks, normal_maps=normal, resamples=200)
    expected = {
        "pixel_auroc": pixel_auroc(maps, masks),
        "au_pro": au_pro(maps, masks),
        "rpro": rpro(maps, masks, normal).overlap,
        **pixel_scores(maps > 1, masks)._asdict(),
    }
    for name, value in expected.items():
        assert table[name]["value"] == value
        assert table[name]["low"] <= value <= table[name]["high"]
    # The interval of what a resampling of whole images gives, metric by metric.
    draws = np.random.default_rng(1).integers(0, 6, (200, 6))
    draws = [d for d in draws if masks[d].any()]
    for name, metric in {"pixel_auroc": pixel_auroc, "au_pro": au_pro}.items():
        low, high = np.quantile([metric(maps[d], masks[d]) for d in draws], [0.025, 0.975])
        np.testing.assert_allclose([table[name]["low"], table[name]["high"]], [low, high], atol=0.04)
    f1 = [pixel_scores(maps[d] > 1, masks[d]).f1 for d in draws]
    np.testing.assert_allclose([table["f1"]["low"], table["f1"]["high"]], np.quantile(f1, [0.025, 0.975]), atol=0.04)
    assert table["prevalence"] == pytest.approx(masks.mean())


def test_what_makes_no_sense_is_refused(example):
    maps, masks = example
    for call, words in [
        (lambda: pixel_auroc(maps, np.zeros_like(masks)), "0 of 2880 pixels are anomalous"),
        (lambda: au_pro(maps[:, :5], masks), "resize one of them"),
        (lambda: au_pro(np.where(masks, np.nan, maps), masks), "5 of 6 maps hold NaN"),
        (lambda: au_pro(maps, masks, 0.0), "above 0 and up to 1"),
        (lambda: pixel_scores(maps, masks), "threshold them first"),
        (lambda: pixel_scores(masks, 0 * masks), "recall needs one"),
        (lambda: pixel_scores(masks[0], masks[0]), r"give \[N, H, W\]"),
        (lambda: region_overlap(masks, 0 * masks), "an overlap needs a region"),
        (lambda: normal_threshold(maps, min_area=0), "from 1 upwards"),
        (lambda: summarise_segmentation(maps, masks, masks, resamples=0), "is below 1"),
        (lambda: summarise_segmentation(maps, masks, masks, level=1.0), "outside"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_the_best_threshold_has_the_best_f1_of_all(example):
    maps, masks = example
    levels = np.unique(maps)
    scores = [sk.f1_score(masks.ravel(), (maps > level).ravel()) for level in [levels[0] - 1, *levels[:-1]]]
    best = best_threshold(maps, masks)
    assert pixel_scores(maps > best, masks).f1 == pytest.approx(max(scores), abs=1e-12)
    assert best not in levels
    everything = np.where(masks, -1.0, 1.0)  # the wrong way round: to flag all is best
    assert (everything > best_threshold(everything, masks)).all()
