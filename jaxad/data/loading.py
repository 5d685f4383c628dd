"""From names to a task: the one call that a script makes."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxad.data.depth import ranges_of
from jaxad.data.fitting import AUTO_SIDE, Fit, ImageSize
from jaxad.data.image_set import ImageSet, class_indices
from jaxad.data.images import image_shape
from jaxad.data.near_copies import near_details
from jaxad.data.protocols.default import one_class, out_of_distribution
from jaxad.data.protocols.given_parts import segmentation
from jaxad.data.protocols.good_alone import good_alone
from jaxad.data.protocols.official_test import official_split
from jaxad.data.protocols.splits import anomalies_wanted, check_options, normal_mask
from jaxad.data.protocols.tiled import side_to_cut, tiled_task
from jaxad.data.provenance import Reading
from jaxad.data.sources.registry import Choose, Labels, load, source_of
from jaxad.data.task import Task, parts

FEW = 500  # anomalies up to which all serve, where nobody says how many
DEFAULT_RATIO = 0.05  # AutoAD, section V
PAINTED = 0.4  # share of painted crops with defects: two fifths of all crops are good and train


def load_task(
    dataset: str,
    *,
    ood: str | Sequence[str] | None = None,
    normal_classes: Sequence[str | float] | str | float | None = None,
    data_dir: str | os.PathLike | None = None,
    normal_split: str = "train",
    anomaly_split: str = "test",
    test_split: str | None = None,
    anomaly_ratio: float | None = None,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    image_size: ImageSize | Sequence[int] = "auto",
    fit: Fit = "stretch",
    auto_side: int = AUTO_SIDE,
    value_range: Sequence[float] | None = None,
    tiles: int = 1,
    label: str | None = None,
    seed: int = 0,
) -> Task:
    """Loads image sets and makes an anomaly detection task of them: training, validation and test images.

    "mvtec:..." and "painted:..." are segmentation tasks; `ood` makes an out-of-distribution task (of the normal
    classes alone, where these are given too); `normal_classes` a one-class task; digits and textures have a default.
    What "folder:PATH" is depends on what is in it, and the table of the task says what was found: with train/ and test/
    it is as "mvtec:PATH" or "btad:PATH", where masks may be missing, with Data/Images as "visa:PATH", with a listing
    (or as one) as "csv:FILE"; of class sub-folders the one called good, normal, ok or regular is the default; of good
    images alone (directly in it, or in one sub-folder) anomalies in validation and test are made, see
    `jaxad.data.good_alone`.
    Of images of your own in arrays `jaxad.data.task_from_arrays` makes one.

    Args:
      dataset: "digits", "textures:SIZE", "painted:TEXTURE:SIZE", "folder:PATH", "mvtec:PATH/CATEGORY",
        "btad:PATH/PRODUCT", "visa:PATH/CATEGORY", "csv:FILE", "npz:FILE", "idx:FOLDER", "pairs:FOLDER", the name of a
        set of TensorFlow Datasets such as "fashion_mnist", or another source that is registered;
        `jaxad.data.available` lists all.
      ood: names of anomalous sets; noise ("gaussian", "uniform") takes the shape of the normal images.
      normal_classes: names or indices of classes.
      data_dir: folder of prepared TFDS sets; by default the one that TFDS_DATA_DIR names.
      normal_split: part of a TFDS or IDX set that is split into train, validation and test; a one-class task
        takes its anomalies from it as well.
      anomaly_split: part of the `ood` sets that anomalies are drawn from.
      test_split: part of a TFDS or IDX set to test on, such as "test", instead of a share of `normal_split`: all of it
        in a one-class task, otherwise its normal images and anomalies; see `official_split`.
      anomaly_ratio: share of anomalies in validation and test, 0 to below 1. By default all anomalies serve, half of
        them in validation, half in test, where there are at most 500 and the source states no share of its own (files
        of yours state none); otherwise the source's share, 0.05 for most.
      valid_anomalies: number of anomalies in validation, whatever the ratio.
      split: shares of normal images in training, validation and test.
      limit: use at most so many normal images; with `test_split` of training and validation alone, in a segmentation
        task of training alone.
      image_size: side or (height, width) in pixels to bring all images to; None leaves them as they are. By default
        images of one size that are at most 64 pixels on their longer side stay, and all others become squares.
      fit: how other shapes become squares: "stretch", "pad" (shrunk, with black around) or "crop" (the middle).
      auto_side: side of the squares that they become by default.
      value_range: (low, high), the values that are black and white in files of more than 8 bits; by default what the
        files say, the bits in use, or the least and the greatest value of the training part, see `jaxad.data.depth`.
      tiles: cut every image into so many overlapping tiles along each side, of the size that images have otherwise, and
        take each for an image; see `jaxad.data.protocols.tiled`.
      label: the label feature of a TFDS set that holds its classes, such as "coarse_label" of cifar100; by default the
        first.
      seed: of everything that is drawn; the same seed gives the same task.

    Returns:
      A `Task` of uint8 images (float32 in [0, 1] where a source has more than 8 bits) with labels, and masks where it
      has some. Training images are normal.

    Raises:
      ValueError: an unknown set or class, a part or option that a set does not have, too few images or anomalies; in
        one line that names the remedy.

    >>> import jaxad
    >>> task = jaxad.load_task("digits", normal_classes=["0", "1"], anomaly_ratio=0.2)
    >>> task.train.images.shape[1:], task.train.images.dtype, int(task.train.labels.sum())
    ((8, 8, 1), dtype('uint8'), 0)
    >>> round(float(task.test.labels.mean()), 2)
    0.2

    Source: AutoAD, section V. Splitting the `train` part 6:2:2 is our reading of "each set". One class of the official
    training part against the whole test part, and a number of validation anomalies, are the protocols of AGAD and AMA.
    """
    if tiles != 1:
        given = {name: value for name, value in locals().items() if name not in ("dataset", "tiles", "image_size")}
        size = auto_side if image_size == "auto" else image_size
        larger = None if size is None else tuple(side_to_cut(side, tiles) for side in image_shape(size))
        return tiled_task(load_task(dataset, **given, image_size=larger), tiles)
    ood = [ood] if isinstance(ood, str) else list(ood or ())
    if normal_classes is None or np.isscalar(normal_classes):
        normal_classes = [] if normal_classes is None else [normal_classes]
    normal_classes = list(normal_classes)
    if dataset in ood:
        raise ValueError(f"{dataset} cannot be normal and anomalous: name another set as ood, or normal classes")
    check_options(anomaly_ratio, split, limit, valid_anomalies, seed)
    options = {"valid_anomalies": valid_anomalies, "split": split, "limit": limit, "seed": seed}
    common = {
        "data_dir": data_dir, "image_size": image_size, "fit": fit, "auto_side": auto_side, "value_range": value_range,
        "label": label, "seed": seed,
    }  # fmt: skip
    entry = source_of(dataset)
    own = entry.anomaly_ratio is None  # what comes with the library, or is published as a set, states one
    if entry.defects:
        if ood or (normal_classes and tuple(normal_classes) != entry.normal):
            raise ValueError(f"{dataset} has its own anomalies: leave out ood and normal classes")
        if valid_anomalies is not None or test_split is not None:
            raise ValueError(f"{dataset} has its own test part, to be halved: leave out valid_anomalies and test_split")
        train, test = _given_parts(dataset, limit, common)
        valid = load(dataset, split="valid", **_like(train, common)) if "valid" in (entry.parts or ()) else None
        return _said(segmentation(train, test, valid=valid, limit=limit, seed=seed), fit, own=own)
    if test_split is not None and entry.parts == ():
        raise ValueError(
            f"{dataset} has no part {test_split!r} to test on: leave out test_split, or name a TFDS or IDX set"
        )
    if entry.good and not ood:

        def alone(good: ImageSet) -> Task:
            if normal_classes:
                class_indices(dataset, good.class_names, normal_classes)
            return good_alone(good, **options, anomaly_ratio=anomaly_ratio)

        task = _by_training(lambda like: load(dataset, limit=limit, like=like, **common), alone)
        return _said(task, fit, own=own)
    by_name = ""
    if not ood and not normal_classes:
        if not entry.normal:
            classes = ", ".join(_class_names(dataset, normal_split, common)[:20]) or "none, it has no labels"
            raise ValueError(
                f"what is anomalous for {dataset}? Name other sets (ood) or normal classes among: {classes}"
            )
        normal_classes = list(entry.normal)
        by_name = "" if entry.look is None else entry.normal[0]
    ratio = next((r for r in (anomaly_ratio, entry.anomaly_ratio) if r is not None), DEFAULT_RATIO)
    stated = (anomaly_ratio, test_split, entry.anomaly_ratio, *(source_of(name).anomaly_ratio for name in ood))
    most = FEW if all(item is None for item in stated) else 0  # anomalies that may all serve
    counts: list[int] = []  # how many anomalies there are in each set, of which some may not be loaded
    n_tested = 0  # images of a test part that anomalies of other sets come to

    def wanted(there_are: int) -> int | None:
        counts.append(there_are)
        if there_are <= most or limit is None:
            return None
        # Anomalies for both held-out parts, twice as many as needed because copies of other images are left out.
        return max(2 * (anomalies_wanted(limit + n_tested, ratio) + (valid_anomalies or 0)), 1)

    def sample(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        return np.sort(np.random.default_rng(seed).permutation(n)[: wanted(n)])

    choose = _choose(dataset, normal_classes, limit, (lambda _: 0) if ood else wanted, seed) if normal_classes else None

    def read(like: ImageSet | None) -> ImageSet:
        counts.clear()
        return load(dataset, split=normal_split, limit=limit, choose=choose, like=like, **common)

    def make(loaded: ImageSet) -> Task:
        nonlocal n_tested
        tested = None if test_split is None else load(dataset, split=test_split, **_like(loaded, common))
        n_tested = len(tested.ids) if ood and tested is not None else 0
        shape = loaded.images.shape[1:]
        anomalous = [
            load(
                name,
                data_dir=data_dir,
                split=anomaly_split,
                shape=shape,
                limit=None,
                choose=None if source_of(name).any_shape else sample,
                image_size=None if source_of(name).any_shape else shape[:2],
                fit=fit,
                value_range=value_range,
                like=loaded,
                seed=seed,
            )
            for name in ood
        ]
        there_are = max(sum(counts), sum(len(pool.ids) for pool in anomalous))
        chosen = options | {"anomaly_ratio": None if 0 < there_are <= most else ratio}
        if not ood and tested is None:
            return one_class(loaded, normal_classes, **chosen)
        if tested is not None:
            task = official_split(loaded, tested, normal_classes, anomalous=anomalous, **chosen)
            parts = {
                "normal_split": normal_split,
                "anomaly_split": anomaly_split if ood else normal_split,
                "test_split": test_split,
            }
            return task._replace(details=task.details | parts)
        task = out_of_distribution(loaded, anomalous, **chosen)
        if normal_classes:
            task = task._replace(
                details=task.details | {"normal_classes": [str(c) for c in normal_classes]},
                name=f"{loaded.name} ({', '.join(map(str, normal_classes))}) against {'+'.join(ood)}",
            )
        return task

    return _said(_by_training(read, make), fit, by_name, own=own)


def _by_training(read: Callable[[ImageSet | None], ImageSet], make: Callable[[ImageSet], Task]) -> Task:
    """A task of a set in which the values of training images alone say which are black and white.

    Which images train is known when the set has been read, and then all of it has told the range. Where others than
    those that train have made it what it is, the set is read once more by the range of these.

    Args:
      read: the set, whose values are as those of another one where one is given.
    """
    dataset = read(None)
    task, reading = make(dataset), dataset.reading
    if reading is None or not reading.told:
        return task
    train, before = set(task.train.ids.tolist()), {kind: (low, high) for kind, low, high in reading.ranges}
    ranges = before | ranges_of(span for name, span in reading.told if name in train)
    if ranges == before:
        return task
    del dataset, task  # so that no image is in memory twice
    known = Reading(ranges=tuple((kind, *ends) for kind, ends in ranges.items()))
    try:
        return make(read(ImageSet("training", np.empty(0), None, (), None, np.empty(0), known)))
    except ValueError as error:
        ends = ", ".join(f"{low:g} to {high:g}" for kind, (low, high) in ranges.items() if ranges[kind] != before[kind])
        raise ValueError(
            f"{error}; values beyond those of the training images ({ends}) have become black or white: state others "
            "with value_range"
        ) from error


def _said(task: Task, fit: str, normal_by_name: str = "", *, own: bool) -> Task:
    """The task with what was decided here: how images of other shapes are to be fitted, then and later.

    Args:
      own: whether images are a user's, among which near-copies may be.
    """
    more = {"normal_by_name": normal_by_name} if normal_by_name else {}
    if own:
        images = [(name, part.images, part.labels, part.ids) for name, part in parts(task).items()]
        more |= near_details(images, across="made" not in task.details)  # what is made may be hard to see
    return task._replace(details=task.details | {"fit": fit} | more)


def _given_parts(dataset: str, limit: int | None, common: dict[str, Any]) -> tuple[ImageSet, ImageSet]:
    """The training and the test part of a set that has its own anomalies, in one size."""
    train = load(dataset, split="train", defective=PAINTED, limit=limit, **common)
    test = load(dataset, split="test", defective=PAINTED, like=train, **common)
    if test.images.shape[1:3] != train.images.shape[1:3]:  # by "auto" each decides for itself
        test = load(dataset, split="test", defective=PAINTED, **_like(train, common))
    return train, test


def _like(dataset: ImageSet, common: dict[str, Any]) -> dict[str, Any]:
    """The options of loading another part of a set: its images get the range, and by "auto" the size, of this part."""
    size = {"image_size": dataset.images.shape[1:3]} if common["image_size"] == "auto" else {}
    return common | {"like": dataset} | size


def _class_names(dataset: str, part: str, common: dict[str, Any]) -> tuple[str, ...]:
    """The classes of a set, of which one image is read."""
    found: tuple[str, ...] | None = None

    def choose(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        nonlocal found
        found = class_names
        return np.arange(min(n, 1))

    try:
        load(dataset, split=part, choose=choose, **common)
    except ValueError:
        if found is None:
            raise
        # of an image that cannot be read, where the classes are known
    return found or ()


def _choose(
    dataset: str,
    normal_classes: Sequence[str | int],
    limit: int | None,
    spare: Callable[[int], int | None],
    seed: int,
) -> Choose:
    """Picks `limit` normal images, and of so many others `spare` of their number (all where None)."""

    def choose(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        is_normal = normal_mask(dataset, labels(), class_names, normal_classes)
        order = np.random.default_rng(seed).permutation(n)
        others = order[~is_normal[order]]
        return np.sort(np.concatenate([order[is_normal[order]][:limit], others[: spare(len(others))]]))

    return choose
