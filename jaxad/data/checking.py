"""What is in a set of images, what is wrong with it, and what task it makes; nothing is trained.

jaxad search --dataset folder:photos --check-data
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data.examining import Examined, Image, examine
from jaxad.data.near_copies import near_copies
from jaxad.data.provenance import LeftOut

LISTED = 10  # names that are kept of each kind
MOST = 20_000  # images that are compared with each other for near-copies


class Count(NamedTuple):
    """How many images of a class a part has."""

    part: str  # empty where the set has none
    label: str  # empty where images have none
    images: int
    masks: int  # of them with a mask
    marked: int  # of these with an anomalous pixel
    area: float  # anomalous share of the pixels of these, NaN where there are none


class Finding(NamedTuple):
    """Something that was found of some images."""

    count: int
    named: tuple[str, ...]  # some of them


class Checked(NamedTuple):
    """What is in a set of images."""

    dataset: str
    layout: str  # in words; empty where it is no folder or listing
    counts: tuple[Count, ...]
    sizes: tuple[tuple[int, int, int], ...]  # (height, width, images), the commonest first
    channels: tuple[tuple[int, int], ...]  # (channels, images)
    depths: tuple[tuple[str, int], ...]  # (numbers in words, images)
    unreadable: Finding
    left_out: tuple[LeftOut, ...]
    copies: Finding  # images that equal an earlier one, of the same part and class
    shared: Finding  # groups of equal images in several parts
    contradictions: Finding  # groups of equal images of several classes, or with different masks
    near: Finding | None  # pairs of nearly equal images, in several parts where there are some; None: not asked
    constant: Finding  # images of one colour throughout
    masks: Finding  # masks that cannot be used
    unmarked: Finding  # images of a class of defects whose masks mark no pixel
    problem: str  # why no task could be made; empty where one could
    task: str  # the table of the task, where one could be made


def check_data(
    dataset: str,
    make: Callable[[], str] | None = None,
    *,
    parts: Sequence[str] = ("train",),
    data_dir: str | None = None,
) -> Checked:
    """Look at a set, image by image, and make the task of it.

    Args:
      dataset: as for `jaxad.load_task`.
      make: makes the task and returns its table, or raises ValueError; by default none is made.
      parts: of a set whose parts have names of their own (TFDS, IDX), those to look at.
      data_dir: folder of prepared TFDS sets.

    >>> check_data("digits").counts[0]
    Count(part='', label='0', images=178, masks=0, marked=0, area=nan)
    """
    problem, task = "", ""
    try:
        found = examine(dataset, parts, data_dir=data_dir)
    except ValueError as error:
        found, problem = Examined("", [], np.zeros((0, 1024), np.float32), [], ()), str(error)
    if not problem and make is not None:
        try:
            task = make()
        except ValueError as error:
            problem = str(error)
    images = found.images
    copies, shared, contradictions = _equal(images)
    return Checked(
        dataset,
        found.layout,
        tuple(_counts(images)),
        tuple((*size, n) for size, n in Counter(image.size for image in images).most_common()),
        tuple(sorted(Counter(image.channels for image in images).items())),
        tuple(Counter(image.depth for image in images).most_common()),
        _finding(found.unreadable),
        found.left_out,
        _finding(copies),
        _finding(shared),
        _finding(contradictions),
        _near(images, found.thumbs),
        _finding([image.id for image in images if image.constant]),
        _finding([image.mask.fault for image in images if image.mask.fault]),
        _finding(_unmarked(images)),
        problem,
        task,
    )


def _counts(images: Sequence[Image]) -> list[Count]:
    groups: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        groups.setdefault((image.part, image.label), []).append(image)
    counts, parts = [], list(dict.fromkeys(part for part, _ in groups))
    for part, label in sorted(groups, key=lambda group: (parts.index(group[0]), group[1])):
        members = groups[part, label]
        shares = [image.mask.marked for image in members if not math.isnan(image.mask.marked)]
        marked = [share for share in shares if share > 0]
        counts.append(
            Count(part, label, len(members), len(shares), len(marked), float(np.mean(marked)) if marked else math.nan)
        )
    return counts


def _equal(images: Sequence[Image]) -> tuple[list[str], list[str], list[str]]:
    """Copies within a part and class, groups in several parts, and groups that contradict themselves, by name."""
    groups: dict[bytes, list[Image]] = {}
    for image in images:
        groups.setdefault(image.digest, []).append(image)
    copies, shared, contradictions = [], [], []
    for members in groups.values():
        words = " = ".join(_place(image) for image in members[:4])
        masks = {image.mask.digest for image in members if image.mask.digest}
        if len({image.label for image in members}) > 1 or len(masks) > 1:
            contradictions.append(words)
        elif len({image.part for image in members}) > 1:
            shared.append(words)
        else:
            copies += [f"{image.id} = {members[0].id}" for image in members[1:]]
    return copies, shared, contradictions


def _near(images: Sequence[Image], thumbs: np.ndarray) -> Finding | None:
    """Pairs that are not equal, in different parts; of a set without parts any pair, since it may be split there."""
    if len(images) > MOST:
        return None
    parts = sorted({image.part for image in images})
    groups = np.arange(len(images)) if len(parts) == 1 else np.array([parts.index(image.part) for image in images], int)
    pairs = near_copies(thumbs, groups)
    return _finding(
        [
            f"{_place(images[near.first])} and {_place(images[near.second])}"
            for near in pairs
            if images[near.first].digest != images[near.second].digest
        ]
    )


def _unmarked(images: Sequence[Image]) -> list[str]:
    """Defects, and images of classes of which some are marked, whose mask is blank."""
    marked = {image.label for image in images if image.label and image.mask.marked > 0}
    return [image.id for image in images if image.mask.marked == 0 and (image.defect or image.label in marked)]


def _place(image: Image) -> str:
    """An image and, where its name does not tell, in which part it is."""
    return f"{image.part} {image.id}" if image.part and image.part not in image.id else image.id


def _finding(names: Sequence[str]) -> Finding:
    return Finding(len(names), tuple(names[:LISTED]))
