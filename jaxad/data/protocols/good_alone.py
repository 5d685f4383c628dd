"""Tasks of good images alone, whose validation and test anomalies are made of them."""

from collections.abc import Sequence

import numpy as np

from jaxad.data.equals import first_of_equals
from jaxad.data.image_set import ImageSet, take
from jaxad.data.made_anomalies import KINDS, make_anomalies
from jaxad.data.protocols.splits import anomalies_wanted, check_options, clean, deal, mix, with_shape
from jaxad.data.task import Split, Task, check_task

LEAST, MOST = 10, 500  # anomalies that are made for a part
NEEDED = 5  # good images


def good_alone(
    dataset: ImageSet,
    *,
    anomaly_ratio: float | None = None,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """All images of a set are good; anomalies in validation and test are made, with masks.

    The images are shuffled and split. Validation and test each get as many anomalies as they have good images (at least
    10, at most 500), made of these by `make_anomalies`, so that no image of one part is seen in another. Of images with
    exactly the same pixels only one is used.

    What finds these anomalies finds real ones as far as they resemble each other: they rank detectors, and figures on
    them are not figures on real ones. details["made"] names the parts that hold such.

    Args:
      anomaly_ratio: anomalous share of validation and test, above 0 and below 1, instead.
      valid_anomalies: exactly so many anomalies in validation, at least 1.
      split: proportions of train, validation and test.
      limit: use at most this many images, drawn by `seed`.

    Raises:
      ValueError: values out of range, fewer than 5 different images.
    """
    check_options(anomaly_ratio, split, limit, valid_anomalies, seed)
    before = len(dataset.ids)
    dataset = take(dataset, first_of_equals(dataset.images))
    count = min(len(dataset.ids), limit or len(dataset.ids))
    if count < NEEDED:
        raise ValueError(
            f"{dataset.name}: {count} different images are too few to train, validate and test: give at least {NEEDED}"
            f"{f' (there are {before}, some of them equal)' if before > len(dataset.ids) else ''}"
        )
    rng = np.random.default_rng(seed)
    train, *held_out = deal(len(dataset.ids), split, limit, rng)
    counts = [_count(len(part), anomaly_ratio) for part in held_out]
    counts[0] = valid_anomalies or counts[0]
    mixed = [
        _with_made(take(dataset, index), count, (seed, part), rng)
        for part, (index, count) in enumerate(zip(held_out, counts))
    ]
    details = {
        "kind": "good alone, anomalies made",
        "made": ["valid", "test"],
        "normal": dataset.name,
        "anomalous": list(KINDS),
        "anomaly_ratio": anomaly_ratio,
        "valid_anomalies": valid_anomalies,
        "split": [float(share) for share in split],
        "limit": limit,
        "seed": seed,
        "duplicates_dropped": before - len(dataset.ids),
    }
    task = Task(f"{dataset.name}: good alone, anomalies made", clean(take(dataset, train)), *mixed, details)
    return check_task(with_shape(task, dataset))


def _count(n: int, anomaly_ratio: float | None) -> int:
    """How many anomalies are made for a part of n good images."""
    return min(max(n, LEAST), MOST) if anomaly_ratio is None else max(1, anomalies_wanted(n, anomaly_ratio))


def _with_made(normal: ImageSet, count: int, seed: tuple[int, int], rng: np.random.Generator) -> Split:
    """A held-out part of good images and anomalies made of them."""
    made = make_anomalies(normal.images, count, seed=seed)
    pairs = enumerate(zip(normal.ids[made.bases], made.kinds))
    ids = np.array([f"{name} with a made {kind} ({i})" for i, (name, kind) in pairs])
    anomalous = ImageSet("made", made.images, None, (), made.masks, ids)
    blank = np.zeros(normal.images.shape[:3], np.uint8)
    return mix(normal._replace(masks=blank), anomalous, rng)
