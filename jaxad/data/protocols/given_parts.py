"""Tasks whose training and test images are given: the protocol of MVTec AD."""

from typing import Any

import numpy as np

from jaxad._utils.validate import check_seed
from jaxad.data.equals import equality_details, equality_lines, sayings, sort_equals
from jaxad.data.image_set import ImageSet, take
from jaxad.data.protocols.splits import alike, check_masks_of, halve, with_shape
from jaxad.data.task import Split, Task, check_task


def segmentation(
    train: ImageSet, test: ImageSet, *, valid: ImageSet | None = None, limit: int | None = None, seed: int = 0
) -> Task:
    """MVTec protocol of AutoAD: train on good images, halve the test set into validation and test.

    Halves are drawn by defect type, sizes differing by one image at most. Class 0 ("good") is normal. Of images with
    exactly the same pixels only one is used, and none that is good here and a defect there, or has different masks.

    Args:
      train, test: the two parts of one category; without masks for the test part, whole images are labelled alone.
      valid: a validation part where there is one; then all of `test` tests.
      limit: use at most this many training images, drawn by `seed`.

    Raises:
      ValueError: training images that are not good, too few different good ones or defects in validation and test,
        masks that contradict labels.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} is too small: at least 1 training image is needed")
    check_seed(seed)
    held_out = [test] if valid is None else [valid, test]
    if train.labels is None or any(part.labels is None for part in held_out) or train.labels.any():
        raise ValueError(f"{train.name}: training images must all be of class 0, good: move the others to test")
    for part in (train, *held_out):
        check_masks_of(part, part.labels)
    train, *held_out = alike(train, *held_out)
    if any(part.masks is None for part in held_out):
        train, *held_out = (part._replace(masks=None) for part in (train, *held_out))
    equal: dict[str, Any] = {"duplicates_dropped": 0}
    if len({part.images.shape[1:] for part in (train, *held_out)}) == 1:  # otherwise check_task says what is wrong
        (train, *held_out), equal = _use_once([train, *held_out])
    _check_kinds(train.name, held_out)

    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(train.ids))[:limit]
    if valid is None:
        parts = [(held_out[0], index) for index in halve(held_out[0].labels, None, rng)]
    else:
        parts = [(part, np.arange(len(part.ids))) for part in held_out]

    def part(dataset: ImageSet, index: np.ndarray) -> Split:
        index = rng.permutation(index)
        d = take(dataset, index)
        return Split(d.images, (d.labels > 0).astype(np.int32), d.masks, d.ids)

    names, labels = held_out[0].class_names, np.concatenate([each.labels for each in held_out])
    details = {
        "kind": "given parts" if held_out[0].masks is None else "segmentation",
        "normal": f"{train.name}/{train.class_names[0] if train.class_names else 'good'}",
        "anomalous": list(names[1:]),
        "anomaly_ratio": float((labels > 0).mean()) if len(labels) else 0.0,
        "split": f"given by the folders{', test halved' if valid is None else ''}",
        "limit": limit,
        "seed": seed,
        **equal,
    }
    task = Task(train.name, part(train, chosen), *(part(*each) for each in parts), details)
    return check_task(with_shape(task, train, *held_out))


def _use_once(sets: list[ImageSet]) -> tuple[list[ImageSet], dict[str, Any]]:
    """All parts without copies and contradictions, and what there is to say of these."""
    said = []
    for part in sets:
        wrong = part.labels > 0
        known = sayings(wrong.astype(int), part.masks)
        said += [what if is_wrong else 0 for what, is_wrong in zip(known, wrong)]  # masks of good images are blank
    found, ids = sort_equals([part.images for part in sets], said), np.concatenate([part.ids for part in sets])
    details = equality_details(found, ids)
    keep = np.split(found.keep, np.cumsum([len(part.ids) for part in sets])[:-1])
    if not keep[0].any():
        raise ValueError(f"{sets[0].name}: no training image can be used: {'; '.join(equality_lines(details))}")
    return [take(part, kept) for part, kept in zip(sets, keep)], details


def _check_kinds(name: str, held_out: list[ImageSet]) -> None:
    """Raises ValueError unless validation and test can have good images and defects."""
    needed = 1 if len(held_out) > 1 else 2
    for kind, where in (("good", "test/good"), ("anomalous", "defects, in test/DEFECT")):
        for part, dataset in zip(("validation", "test")[-len(held_out) :], held_out):
            count = int(((dataset.labels > 0) == (kind == "anomalous")).sum())
            if count < needed:
                shared = ", and validation and test share them" if needed == 2 else ""
                raise ValueError(
                    f"{name}: the {part} part has {count} different {kind} image(s){shared}: add images of {where}"
                )
