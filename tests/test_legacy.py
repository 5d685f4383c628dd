"""Detectors that version 0.1.0 saved are loaded and say the same; its runs are refused in words that help.

`legacy/make.py` says how the files were made.
"""

import json
import math
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxad
from jaxad.nn import efficientnet
from jaxad.runs import legacy
from jaxad.runs.folder import open_run
from jaxad.training.scoring import map_images, score_images

HERE = Path(__file__).parent / "legacy"
DETECTORS = sorted(HERE.glob("detectors-0.1.0/*/detector.json"))


def test_every_method_of_then_has_a_detector_to_load():
    methods = {path.parent.name.split("-")[0] for path in DETECTORS}
    assert set(legacy.METHODS) <= methods <= set(jaxad.detectors())


LARGE = {"ama", "nbs", "unet_segmenter"}  # half of the time of all


def cases():
    """One detector of every method; its other settings take as long again, each."""
    seen = set()
    for path in DETECTORS:
        method = path.parent.name.split("-")[0]
        marks = [pytest.mark.slow] if method in seen | LARGE else []
        seen.add(method)
        yield pytest.param(path.parent, marks=marks, id=path.parent.name)


@pytest.fixture(scope="module", params=cases())
def folder(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(folder):
    return jaxad.load(folder)


def test_the_description_is_kept(folder, loaded):
    record = json.loads((folder / "detector.json").read_text())
    assert loaded.name == record["detector"] == folder.name.split("-")[0]
    assert tuple(loaded.image_shape) == tuple(record["image_shape"].values())
    assert loaded.threshold._asdict() == record["threshold"]
    assert math.isfinite(loaded.threshold.value)
    assert loaded.details == {"summary": folder.name, "seed": 0, "map_scale": 0.5}


def test_scores_and_maps_are_the_same(folder, loaded):
    with np.load(folder / "expected.npz") as expected:
        images = expected["images"]
        assert images.shape[1:] == tuple(loaded.image_shape)
        scores = score_images(loaded.detector, loaded.state, images, len(images))
        close(scores, expected["scores"])
        assert ("maps" in expected) == (loaded.detector.score_map is not None)
        if "maps" in expected:
            close(map_images(loaded.detector, loaded.state, images, len(images)), expected["maps"])


def close(got, expected):
    """Up to the rounding of another order of the same sums; a pixel near 0 counts beside the largest of its map."""
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_ama_of_0_2_0_has_the_robust_moments_that_it_did_not_save():
    saved = {"r_mean": np.float32(2), "r_sd": np.float32(3), "encoder/x": np.float32(1)}
    found = legacy.converted_from_2("ama", saved)
    assert found == saved | {"r_median": 2, "r_spread": 3}
    own = saved | {"r_median": np.float32(5), "r_spread": np.float32(7)}
    assert legacy.converted_from_2("ama", own) == own


@pytest.mark.parametrize(("method", "place"), [("nearest_neighbours", ""), ("local_outlier_factor", "index/")])
def test_images_that_0_2_0_stored_become_an_index(method, place, rng):
    rows = np.pad(rng.standard_normal((5, 3)).astype(np.float32), [(0, 2), (0, 0)])
    found = legacy.converted_from_2(method, {"fitted/rows": rows, "fitted/count": np.int32(5), "seed": 1})
    assert set(found) == {"seed", *(f"fitted/{place}{name}" for name in ("rows", "sizes", "origin", "count"))}
    centred, sizes = found[f"fitted/{place}rows"], found[f"fitted/{place}sizes"]
    np.testing.assert_allclose(centred[:5] + found[f"fitted/{place}origin"], rows[:5], rtol=1e-6)
    np.testing.assert_allclose(sizes[:5], np.square(centred[:5]).sum(1), rtol=1e-6)
    assert (centred[5:] == 0).all()
    assert (sizes[5:] == np.inf).all()
    assert legacy.converted_from_2(method, found) == found


def test_features_of_efficientnet_are_found_under_their_new_names():
    """Weights of 0.1.0 in their order, without the megabytes that a saved detector has of them."""
    new = jax.tree_util.tree_flatten_with_path({"network": efficientnet.shapes(11)})[0]
    new = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in new}
    blocks = [f"blocks/{index}/{part}" for index in range(11) for part in ("up", "depth", "down")]
    old = {f"network/{part}/{leaf}" for part in ["stem", *blocks] for leaf in ("kernel", "offset")}
    old -= {f"network/blocks/0/up/{leaf}" for leaf in ("kernel", "offset")}
    assert set(legacy.converted("memory_bank", dict.fromkeys(old))) == set(new)
    for name, shape in new.items():
        width = new[re.sub("bias$", "kernel", name)][-1:]
        assert shape == width if name.endswith("bias") else shape[-1:] == width


def test_runs_are_refused_with_the_version_that_can_go_on_with_them(tmp_path):
    shutil.copytree(HERE / "runs-0.1.0" / "begun", tmp_path / "begun")
    for write in (True, False):
        with pytest.raises(ValueError, match=r"was begun by jaxad 0.1.0, and only that version can continue it"):
            open_run(tmp_path / "begun", write=write)
