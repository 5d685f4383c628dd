"""A saved detector scores as the one in memory did, and damaged or foreign folders are refused in one line."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxad import thresholds
from jaxad.data import digits
from jaxad.detectors import autoencoder
from jaxad.detectors.saved import load_detector, save_detector
from jaxad.scoring import score_images
from jaxad.search.child import ChildConfig
from jaxad.search.space import Architecture, Layer

IMAGES = digits().images
LAYER = Layer(channels=2, kernel=3, pool="max", pool_kernel=3, norm="batch", activation="elu")
ARCHITECTURE = Architecture(hypothesis="density", distance="l1", layers=(LAYER,))
CONFIG = ChildConfig(regulariser=0.25)
THRESHOLD = thresholds.false_positive_rate(np.arange(50.0), 0.1)
DETAILS = {"seed": 3, "map_scale": 0.5, "reward": np.float32(0.5)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector on disk and in memory: (folder, detector, state)."""
    folder = tmp_path_factory.mktemp("run") / "best"
    detector = autoencoder(architecture=ARCHITECTURE, child=CONFIG)
    start = jax.jit(detector.init, compiler_options={"xla_backend_optimization_level": 0})
    state = start(jax.random.key(0), IMAGES[:40] / np.float32(255))._replace(step=jnp.int32(7))
    options = {"image_shape": (8, 8, 1), "threshold": THRESHOLD, "details": DETAILS}
    save_detector(folder, architecture=ARCHITECTURE, config=CONFIG, state=state, **options)
    return folder, detector, state


@pytest.fixture
def copy(saved, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(saved[0], tmp_path / "best")


def edit(folder, change):
    file = folder / "architecture.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_what_is_loaded_is_what_was_saved(saved):
    folder, detector, state = saved
    loaded = load_detector(folder)
    for name in ("params", "moments", "stats", "step"):
        jax.tree.map(np.testing.assert_array_equal, getattr(loaded.state, name), getattr(state, name))
    assert jax.tree.structure(loaded.state) == jax.tree.structure(state)
    np.testing.assert_array_equal(
        score_images(loaded.detector, loaded.state, IMAGES[80:90], 10),
        score_images(detector, state, IMAGES[80:90], 10),
    )
    assert loaded.image_shape == (8, 8, 1)
    assert loaded.threshold == THRESHOLD
    assert loaded.details == DETAILS | {"reward": 0.5}
    assert (loaded.architecture, loaded.config) == (ARCHITECTURE, CONFIG)


def test_a_person_and_other_programs_can_read_it(saved):
    folder = saved[0]
    assert sorted(file.name for file in folder.iterdir()) == ["architecture.json", "weights.safetensors"]
    record = json.loads((folder / "architecture.json").read_text())
    assert record["summary"] == "density/l1 | 2 k3 max3 batch elu"
    assert record["image_shape"] == {"height": 8, "width": 8, "channels": 1}
    assert record["threshold"]["value"] == THRESHOLD.value
    assert load_file(folder / "weights.safetensors")["params/encoder/0/kernel"].shape == (3, 3, 1, 2)


def test_saving_again_replaces_and_a_threshold_is_not_needed(copy, saved):
    options = {"architecture": ARCHITECTURE, "config": CONFIG, "image_shape": (8, 8, 1)}
    save_detector(copy, state=saved[2], **options)
    loaded = load_detector(copy)
    assert loaded.threshold is None
    assert loaded.details == {}


def test_what_cannot_be_used_is_not_saved(saved, tmp_path):
    options = {"architecture": ARCHITECTURE, "config": CONFIG, "state": saved[2]}
    with pytest.raises(ValueError, match="image_shape is"):
        save_detector(tmp_path / "a", image_shape=(8, 8), **options)
    with pytest.raises(ValueError, match="save a finite one"):
        save_detector(tmp_path / "a", image_shape=(8, 8, 1), threshold=thresholds.fixed(np.inf), **options)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        save_detector(tmp_path / "file", image_shape=(8, 8, 1), **options)


def write_nonsense(folder):
    (folder / "architecture.json").write_text('{"format": ')


def tear_weights(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES = {
    "a folder without a detector": (lambda f: (f / "architecture.json").unlink(), "give the best/ folder"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "does not exist"),
    "half a description": (write_nonsense, "is damaged"),
    "another program's file": (lambda f: (f / "architecture.json").write_text("[1]"), "not written by this version"),
    "a later format": (lambda f: edit(f, lambda r: r.update(format="jaxad-detector-9")), "not written by this version"),
    "an unknown layer": (lambda f: edit(f, lambda r: r["architecture"]["layers"][0].update(norm="x")), "norm is 'x'"),
    "an option that is gone": (lambda f: edit(f, lambda r: r["child"].update(gone=1)), "is damaged"),
    "a missing field": (lambda f: edit(f, lambda r: r.pop("threshold")), "is damaged"),
    "torn weights": (tear_weights, "torn or corrupt"),
    "weights of another detector": (lambda f: edit(f, lambda r: r.update(steps=4)), "belongs to another detector"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_one_line(copy, damage):
    harm, words = DAMAGES[damage]
    harm(copy)
    with pytest.raises(ValueError, match=words) as error:
        load_detector(copy)
    assert "\n" not in str(error.value)
