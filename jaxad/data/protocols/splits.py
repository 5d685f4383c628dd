"""What the protocols share: options, classes, how many anomalies, and how parts are drawn and put together."""

from collections.abc import Sequence

import numpy as np

from jaxad._utils.validate import check_seed, check_whole
from jaxad.data.equals import Equals, constant_images, contradiction_words, equality_details
from jaxad.data.image_set import ImageSet, class_index, class_indices
from jaxad.data.images import resize, to_channels, to_dtype
from jaxad.data.provenance import reading_details
from jaxad.data.task import Split, Task, check_agreement


def check_options(
    anomaly_ratio: float | None,
    split: Sequence[float],
    limit: int | None,
    valid_anomalies: int | None = None,
    seed: int = 0,
) -> None:
    """Raises ValueError unless the options of a task are in range."""
    check_seed(seed)
    counts = {"limit": limit, "valid_anomalies": valid_anomalies}
    check_whole(**{name: value for name, value in counts.items() if value is not None})
    if anomaly_ratio is not None and not 0 <= anomaly_ratio < 1:
        raise ValueError(f"anomaly_ratio {anomaly_ratio} is outside [0, 1): 0.05 means 5% anomalies")
    if len(split) != 3 or not all(share > 0 for share in split):
        raise ValueError(f"split {tuple(split)} needs three positive shares: train, validation, test, such as 6 2 2")
    if limit is not None and limit < 3:
        raise ValueError(f"limit {limit} is too small: each of three parts needs a normal image")
    if valid_anomalies is not None and valid_anomalies < 1:
        raise ValueError(f"valid_anomalies {valid_anomalies} is too small: give at least 1, or leave it out")


def normal_mask(
    name: str, labels: np.ndarray | None, class_names: Sequence[str], normal_classes: Sequence[str | float]
) -> np.ndarray:
    """[N] booleans: whether each image is of one of the normal classes."""
    if labels is None:
        raise ValueError(f"{name} has no labels, so no class can be normal: add labels, or name another set as ood")
    return np.isin(labels, class_indices(name, class_names, normal_classes))


def present(dataset: ImageSet, mask: np.ndarray) -> list[str]:
    """The classes that the masked ([N] booleans) images are of."""
    return [dataset.class_names[i] for i in np.unique(dataset.labels[mask])]


def anomaly_pool(normal: ImageSet, anomalous: Sequence[ImageSet]) -> ImageSet:
    """All anomalous sets as one, in the size, channels and number type of the normal images, with masks if all have.

    Its labels are kinds of anomalies: each set and, where it has some, each of its classes.

    Raises:
      ValueError: no set, or images that are among the normal ones.
    """
    if not anomalous:
        raise ValueError("no anomalous image set given: name at least one")
    size, channels = normal.images.shape[1:3], normal.images.shape[3]
    matched = [to_dtype(to_channels(resize(s.images, size), channels), normal.images.dtype) for s in anomalous]
    have_masks = all(s.masks is not None and s.images.shape[1:3] == size for s in anomalous)
    kinds = [f"{i} {0 if s.labels is None else k}" for i, s in enumerate(anomalous) for k in _classes(s)]
    pool = ImageSet(
        "+".join(s.name for s in anomalous),
        np.concatenate(matched),
        *class_index(np.array(kinds)),
        np.concatenate([s.masks for s in anomalous]) if have_masks else None,
        np.concatenate([s.ids for s in anomalous]),
    )
    if len(np.unique(np.concatenate([normal.ids, pool.ids]))) < len(normal.ids) + len(pool.ids):
        raise ValueError(f"{normal.name} and {pool.name} share images: an image cannot be normal and anomalous")
    return pool


def _classes(dataset: ImageSet) -> np.ndarray:
    return np.zeros(len(dataset.ids), int) if dataset.labels is None else dataset.labels


