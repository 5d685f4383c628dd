"""The one test of a trained segmenter, and what a run folder keeps of it: masks, pictures and the detector itself.

masks/METHOD.npy       predicted masks of every method, first seed
masks/NUMBER.png       those of the method that is shown, in the order of the test images
overlays/NUMBER.png    its maps on a few of them
best/                  its detector
profiles/, visits.npy  where it is neural batch sampling: loss profiles of test pixels, and where the sampler goes
visits/STEPS.npy       the same of the sampler as it was after so many steps
"""

import itertools
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxad._utils import files
from jaxad.data.batches import to_float
from jaxad.data.protocols.few_masks import LabelledTask
from jaxad.methods import nbs as sampling
from jaxad.metrics import thresholds
from jaxad.metrics.pixel import pixel_scores, summarise_segmentation
from jaxad.nn.crf import CRFConfig
from jaxad.report import overlays
from jaxad.runs import saving
from jaxad.runs.defect_kinds import kind_scores, kinds_tested, seen_kinds
from jaxad.runs.folder import Run
from jaxad.runs.segmentation import Reading, choose_reading, image_rows, read, reading_of_normals, readings_of
from jaxad.runs.segmenters import STRATEGY, UNTAUGHT, Segmenter, image_maps, segmenter_maps

SHOWN = 8  # images of a row
VIEWS = 5  # of the sampler on its way
Rows = list[tuple[str, np.ndarray]]


class EvaluatedSegmenter(NamedTuple):
    """A trained method and its test."""

    segmenter: Segmenter
    reading: Reading  # by which its maps become masks
    maps: np.ndarray  # [m, H, W] of the test images
    masks: np.ndarray  # [m, H, W] bool, predicted
    record: dict[str, Any]  # plain data: all that a comparison needs to know


def evaluate_segmenter(segmenter: Segmenter, task: LabelledTask, *, crf: CRFConfig, seed: int) -> EvaluatedSegmenter:
    """Choose by the labelled images alone how maps become masks, and test that once.

    Where none of these has a defect (the setting clean), the threshold is the one above which none of their maps has a
    region of 0.1 % of the image.

    Args:
      crf: what may refine maps that are logits.
      seed: of the training, for the record, and of the bootstrap over test images.
    """
    labelled, test = task.labelled, task.test
    known, maps = segmenter_maps(segmenter, task)
    if task.details["setting"] == "clean":
        readings, labelled_f1 = reading_of_normals(known), None
        chosen = next(iter(readings))
    else:
        readings = readings_of(known, labelled.masks, None if segmenter.method in UNTAUGHT else crf)
        chosen, labelled_f1 = choose_reading(readings, known, labelled.masks, labelled.images)
    predicted = {name: read(reading, maps, test.images) for name, reading in readings.items()}
    # Anomaly-free images that no training saw set the threshold of RPRO.
    normal = None if task.normal is None else image_maps(segmenter, task.normal.images)
    record = {
        "method": segmenter.method,
        "seed": seed,
        "reading": chosen,
        "threshold": readings[chosen].threshold,
        "labelled_f1": labelled_f1,
        "test": summarise_segmentation(maps, predicted[chosen], test.masks, normal_maps=normal, seed=seed),
        "readings": {name: pixel_scores(masks, test.masks)._asdict() for name, masks in predicted.items()},
        "kinds": kind_scores(task, predicted[chosen]),
        "images": image_rows(test.ids, predicted[chosen], test.masks, maps),
        "curves": segmenter.curves,
    }
    return EvaluatedSegmenter(segmenter, readings[chosen], maps, predicted[chosen], record)


def keep_masks(folder: Run, evaluated: EvaluatedSegmenter) -> None:
    """Keep the predicted masks of a method, for the report."""
    files.write_array(folder.path / "masks" / f"{evaluated.segmenter.method}.npy", evaluated.masks)


def keep_segmenter(folder: Run, task: LabelledTask, evaluated: EvaluatedSegmenter, *, seed: int) -> None:
    """Save the detector, its masks and overlays as PNG and, of neural batch sampling, what the report shows of it."""
    segmenter, state, scale = evaluated.segmenter, evaluated.segmenter.state, overlays.colour_scale(evaluated.maps)
    is_sampler = segmenter.name == "nbs"
    saving.save(
        folder.best, config=segmenter.config,
        state=sampling.without_images(segmenter.config, state) if is_sampler else state,
        image_shape=task.labelled.images.shape[1:], threshold=thresholds.fixed(evaluated.reading.threshold),
        details={"task": task.name, "seed": seed, "map_scale": scale} | saving.how_read(task.details),
    )  # fmt: skip
    overlays.write_masks(folder.path / "masks", evaluated.masks)
    images = to_float(task.test.images)
    overlays.write_overlays(folder.path / "overlays", images, evaluated.maps, scale=scale, numbers=shown_images(task))
    if is_sampler and task.details["setting"] == "transductive":
        for kind, profiles in sampling.pixel_profiles(state, task.test.masks).items():
            files.write_array(folder.path / "profiles" / f"{kind}.npy", profiles)
    if is_sampler and segmenter.config.strategy == "learned":
        visits = sampling.labelled_visits(segmenter.config, state, to_float(task.labelled.images))
        files.write_array(folder.path / "visits.npy", visits)


