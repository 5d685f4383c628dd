"""Tasks with a few labelled anomalies in the training part."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxad.data.equals import first_of_equals
from jaxad.data.image_set import ImageSet, take
from jaxad.data.protocols.default import one_class
from jaxad.data.protocols.official_test import official_split
from jaxad.data.protocols.splits import anomalies_wanted, mix
from jaxad.data.task import Task, check_task, parts

Gamma = float | Literal["all"]
"""Anomalous share of the training images, or all anomalies that validation and test leave."""


def check_gamma(gamma: Gamma) -> None:
    """Raises ValueError unless it is a share of training images that may be anomalous, or "all"."""
    if gamma != "all" and not (isinstance(gamma, int | float) and 0 <= gamma < 1):
        raise ValueError(
            f"gamma {gamma} is outside [0, 1): 0.05 means that 5% of the training images are anomalies; or give all"
        )


def gamma_name(gamma: Gamma) -> str:
    """For file names and tables."""
    return gamma if isinstance(gamma, str) else f"{gamma:g}"


def with_labelled(task: Task, dataset: ImageSet, gamma: Gamma, *, seed: int = 0) -> Task:
    """A one-class task with labelled anomalies among its training images.

    To the n normal training images come a = round(gamma n / (1 - gamma)) images of other classes, so that gamma is
    the anomalous share of the training part; with gamma 0 the task stays as it is, with "all" come all there are.
    Validation and test stay as they are with any gamma. Anomalies are drawn uniformly from the images that the task
    does not use and whose pixels equal none of its images. With the same seed, those of a smaller gamma are among those
    of a larger one.

    Args:
      task: of `one_class` or `official_split`.
      dataset: the set that its training images are from, all classes.

    Raises:
      ValueError: a gamma out of range or so small that no anomaly is drawn, a task without normal classes, too few
        images left.

    Source: AGAD, section 4.2.2 (gamma = a / (n + a)); drawing from all other classes together is our reading.
    """
    check_gamma(gamma)
    if gamma == 0:
        return task
    normal = task.details.get("normal_classes")
    if not normal or dataset.labels is None:
        raise ValueError(f"{task.name}: labelled anomalies are images of other classes; give a one-class task")
    if dataset.images.shape[1:] != task.train.images.shape[1:] or dataset.images.dtype != task.train.images.dtype:
        raise ValueError(f"{dataset.name} has other images than {task.name}: draw anomalies before resizing")
    n = len(task.train.images)
    wanted = None if gamma == "all" else anomalies_wanted(n, gamma)
    if wanted == 0:
        raise ValueError(f"{task.name}: gamma {gamma} of {n} training images is no anomaly: raise gamma or limit")
    names = np.array(dataset.class_names)[dataset.labels]
    used = np.concatenate([part.ids for part in parts(task).values()])
    pool = take(dataset, ~np.isin(names, normal) & ~np.isin(dataset.ids, used))
    everything = [part.images for part in parts(task).values()]
    pool = take(pool, first_of_equals(*everything, pool.images)[-len(pool.ids) :] if len(pool.ids) else [])
    if len(pool.ids) < (wanted or 1):
        others = int((~np.isin(names, normal)).sum())
        lower = "" if gamma == "all" else "gamma, limit or "
        raise ValueError(
            f"{task.name}: gamma {gamma} needs {wanted or 1} training anomalies, but of {others} images of other "
            f"classes validation and test leave {len(pool.ids)}: lower {lower}anomaly_ratio (their share of validation "
            "and test), or give more"
        )
    # A stream of its own, so that the seed of the task's split gives anomalies that do not follow from it.
    rng = np.random.default_rng([seed, 1])
    drawn = take(pool, rng.permutation(len(pool.ids))[:wanted])
    before = ImageSet(task.name, task.train.images, None, (), task.train.masks, task.train.ids)
    train = mix(before, drawn._replace(masks=None), rng)
    details = {"gamma": gamma, "train_anomalies": len(drawn.ids), "gamma_seed": seed}
    return check_task(task._replace(train=train, details=task.details | details), need_anomalies=False)


def with_known(task: Task, count: int, *, seed: int = 0) -> Task:
    """A task some of whose anomalies are known: they leave validation, and train, labelled.

    It is for tasks of any kind; the test stays as it is. Anomalies are drawn uniformly from those of validation; with
    the same seed, those of a smaller count are among those of a larger one.

    Args:
      count: of known anomalies; 0 leaves the task as it is.

    Raises:
      ValueError: a count below 0, or one that leaves validation without any.
    """
    places = np.flatnonzero(task.valid.labels == 1)
    if not 0 <= count < max(len(places), 1):
        raise ValueError(
            f"{task.name}: labelled is {count}, and validation has {len(places)} anomalies, of which one has to stay: "
            f"give 0 to {max(len(places) - 1, 0)}"
        )
    if count == 0:
        return task
    rng = np.random.default_rng([seed, 2])
    chosen = rng.permutation(places)[:count]
    valid = task.valid._replace(
        **{name: np.delete(part, chosen, 0) for name, part in task.valid._asdict().items() if part is not None}
    )
    masks = None if task.train.masks is None or task.valid.masks is None else task.valid.masks[chosen]
    known = ImageSet("known", task.valid.images[chosen], None, (), masks, task.valid.ids[chosen])
    before = ImageSet(task.name, task.train.images, None, (), task.train.masks, task.train.ids)
    train = mix(before, known, rng)
    details = {"train_anomalies": count, "labelled_from": "validation"}
    return check_task(task._replace(train=train, valid=valid, details=task.details | details))


def labelled_one_class(
    train: ImageSet,
    test: ImageSet | None,
    normal_classes: Sequence[str | float] | str | float,
    *,
    gamma: Gamma = 0.0,
    gamma_seed: int | None = None,
    anomaly_ratio: float = 0.05,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """One class is normal, some images of others are known: see `with_labelled`.

    Args:
      test: the official test part, which stays whole (`official_split`); where None, the set is split (`one_class`).
      gamma_seed: of the draw of labelled anomalies; `seed` by default.
      anomaly_ratio, split, limit, seed: of either function.
    """
    options = {"anomaly_ratio": anomaly_ratio, "split": split, "limit": limit, "seed": seed}
    if test is None:
        task = one_class(train, normal_classes, **options)
    else:
        task = official_split(train, test, normal_classes, **options)
    return with_labelled(task, train, gamma, seed=seed if gamma_seed is None else gamma_seed)
