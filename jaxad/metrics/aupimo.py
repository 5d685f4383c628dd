"""AUPIMO (Bertoldo et al., BMVC 2024): how much of a defect is found where almost nothing normal is flagged.

    AUPIMO_i = 1 / ln(U / L)  *  integral over ln F from ln L to ln U of T_i(t(F))

F is the false-positive rate of the pixels of normal images, the mean over them, T_i the true-positive rate of image i
at the threshold t(F) that this rate sets. Every anomalous image has a value of its own: a mean hides images that are
missed altogether. Their bounds, 1e-5 and 1e-4, are a few pixels of an image. On the host, in NumPy and float64.
"""

import math

import numpy as np

from jaxad.metrics.pixel import checked_maps_and_masks
from jaxad.types import Array

BOUNDS = (1e-5, 1e-4)  # false-positive rates L and U


def aupimo(maps: Array | np.ndarray, masks: Array | np.ndarray, bounds: tuple[float, float] = BOUNDS) -> np.ndarray:
    """The AUPIMO of every image, in [0, 1]; higher is better, and random maps come to (U - L) / ln(U / L), 4e-5.

    The integral is exact: a rate F admits floor(F x pixels) normal pixels, the threshold is the score of the next one,
    and pixels above it are flagged. Where there are fewer than 1 / L normal pixels, rates below one pixel admit none.

    Args:
      maps: [N, H, W], higher = more anomalous.
      masks: [N, H, W], 1 = anomalous pixel.
      bounds: false-positive rates L and U that are integrated between, 0 < L < U <= 1.

    Returns:
      [N] float64; NaN for images without an anomalous pixel, which are the normal ones that set the thresholds.

    Raises:
      ValueError: other shapes or values, NaN, no normal or no anomalous image, bounds out of range.

    >>> import numpy as np
    >>> maps, masks = np.zeros((2, 8, 8)), np.zeros((2, 8, 8), int)
    >>> masks[1, :2] = maps[1, :1] = 1  # half of the defect is above all that is normal
    >>> aupimo(maps, masks)
    array([nan, 0.5])
    """
    low, high = bounds
    if not 0 < low < high <= 1:
        raise ValueError(f"bounds are {bounds}; give two false-positive rates, 0 < lower < upper <= 1")
    maps, masks = checked_maps_and_masks(maps, masks)
    anomalous = masks.any((1, 2))
    if anomalous.all():
        raise ValueError(f"all {len(masks)} images have anomalous pixels: normal images set the false-positive rates")
    normal = maps[~anomalous].ravel()
    size = len(normal)
    most = min(math.floor(high * size), size - 1)  # normal pixels that the highest rate admits
    first = math.floor(low * size)
    highest = np.sort(np.partition(normal, size - 1 - most)[size - 1 - most :])[::-1]  # [most + 1]
    thresholds = highest[first:]  # flagged is what lies above: of the normal pixels `first`, `first` + 1, ... at most
    edges = np.log(np.concatenate([[low], np.arange(first + 1, most + 1) / size, [high]]))
    weights = np.diff(edges) / (edges[-1] - edges[0])
    values = np.full(len(maps), np.nan)
    for index in np.flatnonzero(anomalous):
        scores = np.sort(maps[index][masks[index]])
        found = 1 - np.searchsorted(scores, thresholds, side="right") / len(scores)
        values[index] = float(found @ weights)
    return values
