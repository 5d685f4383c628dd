"""From maps to masks by a few labelled images, and tables over methods and seeds."""

import csv
import io

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from jaxad._utils import files
from jaxad.data.protocols.few_masks import LabelledTask, load_labelled
from jaxad.data.task import Split
from jaxad.methods import DETECTORS
from jaxad.methods.nbs import NBSConfig
from jaxad.metrics.pixel import normal_threshold
from jaxad.nn.crf import CRFConfig
from jaxad.runs import saving, segmenter_evaluation
from jaxad.runs.segmentation import (
    Reading,
    choose_reading,
    image_rows,
    image_table,
    mean_over_seeds,
    over_seeds,
    read,
    readings_of,
    student_interval,
)
from jaxad.runs.segmenter_evaluation import drop_torn
from jaxad.runs.segmenters import Segmenter, SegmentersConfig, check_methods, segmenter_maps, train_segmenter
from jaxad.training.loop import fit

CRF = CRFConfig(smooth_sd=1.0, bilateral_sd=4.0, iterations=2, method="exact")


@pytest.fixture
def scene(rng):
    """Logits that see a square, with much noise, on images that show it."""
    masks = np.zeros((3, 12, 12), np.uint8)
    masks[:, 4:9, 3:8] = 1
    images = np.where(masks, 200, 60).astype(np.uint8)[..., None]
    return (3.0 * masks - 1 + rng.normal(0, 1.5, masks.shape)).astype(np.float32), masks, images


def test_the_crf_is_used_where_it_helps_on_labelled_images(scene):
    maps, masks, images = scene
    plain = readings_of(maps, masks, None)
    assert list(plain) == ["threshold"]
    name, f1 = choose_reading(plain, maps, masks, images)
    assert f1 == pytest.approx(f1_score(masks.ravel(), (maps > plain[name].threshold).ravel()))
    readings = readings_of(maps, masks, CRF)
    assert readings["1/2, CRF"] == Reading(0.0, CRF)
    name, better = choose_reading(readings, maps, masks, images)
    assert readings[name].crf == CRF
    assert better > f1
    assert better == pytest.approx(f1_score(masks.ravel(), read(readings[name], maps, images).ravel()))
    blind, thin = np.full_like(images, 60), np.zeros_like(masks)
    thin[:, 5] = 1  # where colours tell nothing, smoothing takes a thin line away
    maps = (4.0 * thin - 2).astype(np.float32)
    assert choose_reading(readings_of(maps, thin, CRF), maps, thin, blind) == ("threshold", 1.0)


def test_a_threshold_between_two_floats_still_parts_them():
    low = np.float32(1)
    maps = np.array([[[low, np.nextafter(low, np.float32(2))]]])
    masks = np.array([[[0, 1]]])
    readings = readings_of(maps, masks, None)
    assert choose_reading(readings, maps, masks, maps[..., None]) == ("threshold", 1.0)
    np.testing.assert_array_equal(read(readings["threshold"], maps, maps[..., None]), masks)


def record(method, seed, f1, rows=()):
    test = {"f1": {"value": f1, "low": f1 - 0.1, "high": f1 + 0.1}, "prevalence": 0.2}
    return {"method": method, "seed": seed, "test": test, "images": rows}


def test_means_and_gaps_over_seeds():
    ours, theirs = (0.5, 0.7, 0.6), (0.2, 0.6, 0.4)
    records = [record(name, seed, f1) for name, all in (("a", ours), ("b", theirs)) for seed, f1 in enumerate(all)]
    first, second = over_seeds(records, ("f1",))
    assert first["f1"]["mean"] == pytest.approx(0.6)
    assert first["f1"]["sd"] == pytest.approx(np.std(ours, ddof=1))
    assert first["f1_gap"]["values"] == [0, 0, 0]
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (second["f1_gap"]["low"], second["f1_gap"]["high"]) == pytest.approx(tuple(expected))
    whole = mean_over_seeds(records[:3])
    assert whole["prevalence"] == pytest.approx(0.2)
    assert (whole["f1"]["low"], whole["f1"]["high"]) == pytest.approx(student_interval(ours))
    assert student_interval([1.0]) is None
    assert mean_over_seeds(records[:1]) == records[0]["test"]
    assert over_seeds(records[:1], ("f1",))[0]["f1_gap"]["low"] is None


def test_the_table_of_images_counts_pixels(scene):
    maps, masks, _ = scene
    predicted = maps > 0
    rows = image_rows(["x", "y,z", "w"], predicted, masks, maps)
    found = list(csv.DictReader(io.StringIO(image_table([record("a", 4, 0.5, rows)]))))
    assert [row["id"] for row in found] == ["x", "y,z", "w"]
    assert {row["method"] for row in found} == {"a"}
    both = sum(int(row["both"]) for row in found)
    assert both == (predicted & (masks > 0)).sum()
    assert sum(int(row["predicted"]) for row in found) == predicted.sum()


