"""Made anomalies: changed where their mask says, nowhere else to be seen, and the same for the same seed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from jaxad import data
from jaxad.data import made_anomalies
from jaxad.data.made_anomalies import KINDS, make_anomalies, make_anomaly
from jaxad.metrics import thresholds
from jaxad.runs.runner import task_results

CROPS = {"grey": skimage.data.brick, "colour": skimage.data.astronaut}


def crops(name, side=64, n=6):
    """Pieces of a photograph."""
    picture = CROPS[name]()
    picture = picture[..., None] if picture.ndim == 2 else picture
    return np.stack([picture[i * 70 : i * 70 + side, i * 60 : i * 60 + side] for i in range(n)])


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_what_changed_visibly(name, kind):
    images = crops(name)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        made, mask, of = make_anomaly(rng, images[0], images, kind)
        assert of == kind
        assert made.dtype == np.uint8
        change = np.abs(made.astype(int) - images[0]).max(-1)
        np.testing.assert_array_equal(mask, change > 8)
        assert 0 < mask.mean() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_what_it_is_called(kind):
    """On photographs: a patch is a rectangle, a scratch thin, a blur smoother than before, a stain smooth in itself."""
    images, areas = crops("colour", 128, 3), []
    for seed in range(12):
        made, mask, _ = make_anomaly(np.random.default_rng(seed), images[0], images, kind)
        inside = mask.astype(bool)
        areas.append(mask.mean())
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        roughness = [np.abs(ndimage.laplace(x[..., 1].astype(float)))[inside].mean() for x in (images[0], made)]
        if kind == "patch":
            assert 0.02 * 0.5 < box / mask.size < 0.11
        if kind == "scratch":
            assert ndimage.distance_transform_edt(inside).max() < 0.02 * 128 + 1
            assert max(np.ptp(rows), np.ptp(columns)) > 8
        if kind == "blur":
            assert roughness[1] < 0.8 * roughness[0]
        if kind in ("blur", "stain"):  # no edge of its own
            change = made.astype(float) - images[0]
            assert np.abs(np.diff(change, axis=0)).max() < 140
        if kind == "texture":
            assert 0.005 < mask.mean() <= 0.125
    assert np.ptp(areas) > 0.003  # large ones and small ones


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(256, 40, 3), (8, 8, 1), (5, 30, 7), (16, 16, 3)])
def test_any_form_will_do(rng, kind, shape):
    images = rng.random((3, *shape)).astype(np.float32)
    made, mask, _ = make_anomaly(rng, images[1], images, kind)
    assert made.shape == shape
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert mask.shape == shape[:2]
    assert mask.any()


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize("kind", KINDS)
def test_of_plain_images_too(kind, value):
    images = np.full((2, 16, 16, 1), value, np.uint8)
    made, mask, of = make_anomaly(np.random.default_rng(0), images[0], images, kind)
    assert mask.any()
    assert of in (kind, "stain")
    assert (made != value).any()
    assert (of == "stain") == (kind in ("blur", "stain")) or kind in ("patch", "texture")


def test_sizes_are_shares_of_the_side():
    for kind in ("patch", "texture", "stain"):
        areas = []
        for side in (32, 256):
            images = skimage.data.gravel()[None, :side, :side, None]
            shares = [make_anomaly(np.random.default_rng(s), images[0], images, kind)[1].mean() for s in range(20)]
            areas.append(np.mean(shares))
        assert areas[0] == pytest.approx(areas[1], rel=0.5)


def test_a_number_gives_the_same_however_many_are_made():
    images = crops("grey")
    few, many = (make_anomalies(images, n, seed=4) for n in (7, 23))
    np.testing.assert_array_equal(few.images, many.images[:7])
    np.testing.assert_array_equal(few.masks, many.masks[:7])
    assert few.kinds == many.kinds[:7]
    other = make_anomalies(images, 7, seed=5)
    assert all((a != b).any() for a, b in zip(few.images, other.images))
    counts = np.unique(make_anomalies(images, 50).kinds, return_counts=True)[1]
    np.testing.assert_array_equal(counts, [10] * len(KINDS))
    assert few.bases.tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_what_changes_nothing_is_drawn_again(monkeypatch):
    calls = []

    def lazy(rng, image, others):
        calls.append(rng.random())
        return image + (len(calls) > 3) * 0.5 * (np.arange(image.size).reshape(image.shape) == 5)

    monkeypatch.setitem(made_anomalies.KINDS, "patch", lazy)
    images = np.zeros((1, 4, 4, 1), np.uint8)
    _, mask, kind = make_anomaly(np.random.default_rng(0), images[0], images, "patch")
    assert len(set(calls)) == 4
    assert kind == "patch"
    np.testing.assert_array_equal(np.argwhere(mask), [[1, 1]])
    with pytest.raises(ValueError, match=r"no anomaly 'hole' can be made; choose one of patch"):
        make_anomaly(np.random.default_rng(0), images[0], images, "hole")


def test_perlin_noise_is_smooth_and_zero_on_its_lattice():
    noise = made_anomalies.perlin(np.random.default_rng(0), 64, 96, cells=4)
    assert noise.shape == (64, 96)
    assert 0.3 < noise.max() <= np.sqrt(0.5)
    assert abs(noise.mean()) < 0.1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2
    # The pixels beside a corner of the lattice are half a pixel from it, and gradients have length 1.
    assert np.abs(noise[::16][:, ::24]).max() <= np.hypot(0.5 / 16, 0.5 / 24) + 1e-9


# ---- tasks of good images alone


def good(rng, n, channels=1):
    return data.from_arrays(rng.integers(0, 256, (n, 12, 12, channels), dtype=np.uint8), name="mine")


@pytest.mark.parametrize(
    ("n", "expected"), [(5, [3, 1, 1]), (6, [4, 1, 1]), (7, [4, 2, 1]), (50, [30, 10, 10]), (100, [60, 20, 20])]
)
def test_parts_and_numbers(rng, n, expected):
    task = data.good_alone(good(rng, n, 3))
    assert [row.normal for row in data.describe(task)] == expected
    assert [row.anomalous for row in data.describe(task)] == [0, *(max(10, k) for k in expected[1:])]
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.masks.any((1, 2)), part.labels == 1)
    assert json.loads(json.dumps(task.details)) == task.details


def test_anomalies_are_made_of_the_parts_own_images(rng):
    task = data.good_alone(good(rng, 40))
    bases = {}
    for kind, part in data.parts(task).items():
        bases[kind] = {name.split(" with ")[0] for name in part.ids}
        for image, mask, name in zip(part.images, part.masks if part.masks is not None else [], part.ids):
            base = part.images[part.ids.tolist().index(name.split(" with ")[0])]
            change = np.abs(image.astype(int) - base).max(-1)
            np.testing.assert_array_equal(change > 8, mask == 1)
    assert not bases["valid"] & bases["test"]
    assert not bases["train"] & (bases["valid"] | bases["test"])


def test_draws_are_seeded_and_others_in_the_two_parts(rng):
    images = good(rng, 40)
    one, same, other = (data.good_alone(images, seed=seed) for seed in (2, 2, 3))
    np.testing.assert_array_equal(one.test.images, same.test.images)
    assert set(one.train.ids) != set(other.train.ids)
    first = [made_anomalies.make_anomalies(images.images[:1], 1, seed=(2, part)).masks for part in (0, 1)]
    assert (first[0] != first[1]).any()


def test_numbers_that_are_asked_for(rng):
    task = data.good_alone(good(rng, 100), anomaly_ratio=0.5, valid_anomalies=3)
    assert [row.anomalous for row in data.describe(task)] == [0, 3, 20]
    assert len(data.good_alone(good(rng, 100), limit=50).train.ids) == 30


def test_too_few_and_equal_images_are_refused(rng):
    images = good(rng, 30)
    for dataset, options, message in [
        (good(rng, 4), {}, "mine: 4 different images are too few to train, validate and test: give at least 5"),
        (images._replace(images=images.images * 0), {}, "1 different images are too few"),
        (images, {"limit": 4}, "4 different images are too few"),
        (images, {"limit": 2}, "limit 2 is too small"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.good_alone(dataset, **options)
    uneven = data.good_alone(images, split=(1000, 1, 1))
    assert [row.normal for row in data.describe(uneven)] == [28, 1, 1]
    twice = data.from_arrays(np.concatenate([images.images] * 2), name="mine")
    assert data.good_alone(twice).details["duplicates_dropped"] == 30


def test_they_can_be_found_and_not_by_brightness_alone():
    """Nearest neighbours of smoothed textures see many of them; so does no single number of the whole image."""
    from sklearn.metrics import roc_auc_score

    task = data.good_alone(data.load("textures:32", limit=300), seed=1)
    smooth = [ndimage.gaussian_filter(part.images[..., 0] / 255, (0, 1, 1)) for part in (task.train, task.test)]
    flat = [images.reshape(len(images), -1) for images in smooth]
    distance = np.sqrt(((flat[1][:, None] - flat[0][None]) ** 2).mean(-1)).min(1)
    assert roc_auc_score(task.test.labels, distance) > 0.5
    assert abs(roc_auc_score(task.test.labels, flat[1].mean(1)) - 0.5) < 0.2


def test_results_say_that_anomalies_were_made(rng):
    """First of all notes, in results.json and the report."""
    scores = np.arange(4.0)
    evaluation = SimpleNamespace(
        pixels=None, threshold=thresholds.fixed(0.5), test={}, valid_scores=scores, test_scores=scores
    )
    made = data.good_alone(good(rng, 20))
    real = data.load_task("digits", limit=50)
    notes = [task_results(task, evaluation, seed=0, notes=["mine"])["notes"] for task in (made, real)]
    assert "figures on them are not figures on real ones" in notes[0][0]
    assert notes[0][1:] == notes[1] == ["mine"]
