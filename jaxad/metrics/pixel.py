"""How well maps and masks find anomalous pixels: precision, recall, F1, IoU, pixel AUROC, AU-PRO, RPRO, with intervals.

Maps are [N, H, W], higher = more anomalous; masks are [N, H, W], 1 = anomalous pixel. Pixels of all images are pooled;
regions are the connected components (8 neighbours) of the true masks. On the host, in NumPy and float64: a test set has
millions of pixels, and components have no fixed number.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import label

from jaxad.types import Array

NEIGHBOURS = np.ones((3, 3), int)  # pixels that touch at a corner are of one region, as in MVTec AD's evaluation
FPR_LIMIT = 0.3  # of AU-PRO (Bergmann et al. 2020, 2021)
MIN_AREA = 0.001  # of an image: the smallest defect of RPRO, whose areas for each class are not published
BINS = 2048  # of the scores in a bootstrap


class PixelScores(NamedTuple):
    """Of a predicted mask."""

    precision: float  # of the flagged pixels, how many are anomalous; 0 where none is flagged
    recall: float  # of the anomalous pixels, how many are flagged
    f1: float
    iou: float  # anomalous and flagged, of anomalous or flagged


class RPRO(NamedTuple):
    """Relative per-region overlap at the one threshold that held-out normal images set."""

    overlap: float
    threshold: float


# ---- masks -----------------------------------------------------------------------------------------------------


def pixel_scores(predicted: Array | np.ndarray, masks: Array | np.ndarray) -> PixelScores:
    """Precision, recall, F1 and intersection over union, pixels of all images pooled.

    predicted, masks: [N, H, W] of 0 and 1. ValueError for other shapes or values, or no anomalous pixel at all.
    """
    predicted, masks = _checked_mask(predicted, "predicted masks"), _checked_mask(masks, "masks")
    _check_shapes(predicted, masks, "predicted masks")
    if not masks.any():
        raise ValueError(f"none of {masks.size} pixels is anomalous: recall needs one")
    return _scores(_mask_counts(predicted, masks).sum(0))


def _mask_counts(predicted: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Of each image, [N, 3]: pixels anomalous and flagged, flagged, anomalous."""
    both = predicted & masks
    return np.stack([x.sum((1, 2), dtype=np.int64) for x in (both, predicted, masks)], 1)


