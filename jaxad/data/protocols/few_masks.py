"""Segmentation with few labels: a handful of images with masks, many without, and masks to test on.

Three settings. Transductive, as in the thesis on neural batch sampling: the unlabelled images are the ones to segment.
Inductive: images to segment come later, and no part of training sees one. Clean, as the thesis' unsupervised baseline:
all images without defects are known to have none, and are all that training sees; those with defects are segmented.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxad._utils.validate import check_seed
from jaxad.data.equals import constant_images, digests, equality_details, equality_lines, first_of_equals, sort_equals
from jaxad.data.image_set import ImageSet, take
from jaxad.data.images import check_images, check_masks
from jaxad.data.protocols.splits import alike
from jaxad.data.provenance import reading_details, reading_lines, size_words
from jaxad.data.sources.registry import SOURCES, load, source_of
from jaxad.data.task import Split

Setting = Literal["transductive", "inductive", "clean"]
SETTINGS = ("transductive", "inductive", "clean")
REDRAWS = 1000


class LabelledTask(NamedTuple):
    """A segmentation problem with few labels."""

    name: str
    labelled: Split  # with masks, some anomalous pixel among them; none where the setting is clean
    unlabelled: Split  # to train on without looking at masks or labels; empty where the setting is clean
    test: Split  # with masks; the unlabelled images themselves where the setting is transductive
    normal: Split | None  # anomaly-free images of their own, for methods that learn from such, where there are some
    details: dict[str, Any]  # how it was made; plain JSON values
    kinds: Mapping[str, str] = MappingProxyType({})  # the kind of defect by the id of an image, where it is known


def load_labelled(
    source: str,
    *,
    labelled: int = 5,
    setting: Setting = "transductive",
    test_share: float = 0.5,
    image_size: int | Sequence[int] | None = None,
    value_range: Sequence[float] | None = None,
    limit: int | None = None,
    unseen: Sequence[str] = (),
    seed: int = 0,
) -> LabelledTask:
    """A task by the name of its images.

    Args:
      source: of images with masks: painted:TEXTURE:SIZE, pairs:FOLDER, mvtec:PATH/CATEGORY, npz:FILE, or another that
        is registered. Of an MVTec category the test part is used, as in the thesis (of a listing, validation and test);
        train/good becomes `normal`; of painted crops, two thirds of the good ones do.
      labelled: images with masks, drawn at random and again until one has an anomalous pixel.
      setting, test_share, limit, unseen, seed: see `few_labels`.
      image_size: side or (height, width) to resize images and masks to.
      value_range: see `load_task`.

    Raises:
      ValueError: one clear line that names the remedy.
    """
    entry, normal = source_of(source), None
    if not entry.masks:
        forms = ", ".join(other.usage for other in SOURCES.values() if other.masks)
        raise ValueError(f"no segmentation data {source!r}: write {forms}")
    common = {"image_size": image_size, "value_range": value_range, "seed": seed}
    if entry.defects:
        good = load(source, split="train", **common)
        held_out = [part for part in ("valid", "test") if part in (entry.parts or ())]
        dataset = _together([load(source, split=part, like=good, **common) for part in held_out])
        normal = Split(good.images, np.zeros(len(good.ids), np.int32), None, good.ids) if len(good.ids) else None
    else:
        dataset = load(source, **common)
    options = {"setting": setting, "test_share": test_share, "limit": limit, "unseen": unseen, "seed": seed}
    return few_labels(dataset, labelled=labelled, normal=normal, **options)


def _together(sets: Sequence[ImageSet]) -> ImageSet:
    """Parts of one set as one, with masks where all have some."""
    if len(sets) == 1:
        return sets[0]
    parts = alike(*sets)
    shapes = list(dict.fromkeys(part.images.shape[1:] for part in parts))
    if len(shapes) > 1:
        raise ValueError(f"{sets[0].name}: images are {' and '.join(map(str, shapes))}: give an image size")
    masks = [part.masks for part in parts]
    return parts[0]._replace(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        masks=None if any(mask is None for mask in masks) else np.concatenate(masks),
        ids=np.concatenate([part.ids for part in parts]),
    )


def few_labels(
    dataset: ImageSet,
    *,
    labelled: int = 5,
    setting: Setting = "transductive",
    test_share: float = 0.5,
    limit: int | None = None,
    normal: Split | None = None,
    unseen: Sequence[str] = (),
    seed: int = 0,
) -> LabelledTask:
    """Draw the parts of a task from images with masks.

    Of images with exactly the same pixels only one is used, and none where their masks differ. Where `normal` is None
    and nothing else is known, images without anomalous pixels stay where they are drawn: to the method they are
    unlabelled like the others.

    Args:
      dataset: images [N, H, W, C] with masks.
      labelled: number of images with masks, at least 1; drawn again until one has an anomalous pixel.
      setting: "transductive", test on all other images, which training sees; "inductive", keep a share of them for
        the test; or "clean", learn from all images without anomalous pixels and test on the others (where `normal` is
        given, learn from these and test on all).
      test_share: that share, in (0, 1).
      limit: use at most this many images in all.
      normal: anomaly-free images, for methods that need them.
      unseen: kinds of defects, which are classes of images with masks, that no labelled image shows.

    Raises:
      ValueError: no masks or none that fits, too few images, no anomalous pixel to be drawn, a constant image.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting is {setting!r}; choose one of {', '.join(SETTINGS)}")
    if labelled < 1:
        raise ValueError(f"labelled is {labelled}; at least 1 image with a mask is needed")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}; give a share between 0 and 1")
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} is too small: at least 1 image is needed")
    if dataset.masks is None:
        raise ValueError(f"{dataset.name} has no masks: a segmentation task needs one for each image")
    check_images(dataset.images, dataset.name)
    check_masks(dataset.masks, dataset.images, f"{dataset.name}: masks")
    check_seed(seed)
    found = sort_equals([dataset.images], digests(dataset.masks))
    equal = equality_details(found, dataset.ids)
    dataset = take(dataset, found.keep)
    rng = np.random.default_rng(seed)
    dataset = take(dataset, rng.permutation(len(dataset.ids))[:limit])
    kinds = _kinds(dataset)

    if setting == "clean":
        if unseen:
            raise ValueError(
                f"unseen is {', '.join(unseen)}, and the setting clean sees no kind of defect: leave it out"
            )
        task = _clean(dataset, normal, {"source": dataset.name, "limit": limit, "seed": seed, **equal})
        return task._replace(kinds=kinds)
    others = 1 if setting == "transductive" else 2
    if len(dataset.ids) < labelled + others:
        raise ValueError(
            f"{dataset.name} has {len(dataset.ids)} different images, too few for {labelled} labelled and {others} "
            f"other(s){''.join(f' ({line})' for line in equality_lines(equal))}: give more images or lower labelled"
        )
    chosen = _with_anomaly(dataset, labelled, _allowed(dataset, kinds, unseen, labelled), rng)
    rest = np.setdiff1d(np.arange(len(dataset.ids)), chosen)
    rest = rng.permutation(rest)
    unlabelled = tested = rest
    if setting == "inductive":
        held_out = min(max(1, round(test_share * len(rest))), len(rest) - 1)
        tested, unlabelled = rest[:held_out], rest[held_out:]
    if normal is not None:
        fresh = first_of_equals(dataset.images, normal.images)[len(dataset.ids) :]
        normal = normal._replace(images=normal.images[fresh], labels=normal.labels[fresh], ids=normal.ids[fresh])
    details = {
        "kind": "few labels",
        "source": dataset.name,
        "setting": setting,
        "labelled": labelled,
        "test_share": test_share if setting == "inductive" else None,
        "limit": limit,
        "seed": seed,
        **({"unseen": list(unseen)} if unseen else {}),
        **equal,
        **_form(dataset),
    }
    parts = (_part(dataset, index) for index in (chosen, unlabelled, tested))
    return check_labelled(LabelledTask(dataset.name, *parts, normal, details, kinds))


