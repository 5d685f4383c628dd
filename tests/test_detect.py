"""The detect command scores files, folders and archives, says what it cannot read, and draws on one scale."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import scripts
from PIL import Image

from jaxad.data import digits
from jaxad.data.fitting import fit_images
from jaxad.data.lazy import LazyImage, find_images, read_ahead
from jaxad.data.tiles import grid_of, resize_map
from jaxad.methods import DETECTORS
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.metrics import thresholds
from jaxad.nn.architecture import Architecture, Layer
from jaxad.report.overlays import colour_scale, overlay
from jaxad.runs import cli, detection, detection_refined, saving, watching
from jaxad.runs.detection import read_for
from jaxad.runs.detection_overlays import at_its_resolution
from jaxad.runs.detection_results import Detections
from jaxad.training.scoring import map_images, score_images

SCRIPT = Path(__file__).parent.parent / "experiments" / "detect.py"
IMAGES = digits().images[:30]
LAYER = Layer(channels=2, kernel=3, pool="max", pool_kernel=3, norm="none", activation="sigmoid")
ARCHITECTURE = Architecture(hypothesis="reconstruction", distance="l2", layers=(LAYER,))


@pytest.fixture(scope="module")
def detect():
    spec = importlib.util.spec_from_file_location("detect_script", SCRIPT)
    module = sys.modules["detect_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with an untrained detector: (folder, expected scores of IMAGES, threshold)."""
    folder = tmp_path_factory.mktemp("run")
    config = AutoencoderConfig(architecture=ARCHITECTURE)
    detector = autoencoder(config)
    start = jax.jit(detector.init)
    state = start(jax.random.key(0), IMAGES / np.float32(255))
    scores = score_images(detector, state, IMAGES, 8)
    threshold = thresholds.fixed(float(np.median(scores)))
    options = {"config": config, "state": state, "threshold": threshold}
    saving.save(folder / "best", image_shape=(8, 8, 1), **options)
    saving.save(folder / "plain" / "best", image_shape=(8, 8, 1), **options | {"threshold": None})
    return folder, scores, threshold.value