def _scores(counts: np.ndarray) -> PixelScores:
    caught, flagged, anomalous = np.moveaxis(counts.astype(float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(flagged > 0, caught / np.maximum(flagged, 1), 0.0)
        scores = (precision, caught / anomalous, 2 * caught / (flagged + anomalous))
        scores += (caught / (flagged + anomalous - caught),)
    return PixelScores(*(float(x) if x.ndim == 0 else x for x in map(np.asarray, scores)))


# ---- maps ------------------------------------------------------------------------------------------------------


def pixel_auroc(maps: Array | np.ndarray, masks: Array | np.ndarray) -> float:
    """Probability that an anomalous pixel scores above a normal one, ties one half; pixels of all images pooled."""
    maps, masks = checked_maps_and_masks(maps, masks)
    false, true = _curve(maps, ~masks / (~masks).sum(), masks / masks.sum())
    return _area(false, true, 1.0)


def au_pro(maps: Array | np.ndarray, masks: Array | np.ndarray, limit: float = FPR_LIMIT) -> float:
    """Area under the per-region overlap, over false-positive rates up to `limit`, divided by it.

    The overlap at a threshold is the mean over regions of the share of a region that is above; the false-positive rate
    is that of all normal pixels. Every distinct score is a threshold. Source: Bergmann et al., CVPR 2020.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}; give a false-positive rate above 0 and up to 1, such as {FPR_LIMIT}")
    maps, masks = checked_maps_and_masks(maps, masks)
    false, overlap = _curve(maps, ~masks / (~masks).sum(), region_weights(masks))
    return _area(false, overlap, limit)


def region_overlap(predicted: Array | np.ndarray, masks: Array | np.ndarray) -> float:
    """Mean over the regions of the masks of the share of a region that is predicted."""
    predicted, masks = _checked_mask(predicted, "predicted masks"), _checked_mask(masks, "masks")
    _check_shapes(predicted, masks, "predicted masks")
    if not masks.any():
        raise ValueError(f"none of {masks.size} pixels is anomalous: an overlap needs a region")
    return float(region_weights(masks)[predicted].sum())


def rpro(
    maps: Array | np.ndarray,
    masks: Array | np.ndarray,
    normal_maps: Array | np.ndarray,
    *,
    min_area: float | None = None,
) -> RPRO:
    """Relative per-region overlap (Bergmann et al., CVPR 2019, section 4.3) with the threshold of `normal_threshold`.

    The paper gives no formula for the overlap; this is `region_overlap`. It is not AU-PRO, and usually far smaller.
    """
    maps, masks = checked_maps_and_masks(maps, masks)
    threshold = normal_threshold(normal_maps, min_area=min_area)
    return RPRO(region_overlap(maps > threshold, masks), threshold)


def normal_threshold(normal_maps: Array | np.ndarray, *, min_area: float | None = None) -> float:
    """The lowest score above which no region of any anomaly-free map has `min_area` pixels (0.1 % of the image).

    normal_maps: [M, H, W], of held-out images without anomalies. `map > threshold` flags.
    """
    maps = _checked_maps(normal_maps, "maps of normal images")
    area = max(1.0, MIN_AREA * maps[0].size) if min_area is None else min_area
    if not 1 <= area < np.inf:
        raise ValueError(f"min_area is {area}; give a number of pixels from 1 upwards")
    levels = np.unique(maps)
    low, high = -1, len(levels) - 1  # the largest score is always high enough: nothing is above it
    while high - low > 1:  # regions only shrink as the threshold rises
        middle = (low + high) // 2
        if _largest_region(maps > levels[middle]) < area:
            high = middle
        else:
            low = middle
    return float(levels[high])


def best_threshold(maps: Array | np.ndarray, masks: Array | np.ndarray) -> float:
    """The threshold with the best F1, pixels of all images pooled: to be set on labelled images, used on others.

    Halfway between the lowest score that it flags and the next lower one; `map > threshold` flags. Of equals the
    highest.
    """
    maps, masks = checked_maps_and_masks(maps, masks)
    false, true = _curve(maps, ~masks, masks)
    levels = np.append(np.unique(maps)[::-1], maps.min() - 1)  # below the last one everything is flagged
    best = int(np.argmax(2 * true[1:] / (false[1:] + true[1:] + masks.sum())))
    return float(levels[best : best + 2].mean())


def _largest_region(flagged: np.ndarray) -> int:
    return max(int(np.bincount(label(image, NEIGHBOURS)[0].ravel())[1:].max(initial=0)) for image in flagged)


def region_weights(masks: np.ndarray) -> np.ndarray:
    """[N, H, W], of a pixel of a region 1 / (pixels of the region x number of regions): the overlap is their sum."""
    weights, regions = np.zeros(masks.shape), 0
    for mask, weight in zip(masks, weights):
        named, count = label(mask, NEIGHBOURS)
        areas = np.maximum(np.bincount(named.ravel(), minlength=count + 1), 1)  # pixels of no region may be none
        weight[mask] = 1 / areas[named[mask]]
        regions += count
    return weights / regions


def _curve(maps: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both weights summed over all pixels at or above each distinct score, from (0, 0) to the totals."""
    order = np.argsort(-maps, axis=None, kind="stable")
    ranked = maps.ravel()[order]
    last = np.append(np.diff(ranked) != 0, True)  # the last pixel of each group of ties
    return tuple(np.append(0.0, np.cumsum(weights.ravel()[order])[last]) for weights in (first, second))


def _area(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Area under the line through the points from 0 to `limit`, divided by it; the line is cut between two points."""
    within = int(np.searchsorted(x, limit, side="right"))
    end = np.interp(limit, x, y)
    x, y = np.append(x[:within], limit), np.append(y[:within], end)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / limit)


# ---- all together ----------------------------------------------------------------------------------------------


def summarise_segmentation(
    maps: Array | np.ndarray,
    predicted: Array | np.ndarray,
    masks: Array | np.ndarray,
    *,
    normal_maps: Array | np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Every metric with its bootstrap interval over images, as plain floats ready for JSON.

    Returns {"precision" | "recall" | "f1" | "iou" | "pixel_auroc" | "au_pro" | "rpro": {"value", "low", "high"}} and
    what they must be read against, "prevalence" and "f1_all_anomalous", of pixels. Images are drawn with replacement,
    as pixels of one image are not independent; for the intervals of areas, scores are put into bins first. "rpro" is
    there with `normal_maps`, whose threshold ("rpro_threshold") is held fixed.

    Raises:
      ValueError: what the metrics refuse, `resamples` < 1, `level` outside (0, 1).
    """
    if resamples < 1:
        raise ValueError(f"resamples={resamples} is below 1: 1000 gives a stable 95 % interval")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is outside (0, 1): give a fraction such as 0.95")
    maps, masks = checked_maps_and_masks(maps, masks)
    predicted = _checked_mask(predicted, "predicted masks")
    _check_shapes(predicted, masks, "predicted masks")
    values: dict[str, float] = pixel_scores(predicted, masks)._asdict()
    values |= {"pixel_auroc": pixel_auroc(maps, masks), "au_pro": au_pro(maps, masks)}

    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(masks), np.full(len(masks), 1 / len(masks)), size=resamples).astype(float)
    intervals: dict[str, np.ndarray] = _scores(draws @ _mask_counts(predicted, masks))._asdict()
    intervals |= _drawn_areas(maps, masks, draws)
    table: dict[str, Any] = {}
    if normal_maps is not None:
        values["rpro"], table["rpro_threshold"] = rpro(maps, masks, normal_maps)
        intervals["rpro"] = _drawn_overlap(maps > table["rpro_threshold"], masks, draws)
    tail = (1 - level) / 2
    for name, value in values.items():
        drawn = intervals[name][np.isfinite(intervals[name])]  # of a draw without anomalies there is none
        low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
        table[name] = {"value": value, "low": float(low), "high": float(high)}
    prevalence = float(masks.mean())
    return {**table, "prevalence": prevalence, "f1_all_anomalous": 2 * prevalence / (1 + prevalence)}


def _drawn_areas(maps: np.ndarray, masks: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Pixel AUROC and AU-PRO of every draw [R, N] of images, from histograms of their scores."""
    edges = np.unique(np.quantile(maps, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = len(edges) - np.searchsorted(edges, maps, side="left")  # high scores first
    regions = region_weights(masks)

    def above(weights: np.ndarray) -> np.ndarray:
        """Of every draw, the weights summed over all pixels in each bin and those before, from 0: [R, bins + 1]."""
        images = [np.bincount(b.ravel(), w.ravel(), len(edges) + 1) for b, w in zip(bins, weights)]
        sums = np.cumsum(draws @ np.stack(images), 1)
        return np.pad(sums, [(0, 0), (1, 0)])

    false, true, overlap = (above(weights) for weights in (~masks, masks, regions))
    with np.errstate(invalid="ignore", divide="ignore"):
        false, true, overlap = (x / x[:, -1:] for x in (false, true, overlap))
    pairs = {"pixel_auroc": (true, 1.0), "au_pro": (overlap, FPR_LIMIT)}
    return {
        name: np.array([_area(x, y, limit) if np.isfinite(y[-1]) else np.nan for x, y in zip(false, curves)])
        for name, (curves, limit) in pairs.items()
    }


def _drawn_overlap(predicted: np.ndarray, masks: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """`region_overlap` of every draw [R, N] of images."""
    weights = region_weights(masks)
    with np.errstate(invalid="ignore"):
        return (draws @ (weights * predicted).sum((1, 2))) / (draws @ weights.sum((1, 2)))


# ---- what is refused -------------------------------------------------------------------------------------------


def checked_maps_and_masks(maps: Array | np.ndarray, masks: Array | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps as float64 and masks as booleans, both kinds of pixels among them."""
    maps, masks = _checked_maps(maps, "maps"), _checked_mask(masks, "masks")
    _check_shapes(maps, masks, "maps")
    if masks.all() or not masks.any():
        found = f"{int(masks.sum())} of {masks.size} pixels are anomalous"
        raise ValueError(f"{found}: metrics need both normal and anomalous ones")
    return maps, masks


def _checked_maps(maps: Array | np.ndarray, name: str) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"{name} have shape {maps.shape}; give [N, H, W] with at least one pixel")
    if np.isnan(maps).any():
        bad = np.isnan(maps).any((1, 2)).sum()
        raise ValueError(f"{bad} of {len(maps)} {name} hold NaN: find the model's overflow first")
    return maps


def _checked_mask(masks: Array | np.ndarray, name: str) -> np.ndarray:
    masks = np.asarray(masks)
    if masks.ndim != 3 or not masks.size:
        raise ValueError(f"{name} have shape {masks.shape}; give [N, H, W] with at least one pixel")
    if not np.isin(masks, (0, 1)).all():
        raise ValueError(f"{name} have values other than 0 and 1 (1 = anomalous pixel): threshold them first")
    return masks.astype(bool)


def _check_shapes(one: np.ndarray, masks: np.ndarray, name: str) -> None:
    if one.shape != masks.shape:
        raise ValueError(f"{name} have shape {one.shape} and masks {masks.shape}: resize one of them")
