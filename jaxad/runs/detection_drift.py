"""Whether the scores of images that are being detected still fit calibration: said when they do not, and kept."""

from pathlib import Path

import numpy as np

from jaxad._utils.files import write_json
from jaxad.data.tiles import Tiling
from jaxad.metrics.drift import Look, facts, said
from jaxad.runs.detection_results import warn
from jaxad.runs.predictor import Predictor
from jaxad.runs.progress import line, table


class StreamDrift:
    """Takes note of scores as they come.

    A misfit is named on standard error when it begins. What is known is written after every question and in the end,
    so that a watch that is killed leaves it.

    Args:
      path: of a file in JSON with what is known; none is written where there is nothing to compare.
      level, tiling: as in `Predictor.monitor`.
    """

    def __init__(self, path: Path, loaded: Predictor, *, level: float, tiling: Tiling = None) -> None:
        self._path, self._fitted, self._monitor, self._reason = path, True, None, ""
        try:
            self._monitor = loaded.monitor(level=level, tiling=tiling)
        except ValueError as error:
            self._reason = str(error)

    def add(self, scores: np.ndarray) -> None:
        """Take note of scores [k]; ValueError where the file cannot be written."""
        if self._monitor is not None and (looks := self._monitor.add(scores)):
            self._said(looks)

    def finish(self) -> None:
        """Ask about the latest scores, too."""
        if self._monitor is not None:
            look = self._monitor.finish()
            self._said([] if look is None else [look])

    def show(self) -> None:
        """Print the share flagged and the quantiles of scores beside those of calibration."""
        if self._monitor is None:
            line(f"drift: not tested: {self._reason}")
            return
        drift = self._monitor.state()
        rows = [("images", drift.calibration, drift.images)]
        if drift.flagged is not None:
            rows.append(("flagged", f"{drift.calibration_flagged:.1%}", f"{drift.flagged:.1%}"))
        rows += [(f"quantile {share}", *values) for share, values in drift.quantiles.items()]
        fits = {None: "too few images to ask whether they fit", True: "they fit", False: "they do not fit"}[drift.fits]
        table(f"scores, {fits} (level {drift.level:g})", ("", "calibration", "these"), rows)

    def _said(self, looks: list[Look]) -> None:
        drift = self._monitor.state()
        for look in looks:
            if not look.fits and self._fitted:
                warn(f"drift: {said(look, drift)}")
            self._fitted = look.fits
        write_json(self._path, facts(drift))
