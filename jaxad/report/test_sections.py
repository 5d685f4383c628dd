"""The sections on the detector's one test: its metrics, what its threshold does, and what it sees."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxad.report import plots
from jaxad.report.format import METRICS, PIXEL_METRICS, interval
from jaxad.report.html import Figure, Table, Text, number

PIXELS = "Where the detector sees anomalies, against the masks; the threshold was set on held-out normal images."


def result_parts(test: Mapping, threshold: Any, pictures: Mapping[str, Any]) -> list[Any]:
    """Table of metrics, what the threshold does, ROC curve and histogram."""
    parts: list[Any] = []
    rows = _metric_rows(test)
    if rows:
        columns = ["Metric", "Value", "95 % interval", "Chance", "What it says"]
        caption = "Intervals are bootstrap intervals over the test images."
        parts.append(Table(columns=columns, rows=rows, caption=caption))
    if pictures.get("test_scores") is None or pictures.get("test_labels") is None:
        return parts
    scores, labels = np.asarray(pictures["test_scores"]), np.asarray(pictures["test_labels"]).astype(bool)
    threshold = interval(threshold)[0]
    if threshold is not None:
        parts.append(_at_threshold(labels, scores, threshold))
    auroc = interval(test.get("auroc"))
    valid = (pictures.get("valid_labels"), pictures.get("valid_scores"))
    roc = plots.roc_curve(
        labels,
        scores,
        interval=None if None in auroc else auroc,
        validation=None if valid[0] is None or valid[1] is None else valid,
    )
    caption = "Test ROC curve with its 95 % bootstrap band, and validation beside it."
    parts.append(Figure(drawing=roc, alt=f"{caption} AUROC {number(auroc[0])}.", caption=caption))
    histogram = plots.score_histogram(labels, scores, threshold=threshold)
    caption = "Test scores of normal and anomalous images, each as shares of its own class."
    parts.append(Figure(drawing=histogram, alt=caption, caption=caption))
    return parts


def pixel_parts(measured: Mapping[str, Any]) -> list[Any]:
    """Table of pixel metrics, of results["segmentation"]; nothing without it."""
    return [] if not measured else [Text(text=PIXELS), *result_parts(measured, None, {})]


def _metric_rows(test: Mapping[str, Any]) -> list[list[Any]]:
    """Metric, value, interval, chance and meaning; unknown metrics are shown without the last two."""
    prevalence = test.get("prevalence")
    chance = {"auroc": 0.5, "fpr95": 0.95, "f1_max": test.get("f1_all_anomalous"), "aupr_out": prevalence}
    chance |= {"pixel_auroc": 0.5, "au_pro": 0.15, "f1": test.get("f1_all_anomalous")}
    chance["aupr_in"] = None if prevalence is None else 1 - prevalence
    known = METRICS | PIXEL_METRICS
    names = [name for name in known if name in test]
    names += [name for name in test if name not in (*known, "prevalence", "f1_all_anomalous")]
    rows = []
    for name in names:
        value, low, high = interval(test[name])
        if isinstance(value, (list, Mapping, str)):
            continue
        label, meaning = known.get(name, (name.replace("_", " "), ""))
        span = "–" if low is None or high is None else f"{number(low)} – {number(high)}"
        rows.append([label, value, span, chance.get(name), meaning])
    return rows


def _at_threshold(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Text:
    """What the threshold would have done on the test set, in counts."""
    flagged = scores > threshold
    found, missed = int(np.sum(flagged & labels)), int(np.sum(~flagged & labels))
    alarms, quiet = int(np.sum(flagged & ~labels)), int(np.sum(~flagged & ~labels))
    text = f"At the threshold {number(threshold)}, chosen before the test, {found:,} of {found + missed:,} "
    text += f"anomalies are found and {alarms:,} of {alarms + quiet:,} normal images are flagged by mistake."
    return Text(text=text)


def example_parts(pictures: Mapping[str, Any]) -> list[Any]:
    """Inputs beside reconstructions and error maps."""
    if pictures.get("inputs") is None or not len(pictures["inputs"]):
        return []
    labels = pictures.get("example_labels")
    drawing = plots.reconstructions(
        pictures["inputs"],
        np.zeros(len(pictures["inputs"])) if labels is None else labels,
        reconstructed=pictures.get("reconstructions"),
        error_maps=pictures.get("error_maps"),
        scores=pictures.get("example_scores"),
        masks=pictures.get("example_masks"),
        flagged=pictures.get("flagged"),
    )
    caption = "Test images with their scores, reconstructions and error per pixel, all errors on one colour scale."
    if pictures.get("example_masks") is not None:
        caption = "Test images with their scores and masks, error per pixel on one colour scale, and what is flagged."
    return [Figure(drawing=drawing, alt=caption, caption=caption, wide=True)]
