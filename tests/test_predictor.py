"""A predictor judges new images as the detect command does, whatever they come as, and from several threads."""

import concurrent.futures
import csv
import importlib
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scripts import EXPERIMENTS, call

import jaxad
from jaxad.data import digits
from jaxad.data.lazy import find_images
from jaxad.metrics import thresholds
from jaxad.runs import detection, kept_scores, saving
from jaxad.runs.detection import map_image
from jaxad.training.scoring import score_images

sys.path.append(str(EXPERIMENTS))
IMAGES = digits().images
NORMAL = IMAGES[100:160]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with a detector that has maps, a threshold and calibration scores, and one without these."""
    folder = tmp_path_factory.mktemp("runs")
    entry = jaxad.detectors()["conv_autoencoder"]
    config = entry.config(widths=(4,), latent_dim=4)
    detector = entry.build(config)
    state = jax.jit(detector.init)(jax.random.key(0), IMAGES[:2] / np.float32(255))
    scores = score_images(detector, state, NORMAL)
    threshold = thresholds.false_positive_rate(scores, 0.1)
    known = {"config": config, "state": state, "image_shape": (8, 8, 1), "threshold": threshold}
    details = {"ranges": {"uint8": [0, 255]}}
    saving.save(folder / "run" / "best", calibration=scores, details=details, **known)
    saving.save(folder / "earlier" / "best", details=details, **known)
    return folder, scores


@pytest.fixture(scope="module")
def predictor(made):
    return jaxad.load(made[0] / "run", trainable=False)


@pytest.fixture
def photos(tmp_path):
    """Larger than the detector's images, one of them of colour."""
    (tmp_path / "photos").mkdir()
    for i in range(5):
        large = np.repeat(np.repeat(IMAGES[i, :, :, 0], 3, 0), 2, 1)
        Image.fromarray(large).convert("RGB" if i == 2 else "L").save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_a_run_and_its_detector_are_the_same_predictor(made, predictor):
    other = jaxad.load(made[0] / "run" / "best", trainable=False)
    assert isinstance(other, jaxad.LoadedDetector)
    assert (other.name, other.config, other.threshold) == (predictor.name, predictor.config, predictor.threshold)
    np.testing.assert_array_equal(other.calibration, np.sort(made[1]))


