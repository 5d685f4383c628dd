"""What a task is, what makes it sound, and how it describes itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data.equals import constant_images, equality_lines
from jaxad.data.images import check_images, check_masks
from jaxad.data.near_copies import near_lines
from jaxad.data.provenance import reading_lines, size_words

FEW = 20  # anomalies in validation and test below which a table warns of figures
NAMED = 3  # images that a message names


class Split(NamedTuple):
    """One part of a task."""

    images: np.ndarray  # [N, H, W, C] uint8 or float32 in [0, 1]
    labels: np.ndarray  # [N] int32, 1 = anomalous
    masks: np.ndarray | None  # [N, H, W] uint8, 1 = anomalous pixel
    ids: np.ndarray  # [N] str, unique over the whole task
    classes: np.ndarray | None = None  # [N] int32, what normal images show, where known, for training


class Task(NamedTuple):
    """An anomaly detection problem: training images, labelled validation and test images.

    Training images are all normal, unless details["gamma"], their anomalous share, says otherwise.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    details: dict[str, Any]  # how it was made; plain JSON values


class Row(NamedTuple):
    """Counts of one part."""

    part: str
    images: int
    normal: int
    anomalous: int
    fraction: float  # anomalous / images


def parts(task: Task) -> dict[str, Split]:
    """The three parts by name, in order."""
    return {"train": task.train, "valid": task.valid, "test": task.test}


