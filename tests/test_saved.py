"""A saved detector scores as the one in memory did, and damaged or foreign folders are refused in one line."""

import dataclasses
import json
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from jaxad.data import digits
from jaxad.methods import DETECTORS, DetectorEntry
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.metrics import thresholds
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig
from jaxad.runs import saving
from jaxad.training.scoring import score_images
from jaxad.types import Detector

IMAGES = digits().images
LAYER = Layer(channels=2, kernel=3, pool="max", pool_kernel=3, norm="batch", activation="elu")
ARCHITECTURE = Architecture(hypothesis="density", distance="l1", layers=(LAYER,))
CONFIG = AutoencoderConfig(architecture=ARCHITECTURE, child=ChildConfig(regulariser=0.25), steps=20)
THRESHOLD = thresholds.false_positive_rate(np.arange(50.0), 0.1)
DETAILS = {"seed": 3, "map_scale": 0.5, "reward": np.float32(0.5)}
USUAL = {"config": CONFIG, "image_shape": (8, 8, 1)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector on disk and in memory: (folder, detector, state)."""
    folder = tmp_path_factory.mktemp("run") / "best"
    detector = autoencoder(CONFIG)
    start = jax.jit(detector.init)
    state = start(jax.random.key(0), IMAGES[:40] / np.float32(255))
    state = state._replace(step=jnp.int32(7), opt_state=jax.tree.map(jnp.ones_like, state.opt_state))
    saving.save(folder, state=state, threshold=THRESHOLD, details=DETAILS, **USUAL)
    return folder, detector, state


@pytest.fixture
def copy(saved, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(saved[0], tmp_path / "best")


def edit(folder, change):
    file = folder / "detector.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_what_is_loaded_is_what_was_saved(saved):
    folder, detector, state = saved
    loaded = saving.load(folder)
    for name in ("params", "moments", "stats", "step"):
        jax.tree.map(np.testing.assert_array_equal, getattr(loaded.state, name), getattr(state, name))
    np.testing.assert_array_equal(
        score_images(loaded.detector, loaded.state, IMAGES[80:90], 10),
        score_images(detector, state, IMAGES[80:90], 10),
    )
    assert (loaded.name, loaded.config) == ("autoencoder", CONFIG)
    assert loaded.image_shape == (8, 8, 1)
    assert loaded.threshold == THRESHOLD
    assert loaded.details == DETAILS | {"reward": 0.5}


def test_the_optimiser_starts_afresh(saved):
    folder, _, state = saved
    loaded = saving.load(folder)
    assert jax.tree.structure(loaded.state) == jax.tree.structure(state)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(loaded.state.opt_state))
    assert not any("opt_state" in name for name in load_file(folder / "weights.safetensors"))


def test_a_person_and_other_programs_can_read_it(saved):
    folder = saved[0]
    assert sorted(file.name for file in folder.iterdir()) == ["detector.json", "weights.safetensors"]
    record = json.loads((folder / "detector.json").read_text())
    assert record["detector"] == "autoencoder"
    assert record["image_shape"] == {"height": 8, "width": 8, "channels": 1}
    assert record["config"]["architecture"] == ARCHITECTURE.to_json()
    assert record["config"]["steps"] == 20
    assert record["threshold"]["value"] == THRESHOLD.value
    assert load_file(folder / "weights.safetensors")["params/encoder/0/kernel"].shape == (3, 3, 1, 2)


def test_saving_again_replaces_and_a_threshold_is_not_needed(copy, saved):
    saving.save(copy, state=saved[2], **USUAL)
    loaded = saving.load(copy)
    assert loaded.threshold is None
    assert loaded.details == {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    weight: float
    rate: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    parts: tuple[Part, ...]
    centre: tuple[int, int] = (0, 0)


class Toy(NamedTuple):
    mean: Any
    opt_state: Any


class Untrained(NamedTuple):
    mean: Any


def toy(config):
    """Parts that train with a learning rate kept in the optimiser's state, where they have one."""

    def init(key, images):
        mean = [part.weight * images.mean(0) for part in config.parts]
        rates = [part.rate for part in config.parts if part.rate]
        optimisers = tuple(optax.inject_hyperparams(optax.sgd)(rate).init(mean) for rate in rates)
        return Toy(mean, optimisers) if rates else Untrained(mean)

    def score(state, images):
        return sum(jnp.mean((images - mean[None]) ** 2, (1, 2, 3)) for mean in state.mean)

    transient = ("opt_state",) if any(part.rate for part in config.parts) else ()
    return Detector(init, None, None, score, transient=transient)


@pytest.fixture
def registered():
    entry = DetectorEntry("toy", "A toy.", ToyConfig, toy, {}, whole=False)
    with DETECTORS.temporarily("toy", entry):
        yield


@pytest.mark.parametrize("rates", [(0.25, None, 0.5), (None,)])
@pytest.mark.usefixtures("registered")
def test_any_registered_method_can_be_saved(rates, tmp_path):
    config = ToyConfig(parts=tuple(Part(weight=i / 2, rate=rate) for i, rate in enumerate(rates)), centre=(3, 4))
    state = toy(config).init(jax.random.key(0), jnp.asarray(IMAGES[:9] / np.float32(255)))
    saving.save(tmp_path, config=config, state=state, image_shape=(8, 8, 1))
    loaded = saving.load(tmp_path)
    assert loaded.config == config
    assert jax.tree.structure(loaded.state) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, loaded.state, state)
    np.testing.assert_array_equal(
        score_images(loaded.detector, loaded.state, IMAGES[:5], 5), score_images(toy(config), state, IMAGES[:5], 5)
    )


