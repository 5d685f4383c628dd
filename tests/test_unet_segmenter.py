"""The supervised segmenter: its loss, what it is taught by, and that a few masks teach it."""

import functools

import jax
import numpy as np
import pytest

from jaxad.data.protocols.few_masks import load_labelled
from jaxad.methods.unet_segmenter import cross_entropy, overlap, unet_segmenter
from jaxad.metrics.pixel import pixel_auroc
from jaxad.sklearn import AnomalyDetector
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Batch

TINY = {"width": 0.1, "levels": 2}


@functools.partial(jax.jit, static_argnums=0)
def started(detector, key, images):
    return detector.init(key, images)


@functools.partial(jax.jit, static_argnums=0)
def stepped(detector, key, state, batch):
    return detector.step(key, state, batch)


def test_losses_are_those_written_above(rng):
    logits = rng.normal(0, 3, (3, 4, 5)).astype(np.float32)
    masks = (rng.random((3, 4, 5)) < 0.3).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    entropy = -np.mean(masks * np.log(p) + (1 - masks) * np.log(1 - p))
    np.testing.assert_allclose(jax.jit(cross_entropy)(logits, masks), entropy, rtol=1e-5)
    dice = (2 * (p * masks).sum() + 1) / (p.sum() + masks.sum() + 1)
    np.testing.assert_allclose(jax.jit(overlap)(logits, masks), dice, rtol=1e-5)


def test_a_step_is_told_by_masks_alone_and_adds_up(rng):
    images = rng.random((4, 8, 8, 1)).astype(np.float32)
    masks = (rng.random((4, 8, 8)) < 0.2).astype(np.float32)
    detector = unet_segmenter(**TINY, overlap_weight=0.5, augment=False)
    state = started(detector, jax.random.key(0), images)
    _, info = stepped(detector, jax.random.key(1), state, Batch(images, None, masks))
    np.testing.assert_allclose(info.loss, info.cross_entropy + 0.5 * (1 - info.overlap), rtol=1e-5)
    other, same = (
        stepped(detector, jax.random.key(2), state, Batch(images, labels, masks))[0].variables
        for labels in (None, np.ones(4, np.int32))
    )
    jax.tree.map(np.testing.assert_array_equal, other, same)
    maps = map_images(detector, state, images, 4)
    np.testing.assert_array_equal(score_images(detector, state, images, 4), maps.max((1, 2)))


@pytest.mark.slow
def test_a_few_masks_teach_it_to_find_defects():
    """On new textures with painted defects every trained seed beats every untrained one, and chance."""
    task = load_labelled("painted:brick:32", labelled=16, setting="inductive", limit=60)
    steps, detector = 150, unet_segmenter(width=0.125, levels=2, steps=150, learning_rate=1e-2)
    values = {0: [], steps: []}
    for seed in range(2):
        for count, found in values.items():
            options = {"steps": count, "batch_size": 8, "masks": task.labelled.masks}
            state, _ = fit(detector, jax.random.key(seed), task.labelled.images, **options)
            found.append(pixel_auroc(map_images(detector, state, task.test.images, 16), task.test.masks))
    print(values)
    assert min(values[steps]) > max(0.7, *values[0])


def test_what_it_cannot_learn_from_is_refused(rng):
    images = rng.random((4, 8, 8, 1)).astype(np.float32)
    detector = unet_segmenter(**TINY)
    with pytest.raises(ValueError, match="masks is None; a segmenter needs the mask"):
        fit(detector, jax.random.key(0), images, steps=1, batch_size=2)
    options = {"steps": 1, "batch_size": 2}
    with pytest.raises(ValueError, match=r"training masks has shape \(4, 8, 7\)"):
        fit(detector, jax.random.key(0), images, masks=np.zeros((4, 8, 7), np.uint8), **options)
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        fit(detector, jax.random.key(0), images, masks=np.full((4, 8, 8), 255, np.uint8), **options)
    with pytest.raises(ValueError, match="2 levels need multiples of 2"):
        detector.init(jax.random.key(0), images[:, :7])
    with pytest.raises(ValueError, match="unet_segmenter learns from masks"):
        AnomalyDetector("unet_segmenter").fit(images)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0.0}, "width is 0.0"),
        ({"levels": 0}, "levels is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"overlap_weight": -1.0}, "overlap_weight is -1.0"),
    ],
)
def test_configs_say_what_is_wrong_with_them(fields, message):
    with pytest.raises(ValueError, match=message):
        unet_segmenter(**fields)