@pytest.fixture
def photos(tmp_path):
    """A folder of grey PNG files, one in a folder inside, and a file of another kind."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(4):
        Image.fromarray(IMAGES[i, :, :, 0]).save(folder / ("deep" if i == 3 else ".") / f"{i}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(detect, *arguments):
    """Exit status of the command."""
    with pytest.raises(SystemExit) as end:
        cli.main(detect.detect, detect.Config, arguments=[str(argument) for argument in arguments])
    return end.value.code


def read_scores(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_files_folders_and_archives_are_scored_most_anomalous_first(detect, made, photos, tmp_path, capsys):
    folder, expected, threshold = made
    np.savez(tmp_path / "more.npz", images=IMAGES[4:])
    output = tmp_path / "out"
    options = ["--output", output, "--overlays", 3, "--batch-size", 8]
    assert run(detect, folder, photos, photos / "0.png", tmp_path / "more.npz", *options) == 0
    rows = read_scores(output)
    names = [photos / f"{i}.png" for i in range(3)] + [photos / "deep" / "3.png"]
    names += [tmp_path / "more.npz" / str(i) for i in range(26)]
    order = np.argsort(-expected, kind="stable")
    assert [row["path"] for row in rows] == [str(names[i]) for i in order]
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected[order], rtol=1e-5)
    assert {float(row["threshold"]) for row in rows} == {threshold}
    assert [row["anomalous"] for row in rows] == [str(int(float(row["score"]) > threshold)) for row in rows]
    pictures = sorted((output / "overlays").iterdir())
    assert [picture.name[:4] for picture in pictures] == ["001_", "002_", "003_"]
    assert Path(rows[0]["path"]).stem in pictures[0].stem
    with Image.open(pictures[0]) as picture:
        assert picture.size[0] > 600
    printed = capsys.readouterr().out
    assert "of 30 images are anomalous" in printed
    assert "... 10 more" in printed
    assert str(output) in printed


def test_maps_are_refined_beside_the_others_and_scores_are_not(detect, made, photos, tmp_path, capsys, monkeypatch):
    folder, expected, _ = made
    make = detection_refined.make_refiner
    seen = []

    def watched():
        refiner = make("random")
        return lambda photograph, heat: seen.append((heat, refiner(photograph, heat))) or seen[-1][1]

    monkeypatch.setattr("jaxad.runs.programs.detect.make_refiner", watched)
    assert run(detect, folder, photos, "--output", tmp_path / "out", "--overlays", 2, "--refine") == 0
    np.testing.assert_allclose(
        sorted(float(row["score"]) for row in read_scores(tmp_path / "out")), np.sort(expected[:4]), rtol=1e-5
    )
    names = [sorted(path.name for path in (tmp_path / "out" / kind).iterdir()) for kind in ("overlays", "refined")]
    assert names[0] == names[1]
    assert len(seen) == len(names[0]) == 2
    assert all(((refined <= heat) & (refined >= 0)).all() and (refined < heat).any() for heat, refined in seen)
    # Pictures of an earlier call are no photographs.
    assert run(detect, folder, tmp_path, "--output", tmp_path / "again") == 0
    assert len(read_scores(tmp_path / "again")) == 4
    assert "left out: " in capsys.readouterr().err


def test_what_cannot_be_refined_ends_in_one_line(detect, made, photos, tmp_path, capsys):
    folder, _, _ = made
    assert run(detect, folder, photos, "--refine", "--overlays", 0) == 2
    assert "--refine draws refined maps, and --overlays is 0" in capsys.readouterr().err
    config = DETECTORS["nearest_neighbours"].config()
    detector = DETECTORS["nearest_neighbours"].build(config)
    state = detector.init(jax.random.key(0), IMAGES[:4] / np.float32(255))
    saving.save(tmp_path / "best", config=config, state=state, image_shape=(8, 8, 1))
    assert run(detect, tmp_path, photos, "--refine", "--output", tmp_path / "out") == 2
    assert "--refine refines anomaly maps, and nearest_neighbours has none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_are_resized_and_turned_grey_as_in_training(detect, made, tmp_path, capsys):
    folder, expected, _ = made
    big = np.repeat(np.repeat(IMAGES[5, :, :, 0], 4, axis=0), 4, axis=1)
    Image.fromarray(big).convert("RGB").resize((8, 8), Image.Resampling.BOX).save(tmp_path / "colour.png")
    Image.fromarray(np.full((31, 40), 80, np.uint8)).save(tmp_path / "flat.png")
    status = run(detect, folder / "best", tmp_path / "colour.png", tmp_path / "flat.png", "--output", tmp_path / "out")
    assert status == 0
    rows = {Path(row["path"]).name: float(row["score"]) for row in read_scores(tmp_path / "out")}
    np.testing.assert_allclose(rows["colour.png"], expected[5], rtol=1e-4)
    assert set(rows) == {"colour.png", "flat.png"}


def test_a_detector_of_12_bits_scores_12_bits_and_says_what_else_there_is(detect, made, tmp_path, capsys):
    folder, expected, _ = made
    trained = saving.load(folder)
    save = {"config": trained.config, "state": trained.state, "image_shape": (8, 8, 1), "threshold": trained.threshold}
    saving.save(tmp_path / "best", **save, details={"ranges": {"uint16": [0, 4095]}})
    (tmp_path / "new").mkdir()
    deep = np.rint(IMAGES[:4, :, :, 0] / 255 * 4095).astype(np.uint16)
    for i, pixels in enumerate(deep):
        Image.fromarray(pixels).save(tmp_path / "new" / f"{i}.png")
    Image.fromarray(deep[0] * 8).save(tmp_path / "new" / "bright.png")
    Image.fromarray(IMAGES[0, :, :, 0]).save(tmp_path / "new" / "bytes.png")
    assert run(detect, tmp_path, tmp_path / "new", "--output", tmp_path / "out", "--overlays", 1) == 1
    said = capsys.readouterr().err
    assert "skipped: " in said
    assert "bytes.png holds 8 bits, but the detector was trained on 16 bits (0 to 4095)" in said
    assert re.search(r"cut: .*bright\.png has values 0 to 3\d{4}, beyond 0 to 4095, which training knew", said)
    rows = {Path(row["path"]).stem: float(row["score"]) for row in read_scores(tmp_path / "out")}
    assert set(rows) == {"0", "1", "2", "3", "bright"}
    np.testing.assert_allclose([rows[str(i)] for i in range(4)], expected[:4], rtol=1e-2)
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1


def test_unreadable_images_are_named_and_the_others_scored(detect, made, photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    options = ["--output", tmp_path / "out", "--overlays", 0, "--quiet"]
    assert run(detect, made[0], photos, tmp_path / "broken.npz", *options) == 1
    printed = capsys.readouterr()
    said = printed.err.splitlines()
    assert [line.startswith("skipped: cannot read") for line in said] == [True, True]
    assert "broken.png" in said[0]
    assert "broken.npz" in said[1]
    assert printed.out == ""
    assert len(read_scores(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_detector_without_threshold_only_ranks_unless_given_one(detect, made, photos, tmp_path, capsys):
    run_folder = made[0] / "plain"
    options = ["--overlays", 0]
    assert run(detect, run_folder, photos, "--output", tmp_path / "a", *options) == 0
    assert {(row["threshold"], row["anomalous"]) for row in read_scores(tmp_path / "a")} == {("", "")}
    assert "no threshold" in capsys.readouterr().out
    assert run(detect, run_folder, photos, "--output", tmp_path / "b", "--threshold", "1e9", *options) == 0
    assert {row["anomalous"] for row in read_scores(tmp_path / "b")} == {"0"}
    assert "0 of 4 images are anomalous" in capsys.readouterr().out


def test_a_detector_without_maps_only_scores(detect, made, photos, tmp_path, capsys):
    def without_maps(config):
        return autoencoder(config)._replace(score_map=None)

    without = DETECTORS["autoencoder"]._replace(build=without_maps)
    said = "no overlays: the method autoencoder scores whole images and has no anomaly maps"
    with DETECTORS.temporarily("autoencoder", without):
        for i, (options, lines) in enumerate({(): 1, ("--overlays", 0): 0, ("--quiet",): 0}.items()):
            output = tmp_path / str(i)
            assert run(detect, made[0], photos, "--output", output, *options) == 0
            assert capsys.readouterr().out.splitlines().count(said) == lines
            assert len(read_scores(output)) == 4
            assert [file.name for file in output.iterdir()] == ["scores.csv"]


def test_pictures_that_were_drawn_are_no_photographs(detect, made, photos, tmp_path, capsys):
    run, _, _ = made
    before = sorted(image.name for image in find_images([photos]))
    for name in ("one", "two"):
        config = detect.Config(run=run, images=(photos,), output=photos / "results" / name, overlays=1)
        assert detect.detect(config) == 0
        said = capsys.readouterr()
    assert f"left out: {photos / 'results' / 'one' / 'overlays'}, where" in said.err
    assert sorted(row["path"] for row in read_scores(photos / "results" / "two")) == before
    drawn = photos / "results" / "one" / "overlays"
    config = detect.Config(run=run, images=(drawn,), output=tmp_path / "out", overlays=0)
    assert detect.detect(config) == 0  # who names them wants them
    watch = watching.Watch([photos])
    assert sorted(image.name for image in watch.images()) == before
    shutil.copytree(drawn, photos / "run" / "masks")
    (photos / "run" / "config.json").write_text('{\n  "format": "jaxad-run-2"')
    assert sorted(image.name for image in watch.images()) == before
    (photos / "run" / "config.json").write_text('{"format": "mine"}')
    assert len(watch.images()) == len(before) + 1


def test_results_go_into_the_run_by_default_and_earlier_ones_stay(detect, made, photos, tmp_path, capsys):
    assert run(detect, made[0], photos / "0.png", "--overlays", 0) == 0
    (folder,) = made[0].glob("detections-*")
    before = (folder / "scores.csv").read_bytes()
    assert run(detect, made[0], photos / "1.png", "--output", folder) == 2
    assert "choose a new or empty --output" in capsys.readouterr().err
    assert (folder / "scores.csv").read_bytes() == before


def test_bad_input_ends_in_one_line_before_anything_is_written(detect, made, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (photos / "bad.png").write_bytes(b"")
    cases = {
        "give the best/ folder of a finished run": (tmp_path, photos),
        "does not exist": (made[0], photos / "none.png"),
        "no images in": (made[0], tmp_path / "empty"),
        "no images to score": (made[0],),
        "give at least 0 and 1": (made[0], photos, "--overlays", -1),
        "choose another --output": (made[0], photos, "--output", tmp_path / "file" / "out"),
        "nothing was scored": (made[0], photos / "bad.png", "--output", tmp_path / "out", "--quiet"),
        "threshold is NaN": (made[0], photos, "--threshold", "nan"),
        "give at least 1, which is whole images": (made[0], photos, "--tiles", 0),
        "give a positive number": (made[0], photos, "--watch", "--watch-seconds", 0),
        "no folder to watch": (made[0], photos / "0.png", "--watch"),
        "--threshold and --target-fpr are both given": (made[0], photos, "--threshold", 1, "--target-fpr", 0.1),
        "--target-fpr is 1.0; give a share": (made[0], photos, "--target-fpr", 1),
        "--drift-level is 0.0; give a share": (made[0], photos, "--drift-level", 0),
        "saved without the scores of its calibration": (made[0], photos, "--target-fpr", 0.1),
    }
    for words, arguments in cases.items():
        assert run(detect, *arguments) == 2, words
        said = capsys.readouterr().err.splitlines()
        assert words in said[-1]
        assert said[-1].startswith("error: ")
        assert len([line for line in said if not line.startswith("skipped: ")]) == 1
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_the_script_runs_as_a_command(detect, tmp_path, capsys):
    assert run(detect, "--help") == 0
    assert "Exit status" in capsys.readouterr().out
    status, _, err = scripts.run("detect.py", tmp_path, "x.png", cache=tmp_path / "cache")
    assert status == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_one_scale_serves_all_pictures():
    maps = np.linspace(0, 1, 1001).reshape(1, 7, 143)
    assert colour_scale(maps) == pytest.approx(0.995)
    assert colour_scale(np.where(maps > 0.5, np.nan, maps)) == pytest.approx(0.4975)
    assert colour_scale(np.zeros((2, 3, 3))) == 1.0
    image = np.zeros((4, 6, 3), np.float32)
    heat = np.zeros((4, 6), np.float32)
    heat[1, 2] = 3.0
    figure = overlay(image, heat, scale=2.0, title="a $ in a name\n" + "x" * 500)
    grey, middle, both, bar = figure.axes
    assert middle.images[0].get_clim() == (0, 2.0)
    np.testing.assert_array_equal(middle.images[0].get_array(), heat)
    assert both.images[1].get_clim() == (0, 2.0)
    assert both.images[1].get_alpha()[1, 2] == both.images[1].get_alpha().max() > 0.5
    assert both.images[1].get_alpha()[0, 0] == 0
    np.testing.assert_array_equal(grey.images[0].get_array(), image)
    assert bar is not None
    assert figure.get_suptitle().splitlines()[1].startswith("…x")
    with pytest.raises(ValueError, match="do not fit"):
        overlay(image, heat[:2], scale=1.0)
    with pytest.raises(ValueError, match="colour scale is 0"):
        overlay(image, heat, scale=0)


def test_maps_belong_to_their_images(made):
    loaded = saving.load(made[0] / "best")
    maps = map_images(loaded.detector, loaded.state, IMAGES, 8)
    # Reconstruction adds a tenth of the mean squared error, which is also the mean of the l2 map.
    np.testing.assert_allclose(1.1 * maps.mean((1, 2)), made[1], rtol=1e-4)


@pytest.mark.parametrize("fit", ["stretch", "resize", "pad", "crop"])
def test_new_images_are_fitted_as_those_of_the_training_were(made, rng, fit):
    """Also by a detector of version 0.2.0 and before, which called stretching resizing."""
    loaded = saving.load(made[0])._replace(details={"fit": fit})
    photo = rng.integers(0, 256, (30, 20, loaded.image_shape.channels), dtype=np.uint8)
    size = loaded.image_shape[:2]
    expected = fit_images(photo[None], size, "stretch" if fit == "resize" else fit)
    np.testing.assert_array_equal(read_for(loaded, photo), expected)


def test_scores_are_on_disk_batch_by_batch(made, photos, tmp_path):
    """Before the next batch is scored, so that whatever ends the run costs one batch."""
    loaded = saving.load(made[0] / "best", trainable=False)
    found = Detections(tmp_path / "scores.csv", loaded.threshold)
    names = []
    for outcomes in detection.score_stream(loaded, find_images([photos]), loaded.threshold, batch_size=2):
        found.add(outcomes)
        names += [outcome.image.name for outcome in outcomes]
        assert [row["path"] for row in read_scores(tmp_path)] == names
    assert len(names) == 4
    before = (tmp_path / "scores.csv").read_text()
    found.rank()
    after = (tmp_path / "scores.csv").read_text()
    assert before != after
    assert sorted(before.splitlines()) == sorted(after.splitlines())


def test_only_the_most_anomalous_images_are_kept(tmp_path):
    found = Detections(tmp_path / "scores.csv", None, keep=3)
    scores = np.random.default_rng(0).integers(0, 40, 500).astype(float)
    items = [detection.ScoredImage(LazyImage(f"{i}", IMAGES.view), score, None) for i, score in enumerate(scores)]
    for start in range(0, 500, 7):
        found.add(items[start : start + 7])
    expected = [str(i) for i in np.argsort(-scores, kind="stable")]
    assert [item.image.name for item in found.top(20)] == expected[:20]  # of equal scores the first
    assert len(found._heap) == 20
    found.rank()
    assert [row["path"] for row in read_scores(tmp_path)] == expected


def test_images_are_read_ahead_in_order_and_not_too_far():
    reading, taken, most = threading.Semaphore(0), 0, 0
    lock, under_way = threading.Lock(), set()

    def read(image):
        with lock:
            under_way.add(image.name)
        reading.release()
        if image.name == "7":
            raise ValueError("seven")
        return int(image.name)

    images = (LazyImage(str(i), IMAGES.view) for i in range(40))  # an iterator: more are not even looked for
    for place, (image, value) in enumerate(read_ahead(images, read, ahead=5, threads=3)):
        taken += 1
        assert image.name == str(place)
        assert str(value) == ("seven" if place == 7 else str(place))
        with lock:
            most = max(most, len(under_way) - taken)
    assert taken == 40
    assert most <= 5


@pytest.mark.parametrize("together", [1, 4])
def test_one_program_serves_any_number_of_images_and_any_batch_size(made, together):
    traced = []

    def score(state, images):
        traced.append(images.shape)
        return images.mean((1, 2, 3))

    loaded = saving.load(made[0] / "best")
    loaded = loaded._replace(detector=loaded.detector._replace(score=score, together=together))
    for count, batch_size in ((1, 65536), (2, 1), (21, 20), (45, 64)):
        scores = detection.score_rows(loaded, [IMAGES[:1]] * count, batch_size)
        np.testing.assert_allclose(scores, np.full(count, IMAGES[0].mean() / 255), rtol=1e-5)
    assert traced == [(together, 8, 8, 1)]


def test_a_score_that_is_no_number_is_named(made, tmp_path, photos, monkeypatch):
    loaded = saving.load(made[0] / "best")
    monkeypatch.setattr(detection, "score_images", lambda *_: np.array([1, np.nan, 2, 3.0]))
    (outcomes,) = detection.score_stream(loaded, find_images([photos]), None)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ScoredImage", "Unread", "ScoredImage", "ScoredImage"]
    assert outcomes[1].reason.endswith("1.png: its score is NaN, neither normal nor anomalous")


def test_a_folder_that_cannot_be_listed_is_named(made, photos, monkeypatch, detect, tmp_path, capsys):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run(detect, made[0], photos, "--output", tmp_path / "out", "--overlays", 0) == 1
    assert f"skipped: cannot read folder {photos / 'deep'} (Permission denied)" in capsys.readouterr().err
    assert len(read_scores(tmp_path / "out")) == 3


def test_json_is_an_object_an_image_and_nothing_else(detect, made, photos, tmp_path, capsys):
    (photos / "bad.png").write_bytes(b"")
    assert run(detect, made[0], photos, "--json", "--output", tmp_path / "a", "--overlays", 0) == 1
    printed = capsys.readouterr()
    objects = [json.loads(line) for line in printed.out.splitlines()]
    assert "skipped: " in printed.err
    rows = {row["path"]: row for row in read_scores(tmp_path / "a")}
    assert {entry["name"] for entry in objects} == set(rows)
    for entry in objects:
        assert list(entry) == ["name", "score", "threshold", "anomalous"]
        assert entry["score"] == float(rows[entry["name"]]["score"])
        assert entry["threshold"] == made[2]
        assert entry["anomalous"] is (rows[entry["name"]]["anomalous"] == "1")
    assert run(detect, made[0] / "plain", photos / "0.png", "--json", "--output", tmp_path / "b", "--quiet") == 0
    (entry,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (entry["threshold"], entry["anomalous"]) == (None, None)


def test_the_score_of_tiles_is_their_highest_and_their_maps_lie_where_they_were(made):
    loaded = saving.load(made[0] / "best")
    large = np.concatenate([np.concatenate(IMAGES[i : i + 3], 1) for i in (0, 3, 6)])  # 24x24 of nine digits
    tiles = detection.read_for(loaded, large, 2)
    grid = grid_of((24, 24), 2)
    assert tiles.shape == (4, 8, 8, 1)
    expected = score_images(loaded.detector, loaded.state, tiles, 4)
    items = [LazyImage("large", lambda: large), LazyImage("small", lambda: IMAGES[3])]
    (outcomes,) = detection.score_stream(loaded, items, None, tiling=2)
    assert outcomes[0].score == pytest.approx(expected.max(), rel=1e-5)
    assert outcomes[1].image.name == "small"
    (whole,) = detection.score_stream(loaded, items, None, tiling="auto")
    assert [outcome.score for outcome in whole] == pytest.approx(
        [*score_images(loaded.detector, loaded.state, detection.read_for(loaded, large), 1), made[1][3]], rel=1e-4
    )
    found = detection.map_image(loaded, large, 2)
    assert found.shape == (24, 24)
    corner = map_images(loaded.detector, loaded.state, tiles[:1], 1)[0]
    alone = 24 - grid.tile[0]  # rows that the first tile has for itself
    np.testing.assert_allclose(found[:alone, :alone], resize_map(corner, grid.tile)[:alone, :alone], rtol=1e-5)


def test_pictures_have_the_photograph_at_its_own_resolution(made, rng):
    loaded = saving.load(made[0] / "best")
    photograph = rng.integers(0, 256, (300, 400, 3), np.uint8)
    heat = rng.random((8, 8)).astype(np.float32)
    shown, spread = at_its_resolution(loaded, photograph, heat)
    np.testing.assert_allclose(shown, photograph / 255, atol=1e-6)
    assert spread.shape == (300, 400)
    assert spread[140, 190] == pytest.approx(heat[3:5, 3:5].mean(), abs=0.2)
    shown, spread = at_its_resolution(loaded, np.zeros((4000, 2000, 1), np.uint8), heat)
    assert shown.shape == (1600, 800, 1)
    assert spread.shape == (1600, 800)
    padded = loaded._replace(details={"fit": "pad"})
    _, spread = at_its_resolution(padded, np.zeros((4, 8, 1), np.uint8), heat)
    np.testing.assert_array_equal(spread, heat[2:6])  # without the border
    cropped = loaded._replace(details={"fit": "crop"})
    _, spread = at_its_resolution(cropped, np.zeros((8, 12, 1), np.uint8), heat)
    np.testing.assert_array_equal(spread[:, 2:10], heat)
    assert np.isnan(spread[:, [0, 1, 10, 11]]).all()
    overlay(np.zeros((8, 12, 1), np.float32), spread, scale=0.5).canvas.draw()
    figure = overlay(shown, np.zeros((1600, 800), np.float32), scale=1.0, title="one\ntwo")
    figure.canvas.draw()
    assert all(ax.get_window_extent().height >= 1600 for ax in figure.axes[:3])


def test_what_does_not_change_and_cannot_be_read_is_given_up(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    watch = watching.Watch([tmp_path])
    for attempt in range(watching.TRIES):
        (image,) = watch.images()
        outcome = detection.Unread(image, "unreadable")
        assert watch.settled([outcome]) == ([outcome] if attempt == watching.TRIES - 1 else [])
    assert watch.images() == []
    (tmp_path / "grows.png").write_bytes(b"")
    for size in range(3 * watching.TRIES):  # as long as it changes, it is being written
        (image,) = watch.images()
        (tmp_path / "grows.png").write_bytes(b"x" * (size + 1))
        assert watch.settled([detection.Unread(image, "unreadable")]) == []
    (tmp_path / "grows.png").rename(tmp_path / "grown.jpg")
    assert [image.name for image in watch.images()] == [str(tmp_path / "grown.jpg")]


def test_a_file_that_changes_while_it_is_read_is_not_scored(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(IMAGES[0, :, :, 0]).save(file)
    (image,) = watching.Watch([tmp_path]).images()
    np.testing.assert_array_equal(image.read(), IMAGES[0])

    def read_and_write():
        file.write_bytes(b"more")
        return IMAGES[0]

    with pytest.raises(ValueError, match="changes while it is read"):
        watching._steady(image._replace(read=read_and_write)).read()


@pytest.fixture
def calibrated(made, tmp_path):
    """The detector with the scores of digits that set its threshold, archives of such digits and of others."""
    trained = saving.load(made[0])
    scores = score_images(trained.detector, trained.state, digits().images[:100])
    save = {"config": trained.config, "state": trained.state, "image_shape": (8, 8, 1), "calibration": scores}
    saving.save(tmp_path / "run" / "best", threshold=thresholds.false_positive_rate(scores, 0.1), **save)
    np.savez(tmp_path / "same.npz", images=digits().images[100:200])
    np.savez(tmp_path / "other.npz", images=255 - digits().images[100:200])
    return tmp_path / "run", scores


def test_scores_that_no_longer_fit_calibration_are_said_and_kept(detect, calibrated, tmp_path, capsys):
    folder, scores = calibrated
    for name, fits in (("same", True), ("other", False)):
        assert run(detect, folder, tmp_path / f"{name}.npz", "--output", tmp_path / name, "--overlays", 0) == 0
        said = capsys.readouterr()
        assert said.err.count("drift: scores no longer fit those of calibration") == (not fits)
        assert f"scores, {'they fit' if fits else 'they do not fit'} (level 0.01)" in said.out
        kept = json.loads((tmp_path / name / "drift.json").read_text())
        found = np.array([float(row["score"]) for row in read_scores(tmp_path / name)])
        threshold = thresholds.false_positive_rate(scores, 0.1).value
        assert (kept["fits"], kept["images"], kept["calibration"]) == (fits, 100, 100)
        assert kept["flagged"] == np.mean(found > threshold)
        assert kept["quantiles"]["0.5"][1] == np.quantile(found, 0.5, method="inverted_cdf")
        assert (kept["misfit"] is None) == fits


def test_what_cannot_be_compared_is_not_tested_and_that_is_said(detect, made, calibrated, tmp_path, capsys):
    for i, (where, flags) in enumerate({made[0]: (), calibrated[0]: ("--tiles", 2)}.items()):
        options = ("--overlays", 0, "--output", tmp_path / str(i))
        assert run(detect, where, tmp_path / "other.npz", *options, *flags) == 0
        assert "drift: not tested: " in capsys.readouterr().out
        assert not (tmp_path / str(i) / "drift.json").exists()


def test_the_threshold_is_set_for_another_rate(detect, calibrated, tmp_path):
    options = ("--overlays", 0, "--output", tmp_path / "out", "--target-fpr", 0.4)
    assert run(detect, calibrated[0], tmp_path / "same.npz", *options) == 0
    expected = thresholds.false_positive_rate(calibrated[1], 0.4).value
    assert {float(row["threshold"]) for row in read_scores(tmp_path / "out")} == {expected}


@pytest.fixture
def interruptible():
    """As in a terminal: a process that a shell has put in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_watched_folder_is_scored_as_images_arrive(detect, made, tmp_path, capsys):
    folder, output = tmp_path / "incoming", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(IMAGES[0, :, :, 0]).save(folder / "0.png")
    whole = (folder / "0.png").read_bytes()

    def arrive():
        """Writes files as a camera does, waits until they are scored, and ends the watch."""
        try:
            wait_for(1)
            (folder / "half.png").write_bytes(whole[:50])
            Image.fromarray(IMAGES[1, :, :, 0]).save(folder / "1.png")
            wait_for(2)
            (folder / "half.png").write_bytes(whole)
            wait_for(3)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def wait_for(count):
        end = time.monotonic() + 60
        while not (output / "scores.csv").exists() or len(read_scores(output)) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    camera = threading.Thread(target=arrive)
    camera.start()
    options = ["--watch", "--watch-seconds", 0.05, "--output", output, "--overlays", 1]
    assert run(detect, made[0], folder, *options) == 0
    camera.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    lines = capsys.readouterr().out.splitlines()
    verdicts = {True: "anomalous", False: "normal"}
    for line, (name, i) in zip(lines, {"0.png": 0, "1.png": 1, "half.png": 0}.items()):
        assert line == f"{verdicts[made[1][i] > made[2]]} {made[1][i]:.4g} {folder / name}"
    assert "of 3 images are anomalous" in lines[3]
    scores = [float(row["score"]) for row in read_scores(output)]
    assert scores == sorted(scores, reverse=True)
    assert len(list((output / "overlays").iterdir())) == 1


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_asks_and_the_second_ends():
    with watching.stop_on_signal() as stop:
        assert not stop.wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(60)
        with pytest.raises(KeyboardInterrupt):
            interrupt()