@pytest.fixture
def kept(tmp_path, rng):
    """A folder as a run of "nbs" and "unet" leaves it, and its task."""
    form = (4, 8, 8)
    parts = [Split(rng.integers(0, 256, (*form, 1), np.uint8), None, rng.random(form) > 0.5, np.arange(4))] * 3
    task = LabelledTask("x", *parts, None, {"setting": "transductive"})
    for method in ("nbs", "unet"):
        files.write_array(tmp_path / "masks" / f"{method}.npy", parts[2].masks)
    for name in ("visits", "profiles/normal"):
        files.write_array(tmp_path / f"{name}.npy", np.zeros(3))
    for kind in ("masks", "overlays"):
        for i in range(4):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{i}.png").touch()
    detector = DETECTORS["pca"].build(components=1)
    state = fit(detector, jax.random.key(0), parts[0].images, steps=1, batch_size=4)[0]
    saving.save(tmp_path / "best", DETECTORS["pca"].config(components=1), state, image_shape=(8, 8, 1))
    return tmp_path, task


@pytest.mark.parametrize(
    ("file", "forgotten"),
    [
        (None, []), ("masks/unet.npy", ["unet"]), ("masks/nbs.npy", ["nbs"]), ("visits.npy", ["nbs"]),
        ("profiles/normal.npy", ["nbs"]), ("best/weights.safetensors", ["nbs"]), ("overlays/2.png", ["nbs"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["gone", "empty", "halved"])
def test_a_method_whose_files_are_damaged_is_trained_again(kept, file, forgotten, damage):
    folder, task = kept
    if file is not None and damage == "gone":
        (folder / file).unlink()
    elif file is not None and not file.endswith("png"):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2 if damage == "halved" else 0])
    elif file is not None:
        return  # a picture is for people: nothing reads it
    records = {f"{method}-seed{seed}": {} for method in ("nbs", "unet") for seed in (3, 4)}
    drop_torn(records, folder, task, ["nbs", "unet"], 3)
    assert set(records) == {"nbs-seed3", "unet-seed3", "nbs-seed4", "unet-seed4"} - {f"{m}-seed3" for m in forgotten}


def test_a_grid_that_is_too_large_is_known_before_any_training(rng):
    part = Split(rng.integers(0, 256, (4, 32, 32, 5), np.uint8), None, np.zeros((4, 32, 32), np.uint8), np.arange(4))
    task = LabelledTask("x", part, part, part, None, {})
    with pytest.raises(ValueError, match=r"a bilateral grid of .*--nbs\.crf\.method exact") as error:
        check_methods(SegmentersConfig(), ("unet",), task)
    assert "\n" not in str(error.value)
    exact = SegmentersConfig(nbs=NBSConfig(crf=CRFConfig(method="exact")))
    check_methods(exact, ("unet",), task)
    check_methods(SegmentersConfig(), ("l2", "pca", "linear_patches"), task)  # which use none, and take any channels


def test_without_any_defect_to_choose_by_the_threshold_is_that_of_good_images(monkeypatch, rng):
    task = load_labelled("painted:gravel:16", setting="clean", limit=16)
    with pytest.raises(ValueError, match=r"--setting clean has no defect .* --methods l2 pca linear_patches"):
        check_methods(SegmentersConfig(), ("l2", "unet"), task)
    check_methods(SegmentersConfig(), ("l2", "pca", "linear_patches"), task)
    known, maps = rng.random((len(task.labelled.ids), 16, 16)), rng.random(task.test.masks.shape) + task.test.masks
    monkeypatch.setattr(segmenter_evaluation, "segmenter_maps", lambda segmenter, task: (known, maps))
    segmenter = Segmenter("l2", "conv_autoencoder", None, None, None, {})
    found = segmenter_evaluation.evaluate_segmenter(segmenter, task, crf=CRFConfig(), seed=0)
    assert found.reading.threshold == normal_threshold(known)
    np.testing.assert_array_equal(found.masks, maps > found.reading.threshold)
    assert (found.record["reading"], found.record["labelled_f1"]) == ("good images", None)


@pytest.mark.parametrize("method", ["pca", "linear_patches"])
def test_methods_that_no_mask_teaches_see_all_images_and_no_mask(method, tmp_path):
    task = load_labelled("painted:gravel:32", limit=16)
    settings = SegmentersConfig()

    def maps(labelled, unlabelled=task.unlabelled):
        changed = task._replace(labelled=labelled, unlabelled=unlabelled)
        trained = train_segmenter(settings, method, changed, seed=0, path=tmp_path / "state")
        return segmenter_maps(trained, task)[1]

    found = maps(task.labelled)
    assert found.shape == task.test.masks.shape
    np.testing.assert_array_equal(maps(task.labelled._replace(masks=1 - task.labelled.masks)), found)
    inverted = [part._replace(images=255 - part.images) for part in (task.labelled, task.unlabelled)]
    for changed in (maps(inverted[0]), maps(task.labelled, inverted[1])):
        assert np.abs(changed - found).max() > 1e-3 * np.abs(found).max()
