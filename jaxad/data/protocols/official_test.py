"""Tasks that are tested on the official test part of an image set, whole."""

from collections.abc import Sequence

import numpy as np

from jaxad.data.equals import equality_details, first_of_equals, sort_equals
from jaxad.data.image_set import ImageSet, take
from jaxad.data.protocols.splits import (
    anomalies_wanted,
    anomaly_pool,
    check_enough,
    check_left,
    check_masks_of,
    check_options,
    clean,
    deal,
    held_out_counts,
    mix,
    normal_mask,
    present,
    with_shape,
)
from jaxad.data.task import Task, check_task


def official_split(
    train: ImageSet,
    test: ImageSet,
    normal_classes: Sequence[str | float] | str | float = (),
    *,
    anomalous: ImageSet | Sequence[ImageSet] = (),
    anomaly_ratio: float = 0.05,
    valid_anomalies: int | None = None,
    split: Sequence[float] = (6, 2, 2),
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """Train and validate on one part of a set, test on another that stays as it was published.

    With `normal_classes` alone (one-class) the test is all of the test part, normal or not by class, and validation
    anomalies are of the other classes of the training part. With `anomalous` sets (out-of-distribution) it is all
    normal images of the test part, and anomalies at the anomaly ratio; validation gets others. Where these are too
    few for both, validation keeps fewer normal images.

    So that no picture is in two parts, exact copies of test images are left out of the training part and the anomalous
    sets, and so are copies among these (details["duplicates_dropped"]). Copies within the test part belong to it and
    stay (details["duplicates_in_test"]). Equal images with different labels are left out likewise
    (details["contradictions"]), but stay in the test part.

    Args:
      train, test: the two parts of the set; labels are needed where `normal_classes` are given.
      normal_classes: names or indices in `train` of the normal classes; with `anomalous` sets, all when empty.
      anomalous: one or more other sets.
      anomaly_ratio: anomalous share of validation and, out-of-distribution, of the test, in [0, 1).
      valid_anomalies: exactly so many anomalies in validation, at least 1; by the anomaly ratio when None.
      split: proportions of train, validation and test, of which the last is not used.
      limit: use at most this many normal images for training and validation together, drawn by `seed`.

    Raises:
      ValueError: values out of range, nothing anomalous, an unknown class, too few anomalies, parts that overlap or
        differ in form.
    """
    check_options(anomaly_ratio, split, limit, valid_anomalies, seed)
    classes = [normal_classes] if np.isscalar(normal_classes) else list(normal_classes)
    sets = [anomalous] if isinstance(anomalous, ImageSet) else list(anomalous)
    if not classes and not sets:
        raise ValueError(f"what is anomalous for {train.name}? Give normal classes or anomalous sets")
    forms = [f"{part.images.shape[1:]} {part.images.dtype}" for part in (train, test)]
    if forms[0] != forms[1]:
        raise ValueError(f"{train.name}: train images are {forms[0]}, test images {forms[1]}: resize or convert them")
    shared = np.intersect1d(train.ids, test.ids)
    if len(shared):
        raise ValueError(f"{train.name}: {shared[0]} is in train and test: choose parts that do not overlap")

    is_normal, is_normal_test = (np.ones(len(part.ids), bool) for part in (train, test))
    chosen, others = [], []
    if classes:
        is_normal = normal_mask(train.name, train.labels, train.class_names, classes)
        chosen = present(train, is_normal)
        # By name: a part that lacks a class may number the others differently.
        named = [name for name in test.class_names if name in chosen]
        is_normal_test = normal_mask(test.name, test.labels, test.class_names, named)
    for part, normals in ((train, is_normal), (test, is_normal_test)):
        if not sets:
            check_masks_of(part, (~normals).astype(int))
    normal, normal_test = take(train, is_normal), take(test, is_normal_test)
    if sets:
        pool, published = anomaly_pool(normal, sets), normal_test
        source = f"{train.name} ({', '.join(chosen)})" if chosen else train.name
        name = f"{source} against {pool.name}, official test"
    else:
        pool, published = take(train, ~is_normal), test
        others = list(dict.fromkeys(present(test, ~is_normal_test) + present(train, ~is_normal)))
        name = f"{train.name}: {', '.join(chosen)} normal, official test"

    verdicts = (~is_normal_test if classes and not sets else np.zeros(len(published.ids), bool)).astype(int).tolist()
    verdicts += [0] * len(normal.ids) + [1] * len(pool.ids)
    found = sort_equals([published.images, normal.images, pool.images], verdicts, fixed=len(published.ids))
    check_left(normal, pool, found, parts=2)
    equal = equality_details(found, [*published.ids, *normal.ids, *pool.ids])
    _, fresh_normal, fresh_pool = np.split(found.keep, np.cumsum([len(published.ids), len(normal.ids)]))
    normal, pool = take(normal, fresh_normal), take(pool, fresh_pool)

    rng = np.random.default_rng(seed)
    train_index, valid_index = deal(len(normal.ids), split[:2], limit, rng)
    for_test = anomalies_wanted(len(normal_test.ids), anomaly_ratio) if sets else 0
    check_enough(name, len(pool.ids), valid_anomalies or int(anomaly_ratio > 0), for_test)
    [(n_in, n_out)] = held_out_counts([len(valid_index)], len(pool.ids) - for_test, anomaly_ratio, valid_anomalies)
    for_valid, drawn, _ = np.split(rng.permutation(len(pool.ids)), [n_out, n_out + for_test])
    valid = mix(take(normal, valid_index[:n_in]), take(pool, for_valid), rng)
    tested = mix(normal_test, take(pool, drawn) if sets else take(test, ~is_normal_test), rng)
    details = {
        "kind": f"{'out-of-distribution' if sets else 'one-class'}, official test",
        "normal": train.name,
        "anomalous": [s.name for s in sets] or [train.name],
        "normal_classes": chosen,
        "anomalous_classes": others,
        "anomaly_ratio": anomaly_ratio,
        "valid_anomalies": valid_anomalies,
        "split": [float(share) for share in split[:2]],
        "limit": limit,
        "seed": seed,
        **equal,
        "duplicates_in_test": int((~first_of_equals(published.images)).sum()),
    }
    task = Task(name, clean(take(normal, train_index)), valid, tested, details)
    return check_task(with_shape(task, train, test, *sets), need_anomalies=anomaly_ratio > 0)