@pytest.mark.slow
def test_a_process_that_is_interrupted_ends_its_watch_and_one_that_is_killed_loses_a_batch(made, photos, tmp_path):
    flags = (made[0], photos, "--watch", "--watch-seconds", 0.1, "--overlays", 0)
    for end, status in ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        output = tmp_path / end.name
        process = scripts.start("detect.py", *flags, "--output", output, cache=tmp_path / "cache")
        while not (output / "scores.csv").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, err
        assert ("of 4 images are anomalous" in out) == (status == 0)
        assert len(read_scores(output)) == 4


@pytest.mark.parametrize("name", DETECTORS)
def test_scoring_needs_nothing_of_a_state_that_is_not_saved(name):
    """So a detector is loaded for scoring without it."""
    entry = DETECTORS[name]
    detector = entry.build(next(iter(entry.tiny.values())))
    images = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    state = saving._lasting(detector, saving._like(detector, (8, 8, 1)))
    assert jax.eval_shape(detector.score, state, images).shape == (1,)
    if detector.score_map is not None:
        assert jax.eval_shape(detector.score_map, state, images).shape == (1, 8, 8)


def test_a_detector_for_scoring_is_loaded_without_what_trains_it(made):
    whole, bare = saving.load(made[0]), saving.load(made[0], trainable=False)
    for name in whole.detector.transient:
        assert getattr(bare.state, name) is None
        assert getattr(whole.state, name) is not None
    np.testing.assert_array_equal(score_images(bare.detector, bare.state, IMAGES[:4], 4), made[1][:4])