def _clean(dataset: ImageSet, normal: Split | None, details: dict[str, Any]) -> LabelledTask:
    """The task of the setting clean, of different images in the order of the draw."""
    blank = ~dataset.masks.any((1, 2))
    if normal is not None:
        known, tested = normal._replace(masks=np.zeros(normal.images.shape[:3], np.uint8)), np.arange(len(blank))
    else:
        known, tested = _part(dataset, np.flatnonzero(blank)), np.flatnonzero(~blank)
    if not len(known.ids) or blank.all():
        what = "with" if blank.all() else "without"
        raise ValueError(
            f"{dataset.name} has no image {what} an anomalous pixel, and the setting clean learns from images without "
            "and tests on images with some: add some, or choose another setting"
        )
    empty = Split(dataset.images[:0], np.zeros(0, np.int32), None, dataset.ids[:0])
    details = {"kind": "few labels", "setting": "clean", "labelled": len(known.ids), **details, **_form(dataset)}
    return check_labelled(LabelledTask(dataset.name, known, empty, _part(dataset, tested), None, details))


def _form(dataset: ImageSet) -> dict[str, Any]:
    """What details say of the images and how they were read."""
    return {
        "shape": list(dataset.images.shape[1:]),
        "dtype": str(dataset.images.dtype),
        "anomalous_pixels": float(dataset.masks.mean()),
        **reading_details([dataset.reading], dataset.images),
    }