def halve(kinds: np.ndarray, first: int | None, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of all images, shuffled and dealt to two parts, which get each kind ([N] integers) in equal shares.

    The first part gets so many, half of them (rounded up) where that is None.
    """
    shuffled = rng.permutation(len(kinds))
    dealt = shuffled[np.argsort(kinds[shuffled], kind="stable")]
    if first is None:  # in turns, so that of no kind one part has two images more
        return [dealt[::2], dealt[1::2]]
    chosen = ((np.arange(first) + 0.5) * len(kinds) / first).astype(int)
    return [dealt[chosen], np.delete(dealt, chosen)]


def alike(*sets: ImageSet) -> list[ImageSet]:
    """Parts of one set, in RGB where one of them is, and float32 where one has more than 8 bits."""
    channels = max(part.images.shape[3] for part in sets)
    dtype = np.uint8 if all(part.images.dtype == np.uint8 for part in sets) else np.float32
    return [part._replace(images=to_dtype(to_channels(part.images, channels), dtype)) for part in sets]


def anomalies_wanted(n_normal: int, anomaly_ratio: float) -> int:
    """How many anomalies beside n normal images make the anomaly ratio: round(c / (1 - c) * n)."""
    return round(anomaly_ratio / (1 - anomaly_ratio) * n_normal)


def held_out_counts(
    normals: Sequence[int], available: int, anomaly_ratio: float, first: int | None = None
) -> list[tuple[int, int]]:
    """(normal, anomalous) counts of held-out parts, within the normals each has and the anomalies there are.

    Where anomalies are scarce, parts keep fewer normal images, so that the anomaly ratio stays. The first part has
    all its normal images and exactly `first` anomalies unless that is None.
    """
    if first is not None:
        return [(normals[0], first), *held_out_counts(normals[1:], available - first, anomaly_ratio)]
    wanted = [anomalies_wanted(n, anomaly_ratio) for n in normals]
    if sum(wanted) <= available:
        return list(zip(normals, wanted))
    shares = [available * w // sum(wanted) for w in wanted]
    counts = []
    for n, share in zip(normals, shares):
        n_in = min(n, round(share * (1 - anomaly_ratio) / anomaly_ratio))
        while anomalies_wanted(n_in, anomaly_ratio) > share:
            n_in -= 1
        counts.append((n_in, anomalies_wanted(n_in, anomaly_ratio)))
    return counts


def check_enough(name: str, available: int, valid: int, test: int, *, there_were: int = 0) -> None:
    """Raises ValueError unless there are anomalies enough for both parts.

    Args:
      there_were: how many, where some were left out since they are equal to other images.
    """
    if valid + test > available:
        left = f" (of {there_were}, the others being equal to other images)" if there_were > available else ""
        lower = "" if valid + test == 2 else "lower valid_anomalies or anomaly_ratio, or "
        raise ValueError(
            f"{name}: {available} anomalies{left} are too few for at least {valid} in validation and {test} in test: "
            f"{lower}give more anomalous images"
        )


def check_masks_of(dataset: ImageSet, labels: np.ndarray, where: str = "") -> None:
    """Raises ValueError where the masks of a set contradict what its images are ([N] integers, 0 is normal)."""
    if dataset.masks is not None:
        resized = dataset.reading is not None and bool(dataset.reading.fit)
        check_agreement(labels, dataset.masks, dataset.ids, where or dataset.name, resized=resized)


def check_left(normal: ImageSet, anomalous: ImageSet, found: Equals, parts: int = 3) -> None:
    """Raises ValueError, naming the cause, where equal images leave no anomaly, or too few normal images for the parts.

    Args:
      normal, anomalous: all images there were.
      found: what `sort_equals` says of them, normal images last but for the anomalous ones.
    """
    there, n = len(normal.ids), len(anomalous.ids)
    keep = found.keep[-there - n :]
    left, left_anomalous = int(keep[:there].sum()), int(keep[there:].sum())
    before = [""] * (len(found.keep) - there - n)
    contradictions = equality_details(found, [*before, *normal.ids, *anomalous.ids]).get("contradictions")
    if n and not left_anomalous:
        named = f" ({', '.join(contradictions['named'])} ...)" if contradictions else ""
        raise ValueError(
            f"{normal.name}: each of {n} anomalous images is equal to a normal one, or to one with another mask{named}"
            ": a picture is one or the other; give others, or correct their labels"
        )
    if left < parts:
        why = ""
        if left < there:
            why = f", and these are {left} different one(s)"
            why += "; each has one colour throughout" if constant_images(normal.images).all() else ""
            why += f"; {contradiction_words(contradictions)}" if contradictions else ""
        raise ValueError(
            f"{normal.name}: there are {there} normal image(s){why}; training, validation and test need {parts} "
            "at least: give more, and check how these were taken and read"
        )


def deal(n: int, split: Sequence[float], limit: int | None, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of n images, shuffled, at most `limit` of them, cut in the proportions of `split`; no part without any.

    (Unless there are fewer images than parts.)
    """
    chosen = rng.permutation(n)[:limit]
    bounds = np.rint(np.cumsum(split) / np.sum(split) * len(chosen)).astype(int)
    if len(chosen) >= len(split):
        before = np.arange(len(split))  # so many parts come before each
        bounds = np.maximum.accumulate(np.maximum(bounds, 1) - before) + before
        bounds = np.minimum(bounds, len(chosen) - before[::-1])
    return np.split(chosen, bounds[:-1])


def clean(normal: ImageSet) -> Split:
    """Normal images as the training part."""
    return Split(normal.images, np.zeros(len(normal.ids), np.int32), None, normal.ids, normal.labels)


def mix(normal: ImageSet, anomalous: ImageSet, rng: np.random.Generator) -> Split:
    """Normal and anomalous images as one held-out part, with masks if both have them."""
    # Shuffled, so that a batch or the first k images are a fair sample and position says nothing.
    n, k = len(normal.ids), len(anomalous.ids)
    order = rng.permutation(n + k)
    have_masks = normal.masks is not None and anomalous.masks is not None
    masks = np.concatenate([normal.masks, anomalous.masks])[order] if have_masks else None
    labels = np.repeat(np.array([0, 1], np.int32), [n, k])[order]
    images = np.concatenate([normal.images, anomalous.images])[order]
    return Split(images, labels, masks, np.concatenate([normal.ids, anomalous.ids])[order])


def with_shape(task: Task, *sets: ImageSet) -> Task:
    """The task with the form of its images among its details, and what came of reading the sets, normal ones first."""
    images = task.train.images
    details = {"shape": list(images.shape[1:]), "dtype": str(images.dtype)}
    return task._replace(details=task.details | details | reading_details((s.reading for s in sets), images))
