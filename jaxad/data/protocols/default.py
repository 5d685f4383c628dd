"""How tasks are made: which images train, which choose among detectors, which measure the chosen one once."""

from collections.abc import Sequence

import numpy as np

from jaxad.data.equals import Equals, equality_details, sayings, sort_equals
from jaxad.data.image_set import ImageSet, from_arrays, list_classes, take
from jaxad.data.protocols.splits import (
    anomaly_pool,
    check_enough,
    check_left,
    check_masks_of,
    check_options,
    clean,
    deal,
    halve,
    held_out_counts,
    mix,
    normal_mask,
    present,
    with_shape,
)
from jaxad.data.task import Split, Task, check_task


def out_of_distribution(
    normal: ImageSet,
    anomalous: ImageSet | Sequence[ImageSet],
    *,
    anomaly_ratio: float | None = 0.05,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """One image set is normal, others are anomalous.

    The normal images are shuffled and split; validation and test each get round(c / (1 - c) * n_normal)
    anomalies at anomaly ratio c, drawn without replacement from all anomalous sets together. Where there are
    too few, both parts share them and keep fewer normal images, so that c stays and none is used twice.
    Anomalies take the size, channels and number type of the normal images. Of images with exactly the same
    pixels only one is used, so no picture is in two parts (details["duplicates_dropped"] counts the others), and none
    where one is normal and another anomalous, or their masks differ (details["contradictions"] names them).

    Args:
      normal: the in-distribution images.
      anomalous: one or more other sets.
      anomaly_ratio: anomalous share of validation and test, in [0, 1); None: all anomalies serve, half of them in
        validation, half in test, dealt by kind (class or set), beside all held-out normal images.
      valid_anomalies: exactly so many anomalies in validation, at least 1; by the anomaly ratio when None.
      split: proportions of train, validation and test.
      limit: use at most this many normal images, drawn by `seed`.

    Raises:
      ValueError: values out of range, images in both sets, too few different images for an anomaly in each part or for
        `valid_anomalies` and a test anomaly.

    Source: AutoAD, section V (6:2:2, clean training part, 0.05). Sharing scarce anomalies is our choice.
    """
    check_options(anomaly_ratio, split, limit, valid_anomalies, seed)
    sets = [anomalous] if isinstance(anomalous, ImageSet) else list(anomalous)
    pool = anomaly_pool(normal, sets)
    if normal.masks is not None and pool.masks is not None:  # otherwise none is used
        for dataset, label in ((normal, 0), *((other, 1) for other in sets)):
            check_masks_of(dataset, np.full(len(dataset.ids), label))
    name = name or f"{normal.name} against {pool.name}"
    found, n = _sort(normal, pool), len(normal.ids)
    check_left(normal, pool, found)
    equal, there_were = equality_details(found, [*normal.ids, *pool.ids]), len(pool.ids)
    normal, pool = take(normal, found.keep[:n]), take(pool, found.keep[n:])

    rng = np.random.default_rng(seed)
    train, *held_out = deal(len(normal.ids), split, limit, rng)
    if valid_anomalies is not None or anomaly_ratio != 0:
        wanted = valid_anomalies or 1, int(anomaly_ratio != 0)
        check_enough(name, len(pool.ids), *wanted, there_were=there_were)
    if anomaly_ratio is None:
        anomalies = halve(pool.labels, valid_anomalies, rng)
        counts = [(len(part), len(drawn)) for part, drawn in zip(held_out, anomalies)]
    else:
        counts = held_out_counts([len(part) for part in held_out], len(pool.ids), anomaly_ratio, valid_anomalies)
        anomalies = np.split(rng.permutation(len(pool.ids)), np.cumsum([n_out for _, n_out in counts]))
    mixed = [
        mix(take(normal, part[:n_in]), take(pool, drawn), rng)
        for part, drawn, (n_in, _) in zip(held_out, anomalies, counts)
    ]
    details = {
        "kind": "out-of-distribution",
        "normal": normal.name,
        "anomalous": [s.name for s in sets],
        "anomaly_ratio": anomaly_ratio,
        "anomaly_rule": "all, dealt by kind" if anomaly_ratio is None else "anomaly ratio",
        "valid_anomalies": valid_anomalies,
        "split": [float(share) for share in split],
        "limit": limit,
        "seed": seed,
        **equal,
    }
    task = Task(name, clean(take(normal, train)), *mixed, details)
    return check_task(with_shape(task, normal, *sets), need_anomalies=anomaly_ratio != 0)


def _sort(normal: ImageSet, anomalous: ImageSet) -> Equals:
    """Which images can be used; masks count where all images have one."""
    masks = None
    if normal.masks is not None and anomalous.masks is not None:
        masks = np.concatenate([normal.masks, anomalous.masks])
    labels = np.repeat([0, 1], [len(normal.ids), len(anomalous.ids)])
    return sort_equals([normal.images, anomalous.images], sayings(labels, masks))


def one_class(
    dataset: ImageSet,
    normal_classes: Sequence[str | float] | str | float,
    *,
    anomaly_ratio: float | None = 0.05,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """The chosen classes (names or indices) of one set are normal, all others anomalous.

    All options as in `out_of_distribution`, with the other classes as the anomalous set.

    Raises:
      ValueError: no labels, an unknown class, no class left to be anomalous, or as `out_of_distribution`.
    """
    if np.isscalar(normal_classes):
        normal_classes = [normal_classes]
    is_normal = normal_mask(dataset.name, dataset.labels, dataset.class_names, normal_classes)
    chosen, others = present(dataset, is_normal), present(dataset, ~is_normal)
    if not chosen:
        raise ValueError(
            f"{dataset.name}: none of {len(is_normal)} images is of the normal classes {list(normal_classes)}, there "
            f"are only images of {', '.join(others)}: add normal images, or choose other classes"
        )
    if not others:
        raise ValueError(
            f"{dataset.name}: normal classes {list(normal_classes)} leave no anomalies: "
            f"choose others from {list_classes(dataset.class_names)}"
        )
    check_masks_of(dataset, (~is_normal).astype(int))
    task = out_of_distribution(
        take(dataset, is_normal),
        take(dataset, ~is_normal),
        anomaly_ratio=anomaly_ratio,
        valid_anomalies=valid_anomalies,
        split=split,
        limit=limit,
        seed=seed,
        name=f"{dataset.name}: {', '.join(chosen)} normal",
    )
    changed = {"kind": "one-class", "normal_classes": chosen, "anomalous_classes": others}
    return task._replace(details=task.details | changed)


def task_from_arrays(
    train: np.ndarray,
    valid: tuple[np.ndarray, ...],
    test: tuple[np.ndarray, ...],
    *,
    name: str = "arrays",
) -> Task:
    """A task of a user's own parts.

    Args:
      train: normal images [N, H, W, C], uint8 or floats in [0, 1].
      valid, test: (images, labels) or (images, labels, masks); labels [N], 1 = anomalous; masks [N, H, W].

    Raises:
      ValueError: what `check_images` and `check_task` refuse.
    """

    def part(kind: str, images: np.ndarray, labels: np.ndarray, masks: np.ndarray | None = None) -> Split:
        labels = np.asarray(labels)
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"{name}/{kind}: labels must be 0 (normal) or 1 (anomalous), not {np.unique(labels)[:5]}")
        made = from_arrays(images, labels, masks, name=f"{name}/{kind}", class_names=("normal", "anomalous"))
        return Split(made.images, made.labels, made.masks, made.ids)

    details = {"kind": "arrays", "normal": name, "anomalous": [name]}
    train_part = part("train", train, np.zeros(len(train), np.int32))
    task = Task(name, train_part, part("valid", *valid), part("test", *test), details)
    return check_task(with_shape(task))