def test_scores_decisions_and_maps_are_those_of_the_command(made, predictor, photos, tmp_path):
    detect = importlib.import_module("detect").detect
    assert call(detect, made[0] / "run", photos, "--output", tmp_path / "out", "--overlays", 0, "--quiet")[0] == 0
    with open(tmp_path / "out" / "scores.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    found = predictor.predict(photos)
    assert found.names == tuple(str(photos / f"{i}.png") for i in range(5))
    assert set(rows) == set(found.names)
    for i, name in enumerate(found.names):
        assert found.scores[i] == np.float32(rows[name]["score"])
        assert found.anomalous[i] == (rows[name]["anomalous"] == "1")
        pixels = np.asarray(Image.open(name))
        expected = map_image(predictor, pixels if pixels.ndim == 3 else pixels[..., None])
        np.testing.assert_array_equal(found.maps[i], expected)


def test_arrays_and_paths_give_the_same(predictor, photos):
    paths = [photos / f"{i}.png" for i in range(5)]
    opened = [np.asarray(Image.open(path)) for path in paths]
    arrays = [array if array.ndim == 3 else array[..., None] for array in opened]
    expected = predictor.predict(paths)
    found = predictor.predict(arrays)
    assert found.names == tuple(f"array/{i}" for i in range(5))
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(np.stack(found.maps), np.stack(expected.maps))
    stacked = predictor.predict(IMAGES[:7], batch_size=3)
    np.testing.assert_array_equal(stacked.scores, score_images(predictor.detector, predictor.state, IMAGES[:7]))
    floats = predictor.predict(IMAGES[:7] / np.float32(255), maps=False)
    np.testing.assert_allclose(floats.scores, stacked.scores, rtol=1e-5)
    assert floats.maps is None
    assert predictor.predict(str(paths[0])).scores == expected.scores[0]


def test_tiles_are_those_of_the_command(predictor, photos):
    found = predictor.predict(photos, tiling=2)
    images = find_images([photos])
    (outcomes,) = detection.score_stream(predictor, images, predictor.threshold, tiling=2)
    assert [outcome.score for outcome in outcomes] == list(found.scores)
    assert found.maps[0].shape == (24, 16)
    np.testing.assert_array_equal(found.maps[0], map_image(predictor, images[0].read(), 2))


def test_what_cannot_be_read_is_refused_or_named(predictor, photos):
    (photos / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png.*skip_unread=True"):
        predictor.predict(photos)
    found = predictor.predict(photos, skip_unread=True)
    assert len(found.names) == len(found.scores) == len(found.maps) == 5
    assert list(found.unread) == [str(photos / "broken.png")]


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ([], {}, "there are no images"),
        ("nowhere", {}, "does not exist"),
        (np.zeros((8, 8, 1), np.uint8), {}, r"an image has shape \(8, 1\)"),
        (np.zeros((1, 8, 8, 1), np.int32), {}, "type int32; give uint8, or floats"),
        (np.full((1, 8, 8, 1), 200.0), {}, r"values from 200 to 200; give uint8, or floats in \[0, 1\]"),
        (np.full((1, 8, 8, 1), np.nan), {}, "values from nan to nan"),
        (IMAGES[:1], {"batch_size": 0}, "batch_size is 0"),
        (IMAGES[:1], {"tiling": 0}, "tiling 0; give at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(predictor, images, options, words):
    with pytest.raises(ValueError, match=words):
        predictor.predict(images, **options)


def test_thresholds_are_replaced_in_another_predictor(made, predictor):
    scores, before = made[1], predictor.threshold
    fixed = predictor.with_threshold(float(np.median(scores)))
    assert fixed.predict(NORMAL, maps=False).anomalous.mean() == 0.5
    assert fixed.threshold.n == 0
    assert predictor.with_threshold(None).predict(NORMAL[:2]).anomalous is None
    other = predictor.with_target_fpr(0.25)
    assert other.threshold == thresholds.false_positive_rate(scores, 0.25)
    flagged = int((scores > other.threshold.value).sum())
    interval = stats.binomtest(flagged, 60).proportion_ci(0.95, method="exact")
    assert (other.threshold.n, other.threshold.details["low"]) == (60, pytest.approx(interval.low))
    assert other.threshold.details["high"] == pytest.approx(interval.high)
    assert predictor.threshold == before
    with pytest.raises(ValueError, match=r"target=1\.5 is outside"):
        predictor.with_target_fpr(1.5)
    with pytest.raises(ValueError, match="threshold is NaN"):
        predictor.with_threshold(np.nan)


def test_new_normal_images_calibrate(predictor, photos):
    bright = 255 - IMAGES[200:240]
    found = predictor.with_normal_images(bright, 0.1)
    expected = score_images(predictor.detector, predictor.state, bright)
    assert found.threshold == thresholds.false_positive_rate(expected, 0.1)
    np.testing.assert_array_equal(found.calibration, np.sort(expected))
    assert found.with_target_fpr(0.5).threshold.value < found.threshold.value
    few = predictor.with_normal_images(photos, 0.05)  # the promise is what so few allow
    assert (few.threshold.n, few.threshold.details["expected_at_most"]) == (5, pytest.approx(1 / 6))
    with pytest.raises(ValueError, match="target_fpr is 0"):
        predictor.with_normal_images(bright, 0)


def test_nothing_of_a_predictor_changes(predictor):
    with pytest.raises(AttributeError):
        predictor.threshold = None
    with pytest.raises(AttributeError):
        predictor.more = 1
    with pytest.raises(TypeError):
        predictor.details["fit"] = "crop"
    with pytest.raises(ValueError, match="read-only"):
        predictor.calibration[0] = 0


def test_threads_share_a_predictor(predictor):
    """Each asks for images and a threshold of its own, as often as it can."""
    expected = predictor.predict(IMAGES[:64])
    low, high = np.quantile(expected.scores, [0.2, 0.8])

    def work(number):
        some = np.arange(number, number + 16)
        mine = predictor.with_threshold(float(high if number % 2 else low))
        found = mine.predict(IMAGES[some], batch_size=5)
        np.testing.assert_array_equal(found.scores, expected.scores[some])
        np.testing.assert_array_equal(np.stack(found.maps), np.stack(expected.maps)[some])
        return (found.anomalous == (expected.scores[some] > (high if number % 2 else low))).all()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(48)))


def test_a_stream_that_changes_is_noticed(predictor, photos):
    monitor = predictor.monitor(level=0.01)
    predictor.predict(NORMAL, maps=False, monitor=monitor)
    monitor.finish()
    assert monitor.state().fits
    assert monitor.state().quantiles["0.5"][0] == monitor.state().quantiles["0.5"][1]
    noise = np.random.default_rng(0).random((70, 8, 8, 1), np.float32)
    predictor.predict(noise, maps=False, monitor=monitor)
    assert monitor.state().fits is False
    assert monitor.state().images == 130
    for tiling in (2, "auto"):
        with pytest.raises(ValueError, match="tiles do not compare"):
            predictor.monitor(tiling=tiling)
    calibrated = predictor.with_normal_images(photos, tiling=2)
    calibrated.predict(photos, tiling=2, monitor=calibrated.monitor(tiling=2))
    with pytest.raises(ValueError, match="tiles do not compare"):
        calibrated.monitor()


def test_threads_share_a_monitor(predictor):
    monitor = predictor.monitor()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: monitor.add(np.zeros(10)), range(200)))
    assert (monitor.state().images, monitor.state().looks) == (2000, 5)


