"""From names to a task: the one call that a script makes."""

import os
from collections.abc import Sequence

import numpy as np

from jaxad.data.protocols.default import one_class, out_of_distribution, segmentation
from jaxad.data.protocols.official_test import official_split
from jaxad.data.protocols.splits import anomalies_wanted, check_options, normal_mask
from jaxad.data.sources.registry import Choose, Labels, load, source_of
from jaxad.data.task import Task

PAINTED = 0.4  # share of painted crops with defects: two fifths of all crops are good and train


def load_task(
    dataset: str,
    *,
    ood: str | Sequence[str] | None = None,
    normal_classes: Sequence[str | int] | str | int | None = None,
    data_dir: str | os.PathLike | None = None,
    normal_split: str = "train",
    anomaly_split: str = "test",
    test_split: str | None = None,
    anomaly_ratio: float = 0.05,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    image_size: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Task:
    """Loads image sets and makes an anomaly detection task of them: training, validation and test images.

    "mvtec:..." and "painted:..." are segmentation tasks; `ood` makes an out-of-distribution task (of the normal
    classes alone, where these are given too); `normal_classes` a one-class task; digits and textures have a default.
    Of images of your own in arrays `jaxad.data.task_from_arrays` makes one.

    Args:
      dataset: "digits", "textures:SIZE", "painted:TEXTURE:SIZE", "folder:PATH", "mvtec:PATH/CATEGORY", "npz:FILE",
        "idx:FOLDER", "pairs:FOLDER", the name of a set of TensorFlow Datasets such as "fashion_mnist", or another
        source that is registered; `jaxad.data.available` lists all.
      ood: names of anomalous sets; noise ("gaussian", "uniform") takes the shape of the normal images.
      normal_classes: names or indices of classes.
      data_dir: folder of prepared TFDS sets; by default the one that TFDS_DATA_DIR names.
      normal_split: part of a TFDS or IDX set that is split into train, validation and test; a one-class task
        takes its anomalies from it as well.
      anomaly_split: part of the `ood` sets that anomalies are drawn from.
      test_split: part of a TFDS or IDX set to test on, such as "test", instead of a share of `normal_split`: all of it
        in a one-class task, otherwise its normal images and anomalies; see `official_split`.
      anomaly_ratio: share of anomalies in validation and test, 0 to below 1.
      valid_anomalies: number of anomalies in validation, whatever the ratio.
      split: shares of normal images in training, validation and test.
      limit: use at most so many normal images; with `test_split` of training and validation alone, in a segmentation
        task of training alone.
      image_size: side or (height, width) in pixels to resize all images to.
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
    ood = [ood] if isinstance(ood, str) else list(ood or ())
    if normal_classes is None or isinstance(normal_classes, str | int):
        normal_classes = [] if normal_classes is None else [normal_classes]
    normal_classes = list(normal_classes)
    if dataset in ood:
        raise ValueError(f"{dataset} cannot be normal and anomalous: name another set as ood, or normal classes")
    check_options(anomaly_ratio, split, limit, valid_anomalies)
    options = {
        "anomaly_ratio": anomaly_ratio,
        "valid_anomalies": valid_anomalies,
        "split": split,
        "limit": limit,
        "seed": seed,
    }
    common = {"data_dir": data_dir, "image_size": image_size, "seed": seed}
    entry = source_of(dataset)
    if entry.defects:
        if ood or normal_classes:
            raise ValueError(f"{dataset} has its own anomalies: leave out ood and normal classes")
        if valid_anomalies is not None or test_split is not None:
            raise ValueError(f"{dataset} has its own test part, to be halved: leave out valid_anomalies and test_split")
        train, test = (load(dataset, split=part, defective=PAINTED, **common) for part in ("train", "test"))
        return segmentation(train, test, limit=limit, seed=seed)
    if not ood and not normal_classes:
        if not entry.normal:
            names = load(dataset, split=normal_split, limit=1, **common).class_names
            classes = ", ".join(names[:20]) or "none, it has no labels"
            raise ValueError(
                f"what is anomalous for {dataset}? Name other sets (ood) or normal classes among: {classes}"
            )
        normal_classes = list(entry.normal)
    if test_split is not None and entry.parts == ():
        raise ValueError(
            f"{dataset} has no part {test_split!r} to test on: leave out test_split, or name a TFDS or IDX set"
        )
    tested = None if test_split is None else load(dataset, split=test_split, **common)

    spare = None
    if limit is not None:
        # Anomalies for both held-out parts, twice as many as needed because copies of other images are left out.
        n_normal = limit + (len(tested.ids) if ood and tested is not None else 0)
        spare = max(2 * (anomalies_wanted(n_normal, anomaly_ratio) + (valid_anomalies or 0)), 1)
    choose = _choose(dataset, normal_classes, limit, 0 if ood else spare, seed) if normal_classes else None
    loaded = load(dataset, split=normal_split, limit=limit, choose=choose, **common)
    if not ood and tested is None:
        return one_class(loaded, normal_classes, **options)
    shape = loaded.images.shape[1:]
    anomalous = [
        load(
            name,
            data_dir=data_dir,
            split=anomaly_split,
            shape=shape,
            limit=None if source_of(name).any_shape else spare,
            image_size=None if source_of(name).any_shape else shape[:2],
            seed=seed,
        )
        for name in ood
    ]
    if tested is not None:
        task = official_split(loaded, tested, normal_classes, anomalous=anomalous, **options)
        parts = {
            "normal_split": normal_split,
            "anomaly_split": anomaly_split if ood else normal_split,
            "test_split": test_split,
        }
        return task._replace(details=task.details | parts)
    task = out_of_distribution(loaded, anomalous, **options)
    if normal_classes:
        task = task._replace(
            details=task.details | {"normal_classes": [str(c) for c in normal_classes]},
            name=f"{loaded.name} ({', '.join(map(str, normal_classes))}) against {'+'.join(ood)}",
        )
    return task


def _choose(
    dataset: str, normal_classes: Sequence[str | int], limit: int | None, spare: int | None, seed: int
) -> Choose:
    """Picks `limit` normal and `spare` other images (all where None)."""

    def choose(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        is_normal = normal_mask(dataset, labels(), class_names, normal_classes)
        order = np.random.default_rng(seed).permutation(n)
        normal, other = order[is_normal[order]][:limit], order[~is_normal[order]][:spare]
        return np.sort(np.concatenate([normal, other]))

    return choose