def check_task(task: Task, *, need_anomalies: bool = True) -> Task:
    """Returns the task unchanged if it is sound: to be called before any compute.

    Sound: images in range, of one shape and type, a label (and mask) each, no id twice, no anomaly in train but
    those that details["train_anomalies"] counts, and, with `need_anomalies`, both kinds in validation and test. Masks
    agree with labels: none of a normal image has an anomalous pixel, and each of an anomalous one does (unless it lost
    them on its way to another size). Some training image has more than one colour.

    Raises:
      ValueError: naming the part, what is wrong, and the remedy.
    """
    for kind, part in parts(task).items():
        where = f"{task.name}: {kind}"
        if len(part.images) == 0:
            raise ValueError(f"{where} has no images: give more images or another split")
        check_images(part.images, where)
        if part.images.shape[1:] != task.train.images.shape[1:] or part.images.dtype != task.train.images.dtype:
            mine, train = (f"{s.images.shape[1:]} {s.images.dtype}" for s in (part, task.train))
            raise ValueError(f"{where} has images {mine} but train {train}: resize or convert one of them")
        if len(part.labels) != len(part.images) or len(part.ids) != len(part.images):
            raise ValueError(f"{where} has {len(part.images)} images: labels and ids must be as many")
        if part.masks is not None:
            check_masks(part.masks, part.images, f"{where} masks")
        if not np.isin(part.labels, (0, 1)).all():
            raise ValueError(f"{where} has labels {np.unique(part.labels)[:5]}: use 0 (normal) and 1 (anomalous)")
        if part.masks is not None:
            check_agreement(part.labels, part.masks, part.ids, where, resized="fitted_from" in task.details)
    found, declared = int(task.train.labels.sum()), task.details.get("train_anomalies", 0)
    if found != declared:
        known = f" but declares {declared}" if declared else ""
        raise ValueError(f"{task.name}: train holds {found} anomalous image(s){known}: remove them")
    if found == len(task.train.labels):
        raise ValueError(f"{task.name}: train holds no normal image: lower gamma")
    if constant_images(task.train.images).all():
        raise ValueError(
            f"{task.name}: each of {len(task.train.images)} training images has one colour throughout, so that there "
            "is nothing to learn: check how they were taken, saved and read"
        )
    ids, counts = np.unique(np.concatenate([part.ids for part in parts(task).values()]), return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{task.name}: image {ids[counts > 1][0]} is used {counts.max()} times: use each image once")
    for kind in ("valid", "test") if need_anomalies else ():
        labels = parts(task)[kind].labels
        if not labels.any():
            raise ValueError(f"{task.name}: no anomaly among {len(labels)} {kind} images: raise anomaly_ratio or limit")
        if labels.all():
            raise ValueError(f"{task.name}: no normal image among {len(labels)} {kind} images: lower anomaly_ratio")
    return task


def check_agreement(
    labels: np.ndarray, masks: np.ndarray, ids: np.ndarray, where: str, *, resized: bool = False
) -> None:
    """Raises ValueError where labels ([N], 0 is normal) and masks contradict each other, naming how many and which.

    Args:
      resized: whether masks were brought to another size, where small anomalies may lose all their pixels.
    """
    marked = masks.any((1, 2))
    wrong = {"normal by label but have anomalous pixels in their masks": marked & (labels == 0)}
    if not resized:
        wrong["anomalous by label but have no anomalous pixel in their masks"] = ~marked & (labels > 0)
    for what, found in wrong.items():
        if found.any():
            inverted = " (masks look inverted: 1 is an anomalous pixel)" if masks.mean() > 0.5 else ""
            raise ValueError(
                f"{where}: {found.sum()} of {len(found)} images are {what}, such as {some(ids[found])}{inverted}: "
                "correct labels or masks, or leave the masks out"
            )


def some(names: Sequence[str]) -> str:
    """The first of some names, for a message."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def held_out_normals(task: Task) -> np.ndarray:
    """The normal validation images [n, H, W, C], for calibration and thresholds."""
    return task.valid.images[task.valid.labels == 0]


def describe(task: Task) -> list[Row]:
    """The counts of each part."""
    rows = []
    for kind, part in parts(task).items():
        n, anomalous = len(part.labels), int(part.labels.sum())
        rows.append(Row(kind, n, n - anomalous, anomalous, anomalous / max(n, 1)))
    return rows


def table(task: Task) -> str:
    """The task in plain text for a terminal: sources, image shape and range, counts of each part."""
    images = [part.images for part in parts(task).values()]
    low, high = min(x.min() for x in images), max(x.max() for x in images)
    height, width, channels = task.train.images.shape[1:]
    anomalous = task.details.get("anomalous_classes") or task.details.get("anomalous", [])
    masks = ", with masks" if task.test.masks is not None else ""
    form = f"{height}x{width}x{channels} {task.train.images.dtype}{size_words(task.details, (height, width))}"
    lines = [
        task.name,
        f"  anomalous: {', '.join(anomalous)}{_rule(task)}",
        f"  images: {form} in [{low:g}, {high:g}]{masks}",
        *_indented(reading_lines(task.details)),
    ]
    if task.details.get("normal_by_name"):
        lines.insert(1, f"  normal: {task.details['normal_by_name']}, by its name")
    if (limit := task.details.get("limit")) and limited_images(task) >= limit:
        lines.append(f"  at most {limit:,} normal images are used (--limit); there are as many or more")
    lines += _indented([*equality_lines(task.details), *near_lines(task.details), *_pixel_lines(task)])
    lines.append(f"  {'part':<6}{'images':>8}{'normal':>8}{'anomalous':>11}{'share':>8}")
    lines += [f"  {r.part:<6}{r.images:>8}{r.normal:>8}{r.anomalous:>11}{r.fraction:>8.1%}" for r in describe(task)]
    return "\n".join(lines)


def _indented(lines: Sequence[str]) -> list[str]:
    """Lines of a table, each of them one, whatever files are called."""
    return ["  " + line.replace("\n", "\\n") for line in lines]


def _pixel_lines(task: Task) -> list[str]:
    """Images in which there is nothing to see, and masks in which there is nothing any more."""
    lines = []
    constant = task.train.ids[constant_images(task.train.images)]
    if len(constant):
        lines.append(f"constant: {len(constant)} training images have one colour throughout ({some(constant)})")
    held_out = [part for part in (task.valid, task.test) if part.masks is not None]
    defects = [part.masks[part.labels == 1] for part in held_out if part.labels.any()]
    if defects and (share := float(np.mean([masks.mean() for masks in defects]))) > 0.5:
        lines.append(f"masks: of images of anomalies {share:.0%} of all pixels are marked: are masks inverted?")
    lost = [name for part in held_out for name in part.ids[(part.labels == 1) & ~part.masks.any((1, 2))]]
    if lost:
        lines.append(f"masks: {len(lost)} anomalies have no pixel left ({some(lost)}): give a larger image size")
    return lines


def limited_images(task: Task) -> int:
    """How many normal images a task has of those that its limit is for; of a task of tiles before it was cut."""
    if "tiled_normal" in task.details:
        return task.details["tiled_normal"]
    kind, counted = task.details.get("kind", ""), list(parts(task).values())
    if kind in ("segmentation", "given parts"):
        counted = counted[:1]
    elif kind.endswith("official test"):
        counted = counted[:2]
    return sum(int((part.labels == 0).sum()) for part in counted)


def _rule(task: Task) -> str:
    """How anomalies came into validation and test, where that is not by their share."""
    held_out = int(task.valid.labels.sum() + task.test.labels.sum())
    if task.details.get("made"):
        return ", all made: figures on them are not figures on yours"
    if task.details.get("anomaly_rule") == "all, dealt by kind":
        few = ", too few for more than a rough figure" if held_out < FEW else ""
        return f"; all {held_out} there are serve, in validation or test{few}"
    return ""
