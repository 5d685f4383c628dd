"""Rivals of a search are ranked by validation alone, kept and not fitted again, and cost what is said."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxad.data import textures
from jaxad.data.made_anomalies import make_anomalies
from jaxad.data.protocols.default import task_from_arrays
from jaxad.methods import DETECTORS
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.methods.padim import padim
from jaxad.metrics.image import auroc
from jaxad.metrics.pixel import pixel_auroc
from jaxad.runs import rivals, saving
from jaxad.runs.rivals import (
    CLASSICAL,
    OF_FEATURES,
    Entrant,
    Rival,
    best_of,
    check_rivals,
    enter,
    enter_all,
    features_for,
    margin_of,
    megabytes,
    rivals_for,
    validated,
)
from jaxad.runs.search_config import SearchConfig
from jaxad.training import staged
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images

RANDOM = FeatureConfig(backbone="random", width=4)
PCA = Rival("pca", "pca", DETECTORS["pca"].config())
BANK = Rival("memory_bank", "memory_bank", DETECTORS["memory_bank"].config(features=RANDOM, memory=32, bank=50))
PCA_DETECTOR = DETECTORS["pca"].build(PCA.config)
PADIM = Rival("padim, deep", "padim", DETECTORS["padim"].config(features=RANDOM, dimensions=8))


def task_of(train=24, side=32):
    brick = textures(side).images
    made = make_anomalies(brick[60:72], 12)

    def part(first):
        images = np.concatenate([brick[first : first + 8], made.images[first % 12 :][:6]])
        masks = np.concatenate([np.zeros((8, side, side), np.uint8), made.masks[first % 12 :][:6]])
        return images, np.repeat([0, 1], [8, len(images) - 8]), masks

    return task_from_arrays(brick[:train], part(36), part(54))


TASK = task_of()


def entrant(label, value, margin=0.0):
    return Entrant(label, None, None, None, value, margin, np.zeros(2), 0.0)


# ---- which are asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("auto",), ("none",), ("pca",), (*CLASSICAL, *OF_FEATURES)])
def test_known_rivals_are_accepted(names):
    check_rivals(names)


@pytest.mark.parametrize("names", [("luck",), ("pca", "luck"), ("auto", "pca"), ("pca", "none")])
def test_unknown_rivals_are_named(names):
    wrong = next(name for name in names if name not in CLASSICAL)
    with pytest.raises(ValueError, match=f"^rivals has '{wrong}'; give auto, none, or some of pca, .*dictionary$"):
        check_rivals(names)


def test_rivals_by_the_images_of_a_task(monkeypatch):
    labels = [rival.label for rival in rivals_for(("auto",), RANDOM, TASK)]
    assert labels == [*CLASSICAL, "padim", "padim, deep", "linear_patches", "linear_patches, deep", *OF_FEATURES[2:]]
    assert rivals_for(("none",), RANDOM, TASK) == []
    chosen = rivals_for(("memory_bank", "pca"), RANDOM, TASK)
    assert [(rival.label, rival.method) for rival in chosen] == [("pca", "pca"), ("memory_bank", "memory_bank")]
    deep = next(rival for rival in rivals_for(("padim",), RANDOM, TASK) if rival.label == "padim, deep")
    assert deep.config.features == dataclasses.replace(RANDOM, use="deep")

    def shaped(shape):
        return TASK._replace(train=TASK.train._replace(images=np.zeros((4, *shape), np.uint8)))

    for shape in ((15, 32, 1), (32, 32, 2)):  # too small; channels that no photograph has
        assert [rival.label for rival in rivals_for(("auto",), RANDOM, shaped(shape))] == list(CLASSICAL)
    monkeypatch.setattr(rivals, "MOST_IMAGES", 51)  # 24 + 14 + 14 are 52
    assert [rival.label for rival in rivals_for(("auto",), RANDOM, TASK)] == list(CLASSICAL)
    monkeypatch.setattr(rivals, "MOST_IMAGES", 52)
    assert len(rivals_for(("auto",), RANDOM, TASK)) == 10


def test_small_images_are_enlarged_for_a_network_of_photographs():
    trained = FeatureConfig(backbone="efficientnet_lite0")
    assert features_for(trained, (95, 200, 3)).side == rivals.LEAST_SIDE
    assert features_for(trained, (96, 96, 3)) == trained
    own = dataclasses.replace(trained, side=64)
    assert features_for(own, (28, 28, 1)) == own
    assert features_for(RANDOM, (28, 28, 1)) == RANDOM


# ---- which is returned -----------------------------------------------------------------------------------------------


def test_the_best_by_value_then_by_margin():
    low, tie, high = entrant("low", 0.9, 9.0), entrant("tie", 0.9504, 1.0), entrant("high", 0.9501, 2.0)
    assert best_of([low, tie, high]) is high  # equal to three digits
    assert best_of([low, tie, entrant("more", 0.952, 0.1)]).label == "more"
    assert best_of([tie, entrant("same", 0.9504, 1.0)]) is tie  # the first of equals


def test_what_has_no_value_is_never_chosen():
    nothing = entrant("nan", float("nan"), 99.0)
    assert best_of([nothing, entrant("bad", 0.1)]).label == "bad"
    assert best_of([nothing, entrant("inf", float("inf"))]) is None
    assert best_of([]) is None


def test_margin_by_hand(rng):
    scores, labels = np.array([1.0, 3.0, 5.0, 9.0], np.float32), np.array([0, 0, 1, 1])
    assert margin_of(scores, labels) == pytest.approx((7 - 2) / np.sqrt((1 + 4) / 2))
    assert margin_of(2 * scores + 1, labels) == pytest.approx(margin_of(scores, labels))  # units do not count
    assert margin_of(np.ones(4, np.float32), labels) == 0


def test_scores_of_no_use_have_no_value():
    """All equal, as of a detector that has collapsed; and maps where there are none."""
    state, _ = fit(PCA_DETECTOR, jax.random.key(0), TASK.train.images, steps=1, batch_size=24)
    flat = PCA_DETECTOR._replace(score=lambda state, images: images[:, 0, 0, 0] * 0)
    value, margin, scores, pixels = validated(flat, state, TASK, "auroc")
    assert np.isnan(value)
    assert margin == 0 == scores.any()
    assert pixels is None
    blind = PCA_DETECTOR._replace(score_map=None)
    assert np.isnan(validated(blind, state, TASK, "pixel_auroc").value)
    assert validated(blind, state, TASK, "auroc", by_pixels=True).pixels == 0.5
    even = PCA_DETECTOR._replace(score_map=lambda state, images: images[..., 0] * 0)
    assert validated(even, state, TASK, "auroc", by_pixels=True).pixels == 0.5


def test_maps_have_a_say_where_they_are_measured():
    """A detector that ranks images a little worse, and finds the defects, is preferred to one without maps."""
    images, maps = entrant("images", 0.92)._replace(pixels=0.5), entrant("maps", 0.9)._replace(pixels=0.8)
    assert maps.merit == pytest.approx(0.85)
    assert best_of([images, maps]) is maps
    assert best_of([images._replace(pixels=None), maps._replace(pixels=None)]).label == "images"
    assert best_of([maps._replace(value=float("nan"))]) is None


def test_masks_of_validation_decide_by_themselves():
    config = SearchConfig()
    assert config.is_by_pixels(TASK)
    assert not SearchConfig(choose_by="reward").is_by_pixels(TASK)
    assert not SearchConfig(reward="rpro").is_by_pixels(TASK)  # the reward is of pixels already
    blank = TASK._replace(valid=TASK.valid._replace(masks=np.zeros_like(TASK.valid.masks)))
    assert not config.is_by_pixels(blank)
    assert not config.is_by_pixels(TASK._replace(valid=TASK.valid._replace(masks=None)))
    assert not config.is_by_pixels(TASK._replace(details={"made": True}))
    with pytest.raises(ValueError, match=r"^choose_by is 'test'; choose auto or reward$"):
        SearchConfig(choose_by="test").check()


# ---- how they are fitted and kept ------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["auroc", "pixel_auroc"])
def test_the_value_is_that_of_the_validation_images(criterion):
    found = enter(TASK, BANK, key=jax.random.key(0), criterion=criterion)
    valid = TASK.valid
    np.testing.assert_array_equal(found.valid_scores, score_images(found.detector, found.state, valid.images))
    expected = auroc(found.valid_scores, valid.labels)
    if criterion == "pixel_auroc":
        expected = pixel_auroc(map_images(found.detector, found.state, valid.images), valid.masks)
    assert found.value == pytest.approx(float(expected), abs=1e-6)
    assert found.margin == pytest.approx(margin_of(found.valid_scores, valid.labels))


def test_the_pixel_auroc_of_validation_is_kept(tmp_path):
    options = {"key": jax.random.key(0), "criterion": "auroc", "by_pixels": True, "folder": tmp_path}
    found = enter(TASK, PCA, **options)
    maps = map_images(found.detector, found.state, TASK.valid.images)
    assert found.pixels == pytest.approx(float(pixel_auroc(maps, TASK.valid.masks)), abs=1e-6)
    again = enter(TASK, PCA, **options | {"key": jax.random.key(1)})  # of the folder
    assert (again.pixels, again.merit, again.seconds) == (found.pixels, found.merit, found.seconds)


@pytest.mark.parametrize("rival", [PCA, BANK, PADIM], ids=lambda rival: rival.method)
def test_fitting_twice_gives_the_same_scores(rival):
    first, second = (enter(TASK, rival, key=jax.random.key(3), criterion="auroc") for _ in range(2))
    np.testing.assert_array_equal(first.valid_scores, second.valid_scores)
    tested = (score_images(found.detector, found.state, TASK.test.images) for found in (first, second))
    np.testing.assert_array_equal(*tested)
    assert first[:2] + first[4:6] == second[:2] + second[4:6]


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    """Those that are in the folder are not fitted again; the others are, under the keys that they always had."""
    every, fitted = [PCA, BANK, PADIM], []

    def counted(detector, key, images, **options):
        fitted.append(jax.random.key_data(key).tolist())
        return fit(detector, key, images, **options)

    monkeypatch.setattr(rivals, "fit", counted)

    def all_of(some, folder):
        told = []
        found = enter_all(TASK, some, key=jax.random.key(1), criterion="auroc", folder=folder, on_entrant=told.append)
        assert told == found
        return found

    whole = all_of(every, tmp_path / "whole")
    keys = fitted.copy()
    assert len({tuple(key) for key in keys}) == 3
    all_of(every[:2], tmp_path / "killed")
    again = all_of(every, tmp_path / "killed")
    assert fitted == [*keys, *keys]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["memory_bank", "padim-deep", "pca"]
    fitted.clear()
    assert [found.seconds for found in all_of(every, tmp_path / "killed")] == [found.seconds for found in again]
    assert not fitted
    for one, other in zip(whole, again):
        assert (one.label, one.config, one.value, one.margin) == (other.label, other.config, other.value, other.margin)
        np.testing.assert_array_equal(one.valid_scores, other.valid_scores)
        tested = (score_images(found.detector, found.state, TASK.test.images) for found in (one, other))
        np.testing.assert_array_equal(*tested)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("entrant.json", b"[1]"),
        ("weights.safetensors", b""),
        ("detector.json", None),
        *(
            pytest.param(name, content, marks=pytest.mark.slow)
            for name in ("entrant.json", "weights.safetensors", "detector.json")
            for content in (b"", b"{}", b"[1]", None)
        ),
    ],
)
def test_one_whose_files_are_damaged_is_fitted_again(tmp_path, name, content):
    options = {"key": jax.random.key(0), "criterion": "auroc", "folder": tmp_path}
    whole = enter(TASK, PCA, **options | {"key": jax.random.clone(options["key"])})
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    again = enter(TASK, PCA, **options)
    np.testing.assert_array_equal(again.valid_scores, whole.valid_scores)
    assert again.value == whole.value


def test_a_value_that_is_not_a_number_is_kept_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "value_of", lambda scores, labels, criterion: float("nan"))
    for _ in range(2):
        found = enter(TASK, PCA, key=jax.random.key(0), criterion="auroc", folder=tmp_path)
        assert np.isnan(found.value)
    assert best_of([found]) is None


def test_only_normal_training_images_are_fitted_to(monkeypatch):
    labels = TASK.train.labels.copy()
    labels[::2] = 1
    seen = []

    def spy(detector, key, images, **options):
        seen.append(images)
        return fit(detector, key, images, **options)

    monkeypatch.setattr(rivals, "MOST_FEATURES", 5)
    monkeypatch.setattr(rivals, "fit", spy)
    polluted = TASK._replace(train=TASK.train._replace(labels=labels))
    enter(polluted, PCA, key=jax.random.key(0), criterion="auroc")
    enter(polluted, PADIM, key=jax.random.key(0), criterion="auroc")
    np.testing.assert_array_equal(seen[0], TASK.train.images[1::2])
    assert len(seen[1]) == 5  # of features, no more than MOST_FEATURES
    assert all((image == TASK.train.images[1::2]).all((1, 2, 3)).any() for image in seen[1])


# ---- what they cost --------------------------------------------------------------------------------------------------


def test_what_only_training_needs_is_not_kept(tmp_path):
    found = enter(TASK, BANK, key=jax.random.key(0), criterion="auroc", folder=tmp_path)
    assert found.state.inner.buffer is None
    assert np.any(found.state.inner.bank)
    state, _ = fit(found.detector, jax.random.key(0), TASK.train.images, steps=1, batch_size=24)
    assert np.any(state.inner.buffer.rows)  # it was there
    whole = saving.made_trainable(found.detector, found.state, (32, 32, 1))
    assert jax.tree.structure(whole) == jax.tree.structure(state)
    assert not np.any(whole.inner.buffer.rows)
    np.testing.assert_array_equal(whole.inner.bank, found.state.inner.bank)


def test_megabytes_by_hand():
    found = enter(TASK, BANK, key=jax.random.key(0), criterion="auroc")
    state, bank = found.state, found.state.inner
    network = sum(leaf.size for leaf in jax.tree.leaves(state.network))
    numbers = network + state.centre.size + state.scale.size + bank.bank.size + bank.seed.size
    assert megabytes(found.detector, found.state) == pytest.approx(4 * numbers / 1e6)
    assert bank.bank.shape == (50, 12)


def test_milliseconds_are_of_an_image_whose_features_are_not_known(monkeypatch):
    """Also within a search, which keeps the features of all images of its task."""
    found, rounds = enter(TASK, PADIM, key=jax.random.key(0), criterion="auroc"), []
    stage = found.detector.stage

    def outputs(network, images):
        jax.debug.callback(lambda images: rounds.append(len(images)), images)
        return stage.outputs(network, images)

    counting = found.detector._replace(stage=stage._replace(outputs=outputs))
    with staged.remembering():
        score_images(found.detector, found.state, TASK.valid.images)
        assert rivals.milliseconds(counting, found.state, TASK.valid.images) > 0
        jax.effects_barrier()
        assert rounds == [1] * 4
        assert staged.is_remembering()


def test_milliseconds_are_of_one_image(monkeypatch):
    sizes = []
    monkeypatch.setattr(rivals, "score_images", lambda detector, state, images, size: sizes.append((len(images), size)))
    clock = iter([0.0, 0.5, 1.0, 1.1, 2.0, 2.2])
    monkeypatch.setattr(rivals.time, "perf_counter", lambda: next(clock))
    assert rivals.milliseconds(padim(features=RANDOM), (), TASK.valid.images) == pytest.approx(200)  # of 500, 100, 200
    assert sizes == [(1, 1)] * 4
