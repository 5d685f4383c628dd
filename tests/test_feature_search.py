"""A search whose children see features: what they see, what is returned, and that a kill changes nothing."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxad
from jaxad import data
from jaxad.data.protocols.fitted import fit_task
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.methods.common.patch_features import FeatureConfig, make_features
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig
from jaxad.runs import inputs, league
from jaxad.runs.search_config import SearchConfig
from jaxad.training.loop import fit
from spaces import FEW

RANDOM = FeatureConfig(backbone="random", width=4)
TASK = data.load_task("painted:gravel:32", limit=24)
TINY = FEW | {
    "space": "features", "features": RANDOM, "inputs": ("shallow", "both"), "channels": (4, 8), "children": 3,
    "population": 1, "steps": 2, "batch_size": 8, "retrain_top": 1, "retrain_steps": 4, "strategy": "random",
    "rivals": ("linear_patches", "pca"), "quiet": True,
}  # fmt: skip


def search(**options):
    return jaxad.search(TASK, **TINY | options)


@pytest.fixture(scope="module")
def found():
    return search()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same in a folder, killed among the rivals and in the search."""
    folder = tmp_path_factory.mktemp("runs") / "killed"

    def kill(trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(output=folder, on_trial=kill)
    assert list((folder / "checkpoint" / "features").iterdir())
    return jaxad.search(TASK, resume=folder, quiet=True)


# ---- what children see ---------------------------------------------------------------------------------------------


def test_children_see_the_standardised_features_of_their_level():
    space = SearchSpace.features(inputs=("shallow", "deep", "both"))
    seen = inputs.inputs_of(TASK, space, RANDOM, jax.random.key(0))
    assert seen.shapes == {"shallow": (16, 16, 4), "deep": (8, 8, 8), "both": (16, 16, 12)}
    assert seen.channels == {"shallow": 4, "deep": 8, "both": 12}
    both = seen.images["both"]
    assert both.train.dtype == np.float16
    maps = np.asarray(both.train, np.float32)
    np.testing.assert_allclose(maps.mean((0, 1, 2)), 0, atol=1e-2)
    deviations = maps.std((0, 1, 2))
    assert ((deviations > 0.7) & (deviations < 1.01)).sum() > 6  # a rectified feature may be dead
    # One network for all of them: only how each place is standardised may differ.
    np.testing.assert_allclose(seen.images["shallow"].train, both.train[..., :4], atol=1e-2)
    assert seen.images["deep"].valid.shape == (len(TASK.valid.labels), 8, 8, 8)


def test_children_of_pixels_see_small_images_as_they_are_and_large_ones_reduced():
    small = inputs.inputs_of(TASK, SearchSpace(num_layers=1), RANDOM, jax.random.key(0))
    np.testing.assert_array_equal(small.images.train, TASK.train.images)
    large = fit_task(TASK, 80)
    reduced = inputs.inputs_of(large, SearchSpace(num_layers=1), RANDOM, jax.random.key(0))
    assert reduced.shapes == (32, 32, 1)
    expected = jax.image.resize(large.train.images / np.float32(255), reduced.images.train.shape, "linear")
    np.testing.assert_allclose(reduced.images.train, expected, atol=2e-3)


def test_the_space_follows_the_size_of_the_images_and_lists_that_are_given_stay():
    config = SearchConfig(channels=(3,))
    assert config.search_space((28, 28, 1)).inputs == ("pixels",)
    of_photographs = config.search_space((224, 224, 3))
    assert of_photographs.inputs == ("shallow", "deep", "both")
    assert of_photographs.channels == (3,)
    assert of_photographs.depths == (1, 2)
    asked = SearchConfig(num_layers=3, inputs=("pixels",), distances=("l1", "l2", "l21", "ssim"))
    given = asked.search_space((224, 224, 3))  # the paper's values count as any others
    assert (given.num_layers, given.min_layers, given.inputs, given.distances) == (3, 1, ("pixels",), asked.distances)
    paper = dataclasses.replace(config, space="paper").search_space((224, 224, 3))
    assert (paper.inputs, paper.depths, paper.num_tokens) == (("pixels",), (3,), 20)


# ---- the detector --------------------------------------------------------------------------------------------------


def test_the_detector_of_an_architecture_on_features_is_an_autoencoder_of_them():
    """A linear one of kernel 1: its map is the error of reconstructed features, its score the largest of them."""
    layer = Layer(channels=4, kernel=1, pool="max", pool_kernel=1, norm="none", activation="linear")
    architecture = Architecture(hypothesis="centroid", distance="l2", layers=(layer,), input="both", aggregate="max")
    config = AutoencoderConfig(architecture=architecture, child=ChildConfig(regulariser=0.0), steps=10, features=RANDOM)
    detector, images = autoencoder(config), TASK.train.images[:8]
    state, _ = fit(detector, jax.random.key(0), images, steps=10, batch_size=8)
    state = jaxad.calibrate(detector, state, images)
    features = jax.jit(make_features(RANDOM).apply)(state.network, images / np.float32(255))
    maps = (np.asarray(features) - np.asarray(state.centre)) / np.asarray(state.scale)
    weights = jax.tree.map(np.asarray, state.inner.params)
    encoded = maps @ weights["encoder"][0]["kernel"][0, 0] + weights["encoder"][0]["offset"]
    decoded = encoded @ weights["decoder"][0]["kernel"][0, 0] + weights["decoder"][0]["offset"]
    errors = np.square(decoded - maps).mean(-1)
    np.testing.assert_allclose(jaxad.score_images(detector, state, images), errors.max((1, 2)), rtol=1e-3)
    assert jaxad.map_images(detector, state, images).shape == (8, 32, 32)


# ---- the search ----------------------------------------------------------------------------------------------------


def test_what_validation_prefers_is_returned_and_the_best_child_is_told(found):
    lines = {line.detector: line for line in found.league}
    assert lines.keys() == {"linear_patches", "linear_patches, deep", "pca", league.CHILD}
    assert [line.returned for line in found.league] == [True, False, False, False]
    values = [line.valid for line in found.league]
    assert round(values[0], 3) == round(max(values), 3)
    assert found.test["auroc"]["value"] == pytest.approx(found.league[0].test_auroc, abs=1e-6)
    assert found.child.architecture.input in TINY["inputs"]
    worth = "was worth it" if found.league[0].detector == league.CHILD else "was not worth it"
    assert worth in found.results["verdict"]
    again = jaxad.evaluate(found.detector, found.state, TASK, resamples=10)
    assert again.test["auroc"]["value"] == pytest.approx(found.test["auroc"]["value"], abs=1e-3)


@pytest.mark.slow
def test_without_rivals_the_child_is_returned(found):
    alone = search(rivals=("none",))
    assert [line.detector for line in alone.league] == [league.CHILD]
    assert alone.config == alone.child == found.child
    assert "No rival took part" in alone.results["verdict"]


@pytest.mark.slow
def test_a_kill_changes_nothing(found, finished):
    for name in ("config", "threshold", "test", "child"):
        assert getattr(finished, name) == getattr(found, name), name
    volatile = {"fit_seconds": 0, "score_milliseconds": 0}
    assert [line._replace(**volatile) for line in finished.league] == [
        line._replace(**volatile) for line in found.league
    ]
    loaded, child = jaxad.load(finished.folder), jaxad.load(finished.folder / "best_child")
    assert (loaded.config, child.config) == (found.config, found.child)
    images = TASK.test.images[:4]
    np.testing.assert_array_equal(
        jaxad.score_images(loaded.detector, loaded.state, images),
        jaxad.score_images(found.detector, found.state, images),
    )
    assert not (finished.folder / "checkpoint" / "features").exists()
    assert (finished.folder / "report.html").exists()


@pytest.mark.slow
def test_what_is_finished_is_loaded(finished):
    again = jaxad.search(TASK, resume=finished.folder, quiet=True)
    assert (again.league, again.child, again.results) == (finished.league, finished.child, finished.results)
