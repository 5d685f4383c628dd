"""Scores of calibration beside a saved detector: those of the held-out normal images that its threshold was set on.

With them a threshold can be set for another rate of false alarms, and new scores be compared. Detectors that versions
before 0.3.0 saved have none of their own; what is in best/ of a run finds its in predictions.csv.
"""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxad.metrics.thresholds import Threshold, false_positive_rate
from jaxad.training import checkpoint

NAME = "calibration.safetensors"


def checked(scores: Any) -> np.ndarray | None:
    """Scores [n] as they are kept, float32 and sorted; ValueError for none and NaN."""
    if scores is None:
        return None
    kept = np.sort(np.asarray(scores, np.float32))
    if kept.ndim != 1 or not len(kept) or np.isnan(kept).any():
        raise ValueError(f"calibration has shape {kept.shape} and {np.isnan(kept).sum()} NaN; give a vector of scores")
    return kept


def write(folder: Path, scores: np.ndarray | None, of: Mapping[str, Any]) -> None:
    """Keep `checked` scores with what they belong to, in place of any that are there."""
    if scores is not None:
        checkpoint.save(folder / NAME, {"scores": scores}, metadata={"n": len(scores), "of": dict(of)})
    else:
        with suppress(OSError):  # where there are some of another detector
            (folder / NAME).unlink(missing_ok=True)


def read(folder: Path, threshold: Threshold | None, of: Mapping[str, Any]) -> np.ndarray | None:
    """The scores [n] of a folder, read-only; None where there are none. ValueError for those of another detector."""
    path = folder / NAME
    if path.exists():
        known = checkpoint.read_metadata(path)
        if known.get("of") != dict(of):
            raise ValueError(f"{path} belongs to another detector than detector.json; copy all files from one run")
        scores = checkpoint.restore(path, {"scores": np.empty(known["n"], np.float32)})["scores"]
    else:
        scores = _of_earlier_run(folder, threshold)
    if scores is not None:
        scores.setflags(write=False)
    return scores


def _of_earlier_run(folder: Path, threshold: Threshold | None) -> np.ndarray | None:
    """Of the run whose best/ a folder is, those of predictions.csv, if they give the threshold again."""
    if threshold is None or threshold.method != "false_positive_rate" or folder.name != "best":
        return None
    with suppress(OSError, ValueError, KeyError), open(folder.parent / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "valid" and row["label"] == "0"]
        scores = np.sort(np.array([row["score"] for row in rows], np.float32))
        if false_positive_rate(scores, threshold.details["target"]).value == threshold.value:
            return scores
    return None