# ---- scores of calibration that are kept -------------------------------------------------------------------------


def test_earlier_detectors_say_that_they_have_no_scores_of_calibration(made, tmp_path):
    earlier = jaxad.load(made[0] / "earlier", trainable=False)
    assert earlier.calibration is None
    with pytest.raises(ValueError, match=r"saved without the scores of its calibration.*with_normal_images"):
        earlier.with_target_fpr(0.1)
    assert earlier.monitor().state().calibration == 60  # the threshold says how many were flagged


def test_earlier_runs_have_them_among_their_predictions(made):
    scores = made[1]
    rows = [f"{i},valid,0,{float(score)},0" for i, score in enumerate(scores)]
    rows += ["x,valid,1,9.5,1", "y,test,0,0.5,0"]
    file = made[0] / "earlier" / "predictions.csv"
    file.write_text("\n".join(["id,part,label,score,decision", *rows]))
    try:
        np.testing.assert_array_equal(jaxad.load(file.parent).calibration, np.sort(scores))
        file.write_text(file.read_text().replace(",valid,0,", ",valid,0,1"))  # of another detector
        assert jaxad.load(file.parent).calibration is None
    finally:
        file.unlink()


def test_scores_of_another_detector_are_refused(made, tmp_path):
    loaded, scores = saving.load(made[0] / "run", trainable=False), made[1]
    known = {"config": loaded.config, "state": loaded.state, "image_shape": (8, 8, 1), "threshold": loaded.threshold}
    saving.save(tmp_path / "a", calibration=scores, **known)
    saving.save(tmp_path / "b", calibration=scores, **known | {"threshold": thresholds.fixed(1.0)})
    (tmp_path / "b" / kept_scores.NAME).rename(tmp_path / "a" / kept_scores.NAME)
    with pytest.raises(ValueError, match=r"belongs to another detector than detector\.json"):
        saving.load(tmp_path / "a")
    saving.save(tmp_path / "a", **known)  # saved anew, without any
    assert saving.load(tmp_path / "a").calibration is None
    assert json.loads((tmp_path / "a" / "detector.json").read_text())["detector"] == loaded.name
    for wrong in ([], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="give a vector of scores"):
            saving.save(tmp_path / "c", calibration=np.array(wrong), **known)
    assert not (tmp_path / "c").exists()
