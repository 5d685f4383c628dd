"""From anomaly maps to masks and their figures, where all that is known of truth is a few labelled images.

A reading says how maps become masks: where they exceed a threshold, with or without a dense CRF behind it. It is chosen
by the pooled F1 on the labelled images, so that no mask of a test image has a part in it.
"""

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxad.data.batches import to_float
from jaxad.metrics.pixel import best_threshold, normal_threshold, pixel_scores
from jaxad.nn.crf import CRFConfig, refine
from jaxad.types import Array

Record = Mapping[str, Any]  # of one training of one method, plain data


class Reading(NamedTuple):
    """How maps [N, H, W] become masks."""

    threshold: float
    crf: CRFConfig | None = None  # of probabilities sigmoid(map - threshold), for maps that are logits


def read(reading: Reading, maps: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Masks [N, H, W] bool of maps and their images [N, H, W, C]."""
    if reading.crf is None:
        return np.asarray(maps, np.float64) > reading.threshold
    return np.asarray(_refiner(reading.crf)(maps, images, np.float32(reading.threshold))) > 0.5


@functools.lru_cache(maxsize=8)
def _refiner(crf: CRFConfig) -> Callable[[Array, Array, Array], Array]:
    return jax.jit(lambda maps, images, cut: refine(jax.nn.sigmoid(maps - cut), to_float(images), crf))


def readings_of(maps: np.ndarray, masks: np.ndarray, crf: CRFConfig | None) -> dict[str, Reading]:
    """All readings there are to choose from, by name: the best threshold of labelled maps, and for logits more.

    maps, masks: [n, H, W] of the labelled images. Where maps are logits (a `crf` is given) they may also be cut at 0,
    probability 1/2, and either may have the CRF behind it.
    """
    plain = Reading(best_threshold(maps, masks))
    if crf is None:
        return {"threshold": plain}
    half = Reading(0.0)
    return {
        "threshold": plain, "threshold, CRF": plain._replace(crf=crf), "1/2": half, "1/2, CRF": half._replace(crf=crf),
    }  # fmt: skip


def reading_of_normals(maps: np.ndarray) -> dict[str, Reading]:
    """The one reading that maps [n, H, W] of images without defects allow: MVTec AD's rule, see `normal_threshold`."""
    return {"good images": Reading(normal_threshold(maps))}


def choose_reading(
    readings: Mapping[str, Reading], maps: np.ndarray, masks: np.ndarray, images: np.ndarray
) -> tuple[str, float]:
    """The name of the reading with the best F1 on labelled images, of equals the first, and that F1.

    maps, masks: [n, H, W]; images: [n, H, W, C].
    """
    scores = {name: pixel_scores(read(reading, maps, images), masks).f1 for name, reading in readings.items()}
    best = max(scores, key=scores.__getitem__)
    return best, scores[best]


def image_rows(ids: Sequence[str], predicted: np.ndarray, masks: np.ndarray, maps: np.ndarray) -> list[list[Any]]:
    """Of every image its id, pixels that are anomalous, predicted, and both, and its largest score."""
    rows = []
    for name, mine, true, values in zip(ids, predicted, masks > 0, maps):
        rows.append([str(name), int(true.sum()), int(mine.sum()), int((mine & true).sum()), float(values.max())])
    return rows


def image_table(records: Sequence[Record]) -> str:
    """CSV of every method, seed and test image, from the `image_rows` that records have as "images"."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "seed", "id", "anomalous", "predicted", "both", "score"))
    for record in records:
        writer.writerows((record["method"], record["seed"], *row) for row in record["images"])
    return text.getvalue()


def over_seeds(records: Sequence[Record], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row for every method: of each metric all values, mean and sd, and of F1 the gap to the first method's.

    {"method", metric: {"values", "mean", "sd"}, "f1_gap": {"values", "mean", "low", "high"}}: the gap is the first
    method's F1 minus this one's, seed by seed, its interval Student's t (None for a single seed).
    """
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record["method"], {})[record["seed"]] = record
    first, rows = next(iter(found.values())), []
    for name, mine in found.items():
        row: dict[str, Any] = {"method": name}
        for metric in metrics:
            values = np.array([one["test"][metric]["value"] for one in mine.values()])
            sd = float(values.std(ddof=1)) if len(values) > 1 else None
            row[metric] = {"values": values.tolist(), "mean": float(values.mean()), "sd": sd}
        gaps = [first[seed]["test"]["f1"]["value"] - mine[seed]["test"]["f1"]["value"] for seed in mine]
        low, high = student_interval(gaps) or (None, None)
        row["f1_gap"] = {"values": gaps, "mean": float(np.mean(gaps)), "low": low, "high": high}
        rows.append(row)
    return rows


def mean_over_seeds(records: Sequence[Record]) -> dict[str, Any]:
    """Of one method every metric's {"value", "low", "high"} over its seeds, by Student's t, within [0, 1].

    Of a single seed, what its own interval over images says.
    """
    tests = [record["test"] for record in records]
    if len(tests) == 1:
        return dict(tests[0])
    out: dict[str, Any] = {}
    for name, entry in tests[0].items():
        if name == "rpro_threshold":
            continue  # every seed has its own scale
        values = [test[name]["value"] if isinstance(entry, Mapping) else test[name] for test in tests]
        out[name] = float(np.mean(values))
        if isinstance(entry, Mapping):
            low, high = student_interval(values)
            out[name] = {"value": out[name], "low": max(low, 0.0), "high": min(high, 1.0)}
    return out


def student_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mean of independent values by Student's t; None for a single one."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean, half = np.mean(values), t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(mean - half), float(mean + half)


def notes(setting: str, *, small: bool) -> list[str]:
    """What a reader should know before comparing the figures with others.

    Args:
      setting: of the task.
      small: whether networks and images are smaller than the thesis's.
    """
    if setting == "clean":
        lines = ["Training, and the threshold, have images without defects alone; tested are those with some."]
    else:
        lines = [
            "Thresholds, and whether the CRF is used, have the best F1 on the labelled images; no test mask is seen."
        ]
    if setting == "transductive":
        lines.append("Transductive: all but the U-Net train on the test images, without their masks.")
    if small:
        lines.append("Images, patches and networks are smaller, and steps far fewer, than the thesis's.")
    return lines


def summary(records: Sequence[Record], seeds: Sequence[int], metrics: Sequence[str]) -> dict[str, Any]:
    """What results.json says of the records of all methods and seeds, those of the method that is shown first."""
    over = "seeds, by Student's t" if len(seeds) > 1 else "test images, by bootstrap"
    trainings = [{name: one[name] for name in one if name not in ("images", "curves")} for one in records]
    return {
        "method": records[0]["method"],
        "seeds": list(seeds),
        "segmentation": mean_over_seeds(records[: len(seeds)]),
        "intervals": f"Intervals are 95 % intervals over {over}.",
        "comparison": over_seeds(records, metrics),
        "trainings": trainings,
        "seconds": sum(record["seconds"] for record in records),
    }
