"""What detectors are trained on: images with what is known of them, checked and brought to the device."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxad._utils.validate import check_whole
from jaxad.data.batches import to_float
from jaxad.data.equals import constant_images
from jaxad.data.images import check_images, check_masks
from jaxad.types import Array, Batch, Detector, State


class TrainingData(NamedTuple):
    """What is trained on, on the device. Members with sets of their own share `images` and have axis P in the rest."""

    images: Array
    rows: Array | None  # [n] which of the images are in the set, where not all are; all else counts within the set
    labels: Array | None
    masks: Array | None  # of all images
    normal: Array | None  # indices, where batches get a number of anomalies
    anomalous: Array | None

    def batch(self, indices: Array) -> Batch:
        """Images of the set, with what is known of them."""
        rows = indices if self.rows is None else self.rows[indices]
        labels = None if self.labels is None else self.labels[indices]
        masks = None if self.masks is None else self.masks[rows].astype(jnp.float32)
        return Batch(to_float(self.images[rows]), labels, masks)


def check_training_data(
    images: Array | np.ndarray,
    labels: Array | np.ndarray | None,
    masks: Array | np.ndarray | None,
    anomalies: int | None,
    steps: int,
    batch_size: int,
    chunk: int,
    state: State | None,
    start_step: int,
    rows: np.ndarray | None = None,
) -> TrainingData:
    """What to train on, on the device, once everything has been found fit for training.

    Arguments are those of `jaxad.training.loop.fit_population`, `rows` from `check_rows`; ValueError where they do not
    fit together.
    """
    check_whole(steps=steps, batch_size=batch_size, chunk=chunk, start_step=start_step)
    if isinstance(images, np.ndarray):
        images = check_images(images, "training images")
    elif images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"training images have shape {images.shape}; give [N, H, W, C] with at least one image")
    if batch_size < 1 or chunk < 1:
        raise ValueError(f"batch_size is {batch_size} and chunk {chunk}; the least of both is 1")
    if steps < 0:
        raise ValueError(f"steps is {steps}; the least is 0, which leaves the detector as it begins")
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step is {start_step} of {steps} steps; give a number from 0 to steps")
    if (start_step > 0) != (state is not None):
        raise ValueError(f"start_step is {start_step}; to go on, give the state after that many steps, and only then")
    if (steps + chunk) * batch_size >= 2**31:
        raise ValueError(f"{steps} steps of {batch_size} images are too many; train 2^31 images at most")
    shape = images.shape[:1] if rows is None else rows.shape
    if labels is not None and np.shape(labels) != shape:
        raise ValueError(f"labels have shape {np.shape(labels)}; give {shape}, one for each of the training images")
    if isinstance(masks, np.ndarray):
        masks = check_masks(masks, images, "training masks")
    elif masks is not None and masks.shape != images.shape[:3]:
        raise ValueError(f"training masks have shape {masks.shape}; give {images.shape[:3]}, one for each image")
    normal = anomalous = None
    if anomalies is not None and rows is None:
        normal, anomalous = _kinds(labels, anomalies, batch_size)
    elif anomalies is not None:
        kinds = [_kinds(own, anomalies, batch_size) for own in ([None] if labels is None else labels)]
        if len({len(own) for own, _ in kinds}) > 1:
            raise ValueError("members have different numbers of anomalies: train them apart, or give them equally many")
        normal, anomalous = (jnp.stack(indices) for indices in zip(*kinds))
    labels = None if labels is None else jnp.asarray(labels, jnp.int32)
    rows = None if rows is None else jnp.asarray(rows, jnp.int32)
    masks = None if masks is None else jnp.asarray(masks)
    return TrainingData(jnp.asarray(images), rows, labels, masks, normal, anomalous)


def check_known(detector: Detector, labels: Array | np.ndarray | None, masks: Array | np.ndarray | None) -> None:
    """Raise ValueError for known anomalies, or masks of defects, of which a detector would learn that they are normal.

    Labels or masks without any are true of what such a detector is shown, and change nothing.
    """
    remedy = "leave these images out, or train a detector whose `labels` is"
    if labels is not None and detector.labels not in ("anomalies", "classes") and (known := np.count_nonzero(labels)):
        raise ValueError(
            f"{known} images are labelled anomalous, from which the detector cannot learn: {remedy} anomalies"
        )
    if masks is not None and detector.labels not in ("anomalies", "masks") and (known := np.count_nonzero(masks)):
        raise ValueError(f"masks have {known} anomalous pixels, from which the detector cannot learn: {remedy} masks")


def check_varied(images: np.ndarray) -> None:
    """Raise ValueError for training images with nothing to learn, several that are all the same or each of one colour.

    A detector of them may flag nothing, ever.
    """
    if len(images) > 1 and (images[1] == images[0]).all() and (images[1:] == images[:1]).all():
        raise ValueError(
            f"all {len(images)} training images are equal: give different ones, or look how they were read"
        )
    if images[0, :, :, 0].size > 1 and constant_images(images).all():
        raise ValueError(
            f"each of {len(images)} training images has one colour throughout: give others, or look how they were read"
        )


def check_rows(rows: np.ndarray, members: int, images: int) -> np.ndarray:
    """The sets of a population's members, as indices [P, n] into the images; ValueError where they are none."""
    rows = np.asarray(rows)
    if rows.ndim != 2 or len(rows) != members or not rows.size or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"rows have shape {rows.shape}, {rows.dtype}; give whole numbers [{members}, n], n at least 1")
    if not 0 <= rows.min() <= rows.max() < images:
        raise ValueError(f"rows are from {rows.min()} to {rows.max()}; give indices of the {images} images, from 0")
    return rows


def _kinds(labels: Array | np.ndarray | None, anomalies: int, batch_size: int) -> tuple[Array, Array]:
    """Indices of normal and of anomalous images, for batches with so many anomalies."""
    if labels is None:
        raise ValueError(f"anomalies_per_batch is {anomalies}, but no image is labelled: give labels, or leave it out")
    if not 1 <= anomalies < batch_size:
        raise ValueError(f"anomalies_per_batch is {anomalies}; give 1 to {batch_size - 1}, less than batch_size")
    kinds = [np.flatnonzero((np.asarray(labels) > 0) == kind).astype(np.int32) for kind in (False, True)]
    for name, found in zip(("normal", "anomalous"), kinds):
        if not len(found):
            raise ValueError(f"no training image is labelled {name}; anomalies_per_batch needs both kinds")
    return jnp.asarray(kinds[0]), jnp.asarray(kinds[1])
