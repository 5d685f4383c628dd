"""Tasks of tiles: which pixels, labels and names tiles have, and that a saved detector cuts new images likewise."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import jaxad
from jaxad import data
from jaxad.data.protocols.tiled import held_out_normal_scores, side_to_cut, tiled_task
from jaxad.data.task import check_task, table
from jaxad.data.tiles import grid_of
from jaxad.methods import DETECTORS
from jaxad.runs import runner, saving
from jaxad.runs.detection import map_image, read_for, score_rows
from jaxad.runs.evaluation import evaluate
from jaxad.runs.folder import create_run
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images


@pytest.fixture(scope="module")
def whole():
    return data.load_task("painted:brick:40", limit=12)


@pytest.fixture(scope="module")
def tiles(whole):
    return tiled_task(whole, 2)


def test_tiles_are_slices_of_images_and_masks_and_labels_follow_the_masks(whole, tiles):
    grid = grid_of((40, 40), 2)
    assert tiles.train.images.shape[1:3] == grid.tile
    assert len(tiles.train.images) == 4 * len(whole.train.images)
    for before, after in ((whole.valid, tiles.valid), (whole.test, tiles.test)):
        for place, (top, left) in enumerate(grid.corners):
            where = np.s_[:, top : top + grid.tile[0], left : left + grid.tile[1]]
            np.testing.assert_array_equal(after.images[place::4], before.images[where])
            np.testing.assert_array_equal(after.masks[place::4], before.masks[where])
        np.testing.assert_array_equal(after.labels, after.masks.any((1, 2)))
        anomalous = after.labels.reshape(-1, 4).max(1)
        np.testing.assert_array_equal(anomalous, before.labels)  # together they cover the image
    assert not tiles.train.labels.any()
    check_task(tiles)
    assert "tiles: 2 along each side of 40x40; counts and figures are of tiles, the threshold of images" in table(tiles)
    assert tiled_task(whole, 1) is whole


def test_loading_cuts_larger_images_to_tiles_of_the_wanted_side(tmp_path, rng):
    assert side_to_cut(224, 2) == 392
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (70, 90), np.uint8)).save(tmp_path / f"{number}.png")
    task = data.load_task(f"folder:{tmp_path}", image_size=24, tiles=2, seed=3)
    assert task.train.images.shape[1:3] == (24, 24)
    assert task.details["tiled_from"] == [42, 42]
    assert task.test.labels.any()  # of anomalies that were made, with masks
    config = data.TaskConfig(dataset=f"folder:{tmp_path}", image_size=24, tiles=2)
    np.testing.assert_array_equal(config.load_task(3).test.images, task.test.images)
    with pytest.raises(ValueError, match=r"of 180006x180006 pixels take .* memory, .*: give a smaller image size"):
        dataclasses.replace(config, tiles=10_000).load_task(3)
    as_they_are = data.load_task("painted:gravel:64", limit=10, image_size=None, tiles=2)
    assert as_they_are.train.images.shape[1:3] == grid_of((64, 64), 2).tile


def test_what_makes_no_sense_is_refused(whole):
    with pytest.raises(ValueError, match="anomalous images without masks, so that nobody knows"):
        tiled_task(whole._replace(valid=whole.valid._replace(masks=None)), 2)
    with pytest.raises(ValueError, match="tiles is 0; the least is 1"):
        data.TaskConfig(tiles=0).load_task(0)


def test_a_saved_detector_of_tiles_cuts_new_images_as_in_training(whole, tiles, tmp_path):
    config = DETECTORS["padim"].tiny["tiny"]
    detector = DETECTORS["padim"].build(config)
    state, _ = fit(detector, jax.random.key(0), tiles.train.images, steps=2, batch_size=12)
    details = saving.how_read(tiles.details)
    saving.save(tmp_path, config, state, image_shape=tiles.train.images.shape[1:], details=details)
    loaded = saving.load(tmp_path, trainable=False)
    image, own = whole.test.images[0], tiles.test.images[:4]
    np.testing.assert_array_equal(read_for(loaded, image), own)
    (score,) = score_rows(loaded, [read_for(loaded, image)], 8)
    assert score == max(score_rows(loaded, [one[None]], 8)[0] for one in own)
    assert map_image(loaded, image).shape == (40, 40)


def test_a_threshold_is_set_on_the_worst_tile_of_each_normal_image(whole, tiles, rng):
    scores = rng.random(len(tiles.valid.labels)).astype(np.float32)
    images = [scores[4 * i : 4 * i + 4].max() for i in range(len(whole.valid.labels)) if not whole.valid.labels[i]]
    np.testing.assert_array_equal(held_out_normal_scores(tiles, scores), images)
    of_images = rng.random(len(whole.valid.labels))
    np.testing.assert_array_equal(held_out_normal_scores(whole, of_images), of_images[whole.valid.labels == 0])


def test_the_share_of_images_that_are_flagged_is_the_wanted_one(whole, tiles):
    detector = DETECTORS["padim"].build(DETECTORS["padim"].tiny["tiny"])
    state, _ = fit(detector, jax.random.key(0), tiles.train.images, steps=2, batch_size=12)
    threshold = evaluate(detector, state, tiles, target_fpr=0.2, resamples=2).threshold
    normal = np.flatnonzero(whole.valid.labels == 0)
    worst = [score_images(detector, state, tiles.valid.images[4 * i : 4 * i + 4]).max() for i in normal]
    assert np.mean(np.array(worst) > threshold.value) <= 0.2
    assert threshold.n == len(normal)


def test_scores_of_a_stream_compare_with_those_of_calibration(whole, tiles, tmp_path):
    config = DETECTORS["padim"].tiny["tiny"]
    detector = DETECTORS["padim"].build(config)
    state, _ = fit(detector, jax.random.key(0), tiles.train.images, steps=2, batch_size=12)
    run = create_run(tmp_path / "run", {}, name="train_detector")
    runner.keep(run, tiles, config, state, evaluate(detector, state, tiles, target_fpr=0.2, resamples=2))
    predictor = jaxad.load(run.best)
    normal = whole.valid.images[whole.valid.labels == 0]
    np.testing.assert_allclose(np.sort(predictor.predict(normal, maps=False).scores), predictor.calibration, rtol=1e-5)
    assert predictor.monitor().state().calibration == len(normal)
    with pytest.raises(ValueError, match="tiles do not compare"):
        predictor.monitor(tiling=1)