def check_labelled(task: LabelledTask) -> LabelledTask:
    """Returns the task unchanged if it is sound: to be called before any compute.

    Sound: images in range, of one shape and type, none constant; masks that fit; an anomalous pixel among the labelled
    images (in the setting clean none) and one in the test; labelled images in no other part; test images in training
    only where that is all of them (transductive).

    Raises:
      ValueError: naming the part, what is wrong, and the remedy.
    """
    named = {"labelled": task.labelled, "unlabelled": task.unlabelled, "test": task.test}
    named |= {} if task.normal is None else {"normal": task.normal}
    clean = task.details.get("setting") == "clean"
    if clean:
        del named["unlabelled"]
    for kind, part in named.items():
        where = f"{task.name}: {kind}"
        check_images(part.images, where)
        if part.images.shape[1:] != task.labelled.images.shape[1:] or part.images.dtype != task.labelled.images.dtype:
            mine, other = (f"{s.images.shape[1:]} {s.images.dtype}" for s in (part, task.labelled))
            raise ValueError(f"{where} has images {mine} but labelled {other}: resize or convert one of them")
        constant = np.flatnonzero(constant_images(part.images))
        if len(constant):
            first = part.ids[constant[0]]
            raise ValueError(f"{where} has {len(constant)} constant image(s), such as {first}: remove them")
        if part.masks is not None:
            check_masks(part.masks, part.images, f"{where} masks")
    for kind in ("labelled", "test"):
        if named[kind].masks is None:
            raise ValueError(f"{task.name}: {kind} has no masks: give one for each image")
        if not named[kind].masks.any() and not (clean and kind == "labelled"):
            raise ValueError(f"{task.name}: no anomalous pixel in {kind} images: choose others")
        if named[kind].masks.all():
            raise ValueError(f"{task.name}: no normal pixel in {kind} images: choose others")
    for one, other in (("labelled", "unlabelled"), ("labelled", "test"), ("normal", "test"), ("normal", "labelled")):
        if one in named and other in named:
            shared = np.intersect1d(named[one].ids, named[other].ids)
            if len(shared):
                raise ValueError(f"{task.name}: {shared[0]} is in {one} and {other}: use each image once")
    shared = np.intersect1d(task.unlabelled.ids, task.test.ids)
    if len(shared) > 0 and not np.array_equal(task.unlabelled.ids, task.test.ids):
        raise ValueError(f"{task.name}: {shared[0]} is in unlabelled and test: share all images or none")
    return task


def table(task: LabelledTask) -> str:
    """The task in plain text for a terminal."""
    height, width, channels = task.labelled.images.shape[1:]
    form = f"{height}x{width}x{channels}{size_words(task.details, (height, width))}"
    lines = [task.name, f"  {task.details.get('setting', '')}, images {form}"]
    lines += [f"  {line}" for line in reading_lines(task.details)]
    lines += [f"  {line}" for line in equality_lines(task.details)]
    lines.append(f"  {'part':<12}{'images':>8}{'with defects':>14}{'anomalous pixels':>18}")
    for kind in ("labelled", "unlabelled", "test", "normal"):
        part = getattr(task, kind)
        if part is not None and len(part.ids):
            known = part.masks is not None
            defects = f"{int(part.masks.any((1, 2)).sum())}" if known else "-"
            share = f"{part.masks.mean():.2%}" if known else "-"
            lines.append(f"  {kind:<12}{len(part.ids):>8}{defects:>14}{share:>18}")
    return "\n".join(lines)


def _kinds(dataset: ImageSet) -> dict[str, str]:
    """The class of every image with an anomalous pixel, by its id."""
    if dataset.labels is None or not dataset.class_names:
        return {}
    return {
        str(name): dataset.class_names[label]
        for name, label, mask in zip(dataset.ids, dataset.labels, dataset.masks)
        if mask.any()
    }


def _allowed(dataset: ImageSet, kinds: Mapping[str, str], unseen: Sequence[str], labelled: int) -> np.ndarray:
    """Indices of the images that may be labelled: those of no kind that is to be unseen."""
    if not unseen:
        return np.arange(len(dataset.ids))
    there_are = sorted(set(kinds.values()))
    for kind in unseen:
        if kind not in there_are:
            known = f"choose among {', '.join(there_are)}" if there_are else "its defects are of no known kind"
            raise ValueError(f"{dataset.name} has no defects of kind {kind!r}: {known}")
    allowed = np.flatnonzero([kinds.get(str(name)) not in unseen for name in dataset.ids])
    if len(allowed) < labelled or not dataset.masks[allowed].any():
        left = int(dataset.masks[allowed].any((1, 2)).sum())
        raise ValueError(
            f"without {', '.join(unseen)} {dataset.name} has {len(allowed)} images to label, {left} of them with "
            f"defects, and {labelled} are to be labelled: leave fewer kinds unseen"
        )
    return allowed


def _with_anomaly(dataset: ImageSet, count: int, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`count` different allowed indices, of images with an anomalous and a normal pixel among all of theirs."""
    if not dataset.masks.any():
        raise ValueError(f"{dataset.name} has no anomalous pixel in {len(dataset.ids)} images: nothing can be learnt")
    if dataset.masks.all():
        raise ValueError(f"{dataset.name} has no normal pixel in {len(dataset.ids)} images: nothing can be learnt")
    for _ in range(REDRAWS):
        chosen = allowed[rng.permutation(len(allowed))[:count]]
        if dataset.masks[chosen].any() and not dataset.masks[chosen].all():
            return chosen
    raise ValueError(
        f"{dataset.name}: {count} labelled images, drawn {REDRAWS} times, never had both anomalous and normal pixels: "
        "raise labelled"
    )


def _part(dataset: ImageSet, index: np.ndarray) -> Split:
    d = take(dataset, index)
    return Split(d.images, d.masks.any((1, 2)).astype(np.int32), d.masks, d.ids)
