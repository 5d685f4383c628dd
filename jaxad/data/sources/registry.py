"""Image sources by name: `@source` on a function that reads one is all that adds it, to `load`, tasks and help texts.

    @source("mine", "mine:FILE", "Images of my camera.")
    def mine(request: Request) -> ImageSet:
        return request.sample(from_arrays(read(request.path()), name=request.spec))

A file in this package is found there; one elsewhere counts once it has been imported.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxad._utils.registry import Registry
from jaxad._utils.validate import check_seed
from jaxad.data.depth import Depth, make_depth
from jaxad.data.fitting import AUTO_SIDE, Fit, ImageSize, Sizing, check_room, fit_images, fit_mask, make_sizing
from jaxad.data.image_set import ImageSet, take
from jaxad.data.images import check_images
from jaxad.data.provenance import Reading, size_facts
from jaxad.data.sources.layouts import Layout

Labels = Callable[[], np.ndarray | None]  # a function, because reading the labels of a large set takes time
Choose = Callable[[Labels, int, tuple[str, ...]], np.ndarray]
ANY = "tfds"  # the source of all names that are no other's


class Request(NamedTuple):
    """What somebody wants of a source. A source may leave to `load` what it has no use for."""

    spec: str  # as they wrote it, such as "mvtec:DATA/bottle"
    argument: str  # what follows the name and its colon; empty where nothing does
    usage: str  # how the source is written
    split: str  # which part of the set
    choose: Choose  # which images to read, so that a small sample of a large set costs little
    sizing: Sizing  # what size the images are wanted in
    data_dir: str | os.PathLike | None  # of prepared sets
    shape: tuple[int, int, int]  # (height, width, channels), of a source that makes images of any shape
    count: int | None  # how many images are wanted, of a source that makes as many
    defective: float | None  # share of images with defects, of a source that makes them
    seed: int  # of what is drawn
    depth: Depth = Depth()  # which stored values of files are black and white, where that is known
    label: str | None = None  # which of several label features says of what class images are

    def path(self) -> Path:
        """The argument as a path; ValueError where there is none."""
        if not self.argument:
            raise ValueError(f"{self.spec!r} names no path: write {self.usage}")
        return Path(self.argument).expanduser()

    def without_argument(self) -> None:
        """Raise ValueError where there is an argument, which this source does not know."""
        if self.spec != self.usage:
            raise ValueError(f"{self.spec!r} is no image set: write {self.usage}")

    def sample(self, dataset: ImageSet) -> ImageSet:
        """The chosen images of a set that has been read as a whole."""
        index = self.choose(lambda: dataset.labels, len(dataset.images), dataset.class_names)
        return take(dataset, index)


class SourceEntry(NamedTuple):
    """Where images come from."""

    name: str
    usage: str  # how it is written, such as "idx:FOLDER"
    summary: str  # what it is, in one sentence
    read: Callable[[Request], ImageSet]
    parts: tuple[str, ...] | None  # names of its parts, (): it has only one; None: they depend on the set
    masks: bool  # whether its images may have masks of defects
    defects: bool  # whether part "train" is free of anomalies and part "test" has masks: a segmentation task as it is
    normal: tuple[str, ...]  # classes that are normal where nobody says which; (): somebody has to
    anomaly_ratio: float | None  # share of anomalies in held-out parts, where nobody says; None: `load_task` decides
    any_shape: bool  # whether it makes images of any shape, as many as wanted
    files: bool = False  # whether every image is a file of its own, of any size, that takes time to read
    good: bool = False  # whether there are no anomalies, so that a task has to make some
    look: Callable[[str], dict[str, Any]] | None = None  # what differs from the above for a certain argument
    layout: Callable[[str], Layout] | None = None  # what files an argument stands for, and what is known of each


Read = TypeVar("Read", bound=Callable[[Request], ImageSet])

SOURCES: Registry[SourceEntry] = Registry("image source", "jaxad.data.sources")
"""Every image source by name."""


def source(
    name: str,
    usage: str,
    summary: str,
    *,
    parts: tuple[str, ...] | None = (),
    masks: bool = False,
    defects: bool = False,
    normal: tuple[str, ...] = (),
    anomaly_ratio: float | None = None,
    any_shape: bool = False,
    files: bool = False,
    look: Callable[[str], dict[str, Any]] | None = None,
    layout: Callable[[str], Layout] | None = None,
) -> Callable[[Read], Read]:
    """Register a function that reads an image set: a decorator that leaves it as it is.

    Args:
      name: what stands before the colon in the name of a set; a Python name.
      usage: how users write it, with its argument in capitals.
      summary: what it is, in one sentence.
      parts, masks, defects, normal, anomaly_ratio, any_shape, files: see `SourceEntry`; by default a set of one part
        without masks, of which users say what is normal.
      look: a function of the argument that returns those fields of `SourceEntry` that are others for it, for a source
        of which it depends on the files what they are.
      layout: a function of the argument that says what files there are, for a source of files; `--check-data` looks at
        each of them then, in full size.

    Raises:
      ValueError: a name that something else has.
    """

    def register(read: Read) -> Read:
        entry = SourceEntry(
            name, usage, summary, read, parts, masks or defects, defects, normal, anomaly_ratio, any_shape, files,
            look=look, layout=layout,
        )  # fmt: skip
        SOURCES.add(name, entry, read)
        return read

    return register


def source_of(spec: str) -> SourceEntry:
    """The source that reads a set of that name, as it is for that set; ValueError where a folder is none it knows."""
    name, _, argument = spec.partition(":")
    entry = SOURCES[name if name in SOURCES else ANY]
    return entry if entry.look is None or not argument else entry._replace(**entry.look(argument))


def available() -> tuple[str, ...]:
    """What `load` understands, for help texts."""
    return tuple(f"{entry.usage} ({entry.summary.rstrip('.')})" for entry in SOURCES.values())


def load(
    spec: str,
    *,
    data_dir: str | os.PathLike | None = None,
    split: str = "train",
    image_size: ImageSize | Sequence[int] = None,
    fit: Fit = "stretch",
    auto_side: int = AUTO_SIDE,
    shape: Sequence[int] = (28, 28, 1),
    limit: int | None = None,
    choose: Choose | None = None,
    defective: float | None = None,
    seed: int = 0,
    value_range: Sequence[float] | None = None,
    like: ImageSet | None = None,
    label: str | None = None,
) -> ImageSet:
    """Loads an image set by name.

    Args:
      spec: one of the forms that `available` lists, such as "textures:32", "folder:PATH" or a TFDS name.
      data_dir: folder of prepared TFDS sets; TFDS_DATA_DIR when None.
      split: the part of TFDS (also "train[:10%]"), IDX, MVTec and painted sets; other sets have one part.
      image_size: bring images to this side or (height, width); "auto": images of one size up to 64 pixels stay, others
        become squares of `auto_side`; None: they stay, and a folder that mixes sizes is refused.
      fit: what becomes of other shapes: "stretch", "pad" (shrunk, black around) or "crop" (the middle).
      auto_side: side of the squares that "auto" makes.
      shape: (height, width, channels) of noise images.
      limit: load at most this many images, drawn by `seed`; noise: how many to make, 1,000 when None.
      choose: instead of `limit`, a function (labels, n, class_names) -> indices of the images to load, where
        labels() gives the [N] labels.
      defective: share of images with defects, where a source paints them; its own choice when None.
      seed: of noise, of painted defects and of the draw of `limit`.
      value_range: (low, high), the values that are black and white in files of more than 8 bits; by default as
        `jaxad.data.depth` says.
      like: a set whose ranges count for this one as well, such as the training part of the same set.
      label: of a TFDS set the label feature that holds the classes, such as "coarse_label"; by default its first.

    Returns:
      An ImageSet of uint8 images (float32 in [0, 1] for noise, files of more than 8 bits and float arrays).

    Raises:
      ValueError: an unknown or unreadable set, naming the remedy.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} is too small: at least 1 image is needed")
    check_seed(seed)
    sizing = make_sizing(image_size, fit, auto_side)
    depth = make_depth(value_range)
    if like is not None and like.reading is not None:
        depth = depth._replace(ranges={kind: (low, high) for kind, low, high in like.reading.ranges})
    name, _, argument = spec.partition(":")
    entry = SOURCES[name if name in SOURCES else ANY]
    if label is not None and entry.name != ANY:
        raise ValueError(f"{spec} has no label features, such as {label}: leave out label, which is for TFDS sets")
    request = Request(
        spec=spec,
        argument=argument if name == entry.name else spec,
        usage=entry.usage,
        split=split,
        choose=choose or _sample(limit, seed),
        sizing=sizing,
        data_dir=data_dir,
        shape=tuple(shape),
        count=limit,
        defective=defective,
        seed=seed,
        depth=depth,
        label=label,
    )
    dataset = entry.read(request)
    check_images(dataset.images, dataset.name)
    return _fitted(dataset, sizing)


def _fitted(dataset: ImageSet, sizing: Sizing) -> ImageSet:
    """Readers of files fit one by one, with masks; here it is done for all others."""
    have = dataset.images.shape[1:3]
    size = sizing.target([have])
    if size is None or size == have:
        return dataset
    check_room(len(dataset.images), size, dataset.images.shape[3] * dataset.images.itemsize)
    facts = size_facts([have] * len(dataset.images), size, sizing.fit)
    masks = dataset.masks
    if masks is not None:
        masks = np.stack([fit_mask(mask, size, sizing.fit) for mask in masks])
    images = fit_images(dataset.images, size, sizing.fit)
    reading = (dataset.reading or Reading())._replace(sizes=facts[0], fit=facts[1])
    return dataset._replace(images=images, masks=masks, reading=reading)


def _sample(limit: int | None, seed: int) -> Choose:
    def choose(labels: Labels, n: int, class_names: tuple[str, ...]) -> np.ndarray:
        if limit is None or limit >= n:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).permutation(n)[:limit])

    return choose
