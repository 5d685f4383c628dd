"""A labelled image set, and perhaps its official test part, for tasks in which one class after the other is normal."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxad.data.image_set import ImageSet, class_indices
from jaxad.data.images import resize
from jaxad.data.sources.registry import load

LARGEST = 64  # pixels of a side where nobody says how many


class ClassSets(NamedTuple):
    """The images, all square and of one size, without masks, which one-class scores do not use."""

    train: ImageSet
    test: ImageSet | None  # the official test part, where there is one
    classes: tuple[str, ...]  # those that are normal in turn


def load_class_sets(
    dataset: str,
    classes: Sequence[str | int] = (),
    *,
    image_size: int | None = None,
    value_range: Sequence[float] | None = None,
    label: str | None = None,
    test_split: str | None = None,
    test_folder: str | None = None,
    data_dir: str | None = None,
    seed: int = 0,
) -> ClassSets:
    """Load a set for `labelled_one_class`.

    Args:
      dataset: as for `load`.
      classes: that are normal in turn, by name or number; all by default.
      image_size: side of the square images; by default the smallest of 8, 16, 32 and 64 that holds them, 64 for others.
      value_range, label: see `load_task`.
      test_split: of a TFDS or IDX set, such as test.
      test_folder: class folders to test on.
      data_dir, seed: of `load`.

    Raises:
      ValueError: what `load` refuses, a set without labels, an unknown class.
    """
    options = {
        "data_dir": data_dir, "image_size": image_size or "auto", "auto_side": LARGEST, "value_range": value_range,
        "seed": seed,
    }  # fmt: skip
    train, test = load(dataset, label=label, **options), None
    if train.labels is None:
        raise ValueError(f"{dataset} has no labels, so no class can be normal: give a labelled set")
    if test_split is not None:
        test = load(dataset, split=test_split, like=train, label=label, **options)
    elif test_folder is not None:
        test = load(f"folder:{test_folder}", like=train, **options)
    chosen = class_indices(train.name, train.class_names, classes or train.class_names)
    side = image_size or max(8, 1 << (max(train.images.shape[1:3]) - 1).bit_length())
    train, test = (None if part is None else _square(part, side) for part in (train, test))
    return ClassSets(train, test, tuple(train.class_names[i] for i in chosen))


def _square(dataset: ImageSet, side: int) -> ImageSet:
    images = dataset.images if dataset.images.shape[1:3] == (side, side) else resize(dataset.images, (side, side))
    return dataset._replace(images=images, masks=None)