def test_a_start_imports_nothing_that_scoring_does_not_need(made, tmp_path):
    """The rest of the libraries takes longer than all else."""
    Image.fromarray(IMAGES[0, :, :, 0]).save(tmp_path / "0.png")
    arguments = [str(made[0]), str(tmp_path / "0.png"), "--overlays", "0", "--output", str(tmp_path / "out")]
    program = (
        f"import sys, runpy; sys.argv = ['detect.py', *{arguments!r}]\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code)\n"
        "heavy = ('matplotlib', 'scipy.stats', 'scipy.ndimage', 'sklearn', 'skimage', 'distrax', 'rich.progress')\n"
        "mine = ('jaxad.methods.agad', 'jaxad.report', 'jaxad.nas')\n"
        "print([name for name in (*heavy, *mine) if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.stdout.splitlines()[-2:] == ["0", "[]"], result.stderr


@pytest.mark.usefixtures("interruptible")
def test_a_watch_says_that_images_change_when_they_do(detect, calibrated, tmp_path, capsys):
    """And leaves what it knows before its end, which a kill may be."""
    folder, output = tmp_path / "incoming", tmp_path / "out"
    folder.mkdir()
    for i, image in enumerate(255 - digits().images[100:170, :, :, 0]):
        Image.fromarray(image).save(folder / f"{i}.png")

    def end():
        """The watch, once it has said so."""
        try:
            limit = time.monotonic() + 60
            while not (output / "drift.json").exists() and time.monotonic() < limit:
                time.sleep(0.01)
            assert json.loads((output / "drift.json").read_text())["fits"] is False
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=end)
    waiting.start()
    options = ["--watch", "--watch-seconds", 0.05, "--output", output, "--overlays", 0, "--json"]
    assert run(detect, calibrated[0], folder, *options) == 0
    waiting.join()
    said = capsys.readouterr()
    assert said.err.count("drift: ") == 1
    assert all(line.startswith('{"name"') for line in said.out.splitlines())
