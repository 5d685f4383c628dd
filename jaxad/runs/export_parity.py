"""Whether an artefact says what the detector says, on photographs that are run through both."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxad.metrics.thresholds import decide
from jaxad.runs.detection import map_image, read_for, score_rows
from jaxad.runs.export_formats import Run
from jaxad.runs.saving import LoadedDetector

TOLERANCE = 1e-5  # of the range of scores, and of maps
BATCH = 8  # photographs that an artefact is given together


class Expected(NamedTuple):
    """What a detector makes of photographs, as `detect.py` shows it."""

    scores: np.ndarray  # [N] float32
    maps: np.ndarray | None  # [N, h, w] float32
    anomalous: np.ndarray | None  # [N] bool


class Parity(NamedTuple):
    """How far an artefact is from its detector."""

    images: int
    score: float  # largest difference of two scores, as a share of the range of the detector's
    map: float | None  # likewise, of the values of all maps
    decisions: int | None  # that differ

    @property
    def problem(self) -> str:
        """What is beyond the tolerance, in one line; empty where nothing is."""
        for name, value in (("scores", self.score), ("maps", self.map)):
            if value is not None and not value <= TOLERANCE:
                return f"its {name} differ by {value:.1e} of their range (at most {TOLERANCE:.0e} is allowed)"
        if self.decisions:
            near = "; is the threshold the score of one of them? Give images that it was not set on"
            return f"{self.decisions} of {self.images} decisions differ{near}"
        return ""


def expected(loaded: LoadedDetector, photographs: np.ndarray) -> Expected:
    """What a detector makes of photographs [N, H, W, C] uint8.

    Raises:
      ValueError: a score that is no number; scores or maps that are all the same, so that nothing could differ.
    """
    scores = score_rows(loaded, [read_for(loaded, pixels) for pixels in photographs], 64)
    maps = None
    if loaded.detector.score_map is not None:
        maps = np.stack([map_image(loaded, pixels) for pixels in photographs])
    for name, values in (("scores", scores), ("maps", maps)):
        if values is not None and not _range(values) > 0:
            raise ValueError(
                f"the {name} of {len(photographs)} images are all the same, or no numbers: give images that differ"
            )
    return Expected(scores, maps, None if loaded.threshold is None else decide(scores, loaded.threshold))


def compare(run: Run, names: Sequence[str], photographs: np.ndarray, expected: Expected, *, batch: int) -> Parity:
    """Run an artefact, a batch at a time and, where batches may differ, once more with one photograph alone."""
    starts = [*range(0, len(photographs), batch)]
    groups = [slice(start, start + batch) for start in starts] + [slice(0, 1)] * (batch > 1)
    parities = []
    for group in groups:
        found = dict(zip(names, run(photographs[group]), strict=True))
        parities.append(
            (
                _difference(found["score"], expected.scores, group),
                None if expected.maps is None else _difference(found["map"], expected.maps, group),
                None if expected.anomalous is None else int(np.sum(found["anomalous"] != expected.anomalous[group])),
            )
        )
    scores, maps, decisions = zip(*parities, strict=True)
    return Parity(
        len(photographs),
        max(scores, key=_nan_last),
        None if expected.maps is None else max(maps, key=_nan_last),
        None if expected.anomalous is None else sum(decisions),
    )


def _difference(found: np.ndarray, wanted: np.ndarray, group: slice) -> float:
    part = wanted[group]
    if found.shape != part.shape:
        return math.nan  # a batch that comes back shorter, for one
    # Infinities are equal or they are not: their difference is no number.
    with np.errstate(invalid="ignore"):
        apart = np.where(found == part, 0.0, np.abs(found.astype(np.float64) - part))
    return float(apart.max() / _range(wanted))


def _range(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite.astype(np.float64))) if finite.size and not np.isnan(values).any() else math.nan


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