@pytest.mark.usefixtures("registered")
def test_a_config_that_json_cannot_hold_is_not_saved(tmp_path):
    config = ToyConfig(parts=(Part(weight=np.inf),))
    with pytest.raises(ValueError, match=r"config.parts\[0\].weight is None"):
        saving.save(tmp_path / "a", config=config, state=Untrained([jnp.zeros((8, 8, 1))]), image_shape=(8, 8, 1))
    assert not (tmp_path / "a").exists()


MISFITS = {
    "half a shape": ({"image_shape": (8, 8)}, r"image_shape is \(8, 8\); give \(height, width, channels\)"),
    "an empty shape": ({"image_shape": (8, 0, 1)}, "all positive integers"),
    "another shape": ({"image_shape": (8, 8, 3)}, r"this config and image_shape \(8, 8, 3\)"),
    "another config": ({"config": dataclasses.replace(CONFIG, child=ChildConfig(optimiser="sgd"))}, "with this config"),
    "a config of another kind": (
        {"config": ARCHITECTURE},
        "is the config of no detector; give that of",
    ),
    "a threshold for nothing": ({"threshold": thresholds.fixed(np.inf)}, "save a finite one"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_cannot_be_used_is_not_saved(saved, tmp_path, misfit):
    options, words = MISFITS[misfit]
    with pytest.raises(ValueError, match=words):
        saving.save(tmp_path / "a", state=saved[2], **USUAL | options)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_named(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        saving.save(tmp_path / "file", state=saved[2], **USUAL)


def write_nonsense(folder):
    (folder / "detector.json").write_text('{"format": ')


def tear_weights(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def layer_of(record):
    return record["config"]["architecture"]["layers"][0]


DAMAGES = {
    "a folder without a detector": (lambda f: (f / "detector.json").unlink(), "give the best/ folder"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "does not exist"),
    "half a description": (write_nonsense, "is damaged"),
    "another program's file": (lambda f: (f / "detector.json").write_text("[1]"), "not written by this version"),
    "a later format": (lambda f: edit(f, lambda r: r.update(format="jaxad-detector-9")), "not written by this version"),
    "a later method": (
        lambda f: edit(f, lambda r: r.update(detector="magic")),
        "import the file that registers it first",
    ),
    "a plugin's method": (
        lambda f: edit(f, lambda r: r.update(detector="magic", plugin="mine/magic.py")),
        "no detector 'magic' here: import mine/magic.py first",
    ),
    "an unknown layer": (lambda f: edit(f, lambda r: layer_of(r).update(norm="x")), r"is damaged \(norm is 'x'"),
    "half a layer": (lambda f: edit(f, lambda r: layer_of(r).pop("pool")), r"config.architecture.layers\[0\] has"),
    "an option that is gone": (lambda f: edit(f, lambda r: r["config"].update(gone=1)), r"is damaged \(config has"),
    "a missing field": (lambda f: edit(f, lambda r: r.pop("threshold")), r"is damaged \(description has fields"),
    "a threshold of another kind": (lambda f: edit(f, lambda r: r.update(threshold=3)), "copy it again from the run"),
    "torn weights": (tear_weights, "torn or corrupt"),
    "another config": (lambda f: edit(f, lambda r: r["config"].update(steps=4)), "belongs to another detector"),
    "another shape": (lambda f: edit(f, lambda r: r["image_shape"].update(width=9)), "belongs to another detector"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_one_line(copy, damage):
    harm, words = DAMAGES[damage]
    harm(copy)
    with pytest.raises(ValueError, match=words) as error:
        saving.load(copy)
    assert "\n" not in str(error.value)
