"""The detect command scores files, folders and archives, says what it cannot read, and draws on one scale."""

import csv
import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import scripts
from PIL import Image

from jaxad.data import digits
from jaxad.data.fitting import fit_images
from jaxad.methods import DETECTORS
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.metrics import thresholds
from jaxad.nn.architecture import Architecture, Layer
from jaxad.report.overlays import colour_scale, overlay
from jaxad.runs import cli, saving
from jaxad.runs.detection import read_for
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