def on_its_way(tell: Callable[[str], None], steps: int, keep: sampling.OnChunk | None) -> sampling.OnChunk:
    """What tells how far a training of so many steps has come, and has `keep` called, too."""

    def look(done: int, state: sampling.NBSState, info: sampling.NBSInfo) -> None:
        tell(f"step {done} of {steps}")
        if keep is not None:
            keep(done, state, info)

    return look


def visit_keeper(folder: Path, config: sampling.NBSConfig, task: LabelledTask, steps: int) -> sampling.OnChunk:
    """What keeps, `VIEWS` times in a training of so many steps, where the sampler goes among the labelled images."""
    stride = max(1, steps // VIEWS)

    def keep(done: int, state: sampling.NBSState, info: sampling.NBSInfo) -> None:
        if done // stride > (done - len(info.prediction)) // stride:
            visits = sampling.current_visits(config, state, to_float(task.labelled.images))
            files.write_array(folder / "visits" / f"{done}.npy", visits)

    return keep


def drop_torn(
    records: MutableMapping[str, Any], folder: Path, task: LabelledTask, methods: Sequence[str], seed: int
) -> None:
    """Forget the record of every method whose files of the first seed are missing or damaged: it is trained again.

    Args:
      records: by names such as "unet-seed0".
      seed: the first one.
    """
    for method in methods:
        name = f"{method}-seed{seed}"
        if name in records and not _is_whole(folder, task, method, shown=method == methods[0]):
            del records[name]


def _is_whole(folder: Path, task: LabelledTask, method: str, *, shown: bool) -> bool:
    """Whether all that `keep_masks` and, of the method that is shown, `keep_segmenter` leave is there."""
    try:
        if files.read_array(folder / "masks" / f"{method}.npy").shape != task.test.masks.shape:
            return False
        if not shown:
            return True
        saving.load(folder / "best", trainable=False)
        arrays = [folder / "visits.npy"] if method == "nbs" else []
        if method in STRATEGY and task.details["setting"] == "transductive":
            arrays += sorted((folder / "profiles").glob("*.npy")) or [folder / "profiles"]
        for path in [*arrays, *(folder / "visits").glob("*.npy")]:
            files.read_array(path)
    except ValueError:
        return False
    pictures = (("masks", len(task.test.ids)), ("overlays", len(shown_images(task))))
    return all(len(list((folder / kind).glob("*.png"))) >= count for kind, count in pictures)


# ---- what the report shows -------------------------------------------------------------------------------------


def shown_images(task: LabelledTask) -> np.ndarray:
    """Up to eight test images, from those with most anomalous pixels to those with none."""
    order = np.argsort(-task.test.masks.mean((1, 2)), kind="stable")
    return order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]


def segmentation_pictures(folder: Path, task: LabelledTask, methods: Sequence[str]) -> dict[str, Any]:
    """What `report.render_segmentation` draws of the arrays in a run folder: masks, visits and profiles."""
    profiles = {file.stem: files.read_array(file) for file in sorted((folder / "profiles").glob("*.npy"), reverse=True)}
    return {
        "masks": mask_rows(folder, task, methods, shown_images(task)),
        "unseen": mask_rows(folder, task, methods, unseen := unseen_images(task)),
        "unseen_kinds": kinds_tested(task)[unseen].tolist(),
        "visits": visit_rows(folder, task), "profiles": profiles,
    }  # fmt: skip


def unseen_images(task: LabelledTask) -> np.ndarray:
    """Up to eight test images with defects of kinds that no labelled image shows, of all such kinds in turn."""
    kinds, seen = kinds_tested(task), seen_kinds(task)
    own = [np.flatnonzero(kinds == kind) for kind in sorted(set(kinds.tolist()) - seen - {""})]
    turns = [index for turn in itertools.zip_longest(*own) for index in turn if index is not None]
    return np.array(turns[:SHOWN], int)


def mask_rows(folder: Path, task: LabelledTask, methods: Sequence[str], chosen: np.ndarray) -> Rows:
    """Rows of chosen test images, of the masks that every method predicts, and of the truth; none of no image."""
    if not len(chosen):
        return []
    rows = [("image", to_float(task.test.images[chosen]))]
    rows += [(method, _drawn(files.read_array(folder / "masks" / f"{method}.npy")[chosen])) for method in methods]
    return [*rows, ("truth", _drawn(task.test.masks[chosen]))]


def visit_rows(folder: Path, task: LabelledTask) -> Rows:
    """Rows of labelled images, their masks, and how often the sampler visits each pixel; none without a sampler.

    Visits are those of the sampler on its way through the training, and of that of the best step.
    """
    if not (folder / "visits.npy").exists():
        return []
    known = {int(file.stem): file for file in (folder / "visits").glob("*.npy")}
    places = {f"after {steps:,} steps": known[steps] for steps in sorted(known)} | {"best step": folder / "visits.npy"}
    visits = {name: _drawn(files.read_array(file)) for name, file in places.items()}
    rows = [("image", to_float(task.labelled.images)), ("mask", _drawn(task.labelled.masks))]
    return rows + [(name, counts / counts.max()) for name, counts in visits.items()]


def _drawn(masks: np.ndarray) -> np.ndarray:
    """Masks or counts [k, H, W] as images [k, H, W, 1]."""
    return masks[..., None].astype(float)
