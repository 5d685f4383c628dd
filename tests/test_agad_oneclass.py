"""The AGAD experiment as a user meets it: a process with flags, killed and resumed, fed nonsense."""

import importlib
import json
import shutil
import sys

import jax
import numpy as np
import pytest
from scripts import EXPERIMENTS, call, kill_once, one_line, run, same_weights, start, with_flag
from test_training import RECORDER

from jaxad import data
from jaxad._utils import files
from jaxad.methods.agad import AGADConfig
from jaxad.runs import one_class, saving
from jaxad.training import checkpoint
from jaxad.training.scoring import score_images

sys.path.append(str(EXPERIMENTS))
detect = importlib.import_module("detect")
experiment = importlib.import_module("agad_oneclass")

SCRIPT = "agad_oneclass.py"
TINY = (
    *("--classes", "0", "1", "--limit", "60", "--steps", "8", "--batch-size", "8", "--checkpoints", "2"),
    *("--agad.width", "0.05", "--agad.latent-dim", "6", "--resamples", "20", "--diagnose"),
    *("--compare", "freezebn", "ganomaly"),
)
CELLS = [("agad", 0.0), ("agad", 0.05), ("freezebn", 0.05), ("ganomaly", 0.0)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = run(SCRIPT, *TINY, "--output", folder, cache=cache)
    assert status == 0, err
    assert "test AUROC in %" in out
    return folder


def results(folder):
    """All but how long it took."""
    content = json.loads((folder / "results.json").read_text())
    del content["seconds"]
    for cell in content["cells"]:
        del cell["seconds"]
    return content


def test_a_run_leaves_everything_a_person_wants(finished):
    content = results(finished)
    assert [(group["variant"], group["gamma"]) for group in content["groups"]] == [*CELLS, ("pca", 0.0)]
    assert len(content["cells"]) == 2 * len(CELLS)
    for group in content["groups"]:
        for name in ("auroc", "aupr_in", "aupr_out", "fpr95", "f1_max"):
            assert 0 <= group["test"][name]["low"] <= group["test"][name]["value"] <= group["test"][name]["high"] <= 1
        values = [np.mean(v) for v in group["auroc"].values()]
        assert group["auroc"].keys() == {"0", "1"}
        np.testing.assert_allclose([group["mean"], group["sd"]], [np.mean(values), np.std(values)])
        assert group["test"]["auroc"]["value"] == pytest.approx(group["mean"])
        if group["variant"] != "pca":
            assert group["auroc_by_statistics"].keys() == {"running", "batches, shuffled", "batches, normal first"}
    assert content["test"] == content["groups"][0]["test"]
    assert {cell["train_anomalous"] for cell in content["cells"] if cell["gamma"]} == {2}
    assert {cell["train_normal"] for cell in content["cells"]} == {36}
    page = (finished / "report.html").read_text()
    for words in ("AUROC by class", "What is reconstructed", "Scores by class", "G(G(x)), gamma 0.05", "freezebn"):
        assert words in page
    assert "python experiments/agad_oneclass.py" in page
    assert len((finished / "predictions.csv").read_text().splitlines()) > 40
    # Only what is shown keeps its state.
    kept = {path.stem for path in (finished / "checkpoint").iterdir()}
    assert kept == {"agad-gamma0-0-seed0", "agad-gamma0.05-0-seed0", "training"}


def test_the_saved_detector_is_the_one_of_the_first_class_and_the_largest_gamma(finished):
    loaded = saving.load(finished / "best")
    assert (loaded.name, loaded.details["gamma"], loaded.image_shape) == ("agad", 0.05, (8, 8, 1))
    assert loaded.threshold.value == results(finished)["threshold"]["value"]
    images = finished.parent / "images.npz"
    np.savez(images, images=np.random.default_rng(0).random((5, 8, 8, 1), np.float32))
    status, out, err = call(detect.detect, finished, images)
    assert status == 0, err
    assert "5 images" in out


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(finished, tmp_path, cache):
    """Once between two cells, once within the training of a cell."""
    folder = tmp_path / "killed"
    training = folder / "checkpoint" / "training.safetensors"
    conditions = [
        lambda: (folder / "cells.jsonl").exists(),
        lambda: training.exists() and b"freezebn-gamma0.05-1-seed0" in training.read_bytes(),
    ]
    flags = (*TINY, "--output", folder)
    for condition in conditions:
        kill_once(start(SCRIPT, *flags, cache=cache), condition)
        assert not (folder / "results.json").exists()
        flags = ("--resume", folder)
    status, _, err = run(SCRIPT, "--resume", folder, cache=cache)
    assert status == 0, err
    assert results(folder) == results(finished)
    for part in ("best/weights.safetensors", "checkpoint/agad-gamma0-0-seed0.safetensors"):
        assert same_weights(folder / part, finished / part)


def test_resuming_a_finished_run_changes_nothing(finished):
    before = (finished / "results.json").read_bytes()
    status, out, _ = call(experiment.run, "--resume", finished)
    assert status == 0
    assert "finished" in out
    assert (finished / "results.json").read_bytes() == before


def unfinished(finished, folder):
    shutil.copytree(finished, folder)
    for name in ("results.json", "report.html", "predictions.csv"):
        (folder / name).unlink()
    return folder


@pytest.mark.slow
def test_damaged_files_are_made_again(finished, tmp_path):
    """Scores are computed, a state is trained: nothing that is done is lost."""
    folder = unfinished(finished, tmp_path / "run")
    first, second = sorted((folder / "scores").glob("agad-gamma*-0-seed0.npy"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-7])
    state = folder / "checkpoint" / "agad-gamma0-0-seed0.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    status, _, err = call(experiment.run, "--resume", folder)
    assert status == 0, err
    assert results(folder) | {"device": None} == results(finished) | {"device": None}
    for path in (first, second):
        assert path.read_bytes() == (finished / "scores" / path.name).read_bytes()
    assert same_weights(state, finished / "checkpoint" / state.name)


@pytest.mark.slow
def test_class_folders_come_with_their_own_test_part(tmp_path, cache, rng):
    """The medical protocol: train and test folders, one class normal, images of different sizes."""
    from PIL import Image

    for part, count in (("train", 30), ("test", 12)):
        for kind in ("normal", "ill"):
            (tmp_path / part / kind).mkdir(parents=True)
            for i in range(count):
                size = (9, 11) if i % 2 else (10, 10)
                Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / part / kind / f"{i}.png")
    flags = ("--dataset", f"folder:{tmp_path / 'train'}", "--test-folder", tmp_path / "test", "--classes", "normal")
    flags += ("--preset", "smoke", "--image-size", "8", "--steps", "4", "--batch-size", "8", "--agad.width", "0.05")
    status, _, err = run(SCRIPT, *flags, "--gammas", "0.1", "--output", tmp_path / "run", cache=cache)
    assert status == 0, err
    parts = {row["part"]: row for row in results(tmp_path / "run")["task"]["parts"]}
    assert (parts["test"]["normal"], parts["test"]["anomalous"]) == (12, 12)
    assert parts["train"]["anomalous"] == round(0.1 / 0.9 * parts["train"]["normal"])
    source = data.load(f"folder:{tmp_path / 'test'}", image_size=8)
    assert len((tmp_path / "run" / "predictions.csv").read_text().splitlines()) > len(source.ids)


@pytest.mark.slow
def test_cells_that_train_together_are_what_they_are_alone(finished, tmp_path, cache):
    """Classes and seeds in one program; seven of the eight cells in groups, one of them of two sizes."""
    status, _, err = run(SCRIPT, *TINY, "--together", "3", "--output", tmp_path / "together", cache=cache)
    assert status == 0, err
    for path in sorted((finished / "scores").iterdir()):
        alone, together = (np.load(folder / "scores" / path.name) for folder in (finished, tmp_path / "together"))
        np.testing.assert_allclose(together, alone, rtol=0.02)


@pytest.mark.slow
def test_all_known_anomalies_can_train(tmp_path, cache):
    flags = with_flag(with_flag(TINY, "--compare", "no-adcon"), "--classes", "0")
    status, _, err = run(SCRIPT, *flags, "--gammas", "all", "--output", tmp_path / "run", cache=cache)
    assert status == 0, err
    content = results(tmp_path / "run")
    sets = data.load_class_sets("digits", ["0"])
    held = data.labelled_one_class(sets.train, None, "0", anomaly_ratio=0.5, limit=60)
    others = (sets.train.labels != 0).sum() - held.valid.labels.sum() - held.test.labels.sum()
    assert {cell["train_anomalous"] for cell in content["cells"]} == {others}
    assert (content["groups"][0]["gamma"], content["headline"]) == ("all", "gamma all, 1 class(es)")


SMALL = {
    "classes": ("0", "1"), "limit": 60, "steps": 8, "batch_size": 8, "quiet": True,
    "agad": AGADConfig(generator="naive", width=0.05), "compare": ("freezebn",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 9}, "images are 9x9"),
        ({"batch_size": 2**30}, "1073741824 images of 8x8 take about 65,536 GiB to train on"),
        ({"image_size": 32768}, "8 images of 32768x32768 take about 8,192 GiB to train on, .*: give a smaller"),
        ({"classes": ("eleven",)}, "has no class 'eleven'"),
        ({"gammas": ()}, "--gammas is empty"),
        ({"gammas": (1.5,)}, "gamma 1.5 is outside"),
        ({"gammas": (0.0, 0.001)}, "is no anomaly: raise gamma or limit"),
        ({"gammas": (0.0, 0.0)}, "names something twice"),
        ({"gammas": (0.0,)}, "--compare freezebn has no meaning with gammas"),
        ({"compare": ("unknown",)}, "there is no variant 'unknown'"),
        ({"together": 0}, "--together is 0"),
        ({"steps": 0}, "--steps is 0"),
        ({"target_fpr": 0.0}, "--target-fpr is 0.0"),
        ({"anomaly_ratio": 1.0}, "--anomaly-ratio is 1.0"),
        ({"batch_size": 1}, "has no room for 1 anomalies"),
        ({"anomalies_per_batch": 8}, "has no room for 8 anomalies"),
        ({"anomalies_per_batch": 0}, "--anomalies-per-batch is 0"),
        ({"agad": AGADConfig(width=-1.0)}, "width is -1"),
        ({"agad": AGADConfig()}, "5 levels need multiples of 16"),
        ({"dataset": "uniform"}, "has no class '1'"),
        ({"test_folder": "/nowhere"}, "--test-folder is for --dataset folder:DIR"),
    ],
)
def test_nonsense_is_refused_in_one_line_before_anything_is_written(fields, message, tmp_path):
    config = experiment.Config(**SMALL | fields, output=str(tmp_path / "run"))
    with pytest.raises(ValueError, match=message) as error:
        experiment.run(config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_long_images_become_squares_that_can_be_afforded(tmp_path, rng):
    images = rng.integers(0, 256, (24, 3000, 20, 1), dtype=np.uint8)
    np.savez(tmp_path / "long.npz", images=images, labels=np.arange(24) // 18)
    sets = experiment.Config(dataset=f"npz:{tmp_path / 'long.npz'}", classes=("0",)).load_sets(0)
    assert sets.train.images.shape == (24, 64, 64, 1)


@pytest.mark.parametrize("length", [None, 0, 100, -1], ids=["gone", "empty", "torn", "cut"])
def test_scores_whose_file_is_missing_or_torn_are_computed_again(tmp_path, length):
    """With a detector that learns nothing in place of AGAD, whose training takes long."""
    sets = data.load_class_sets("digits", ["0"])
    task = data.labelled_one_class(sets.train, None, "0", anomaly_ratio=0.5, limit=60)
    cell = one_class.Cell("agad", 0.0, "0", 0)
    state = jax.jit(RECORDER.init)(jax.random.key(0), task.train.images / np.float32(255))
    kept = tmp_path / "checkpoint" / f"{cell.name}.safetensors"
    checkpoint.save(kept, state, metadata={"steps": [1, 2], "curves": {"loss": [0.5, 0.25]}})
    scores = tmp_path / "scores" / f"{cell.name}.npy"
    files.write_array(scores, score_images(RECORDER, state, task.test.images))
    whole = scores.read_bytes()
    scores.unlink() if length is None else scores.write_bytes(whole[:length])
    found = one_class.load_kept(tmp_path, cell, RECORDER, task)
    assert scores.read_bytes() == whole
    np.testing.assert_array_equal(found.scores, files.read_array(scores))
    np.testing.assert_array_equal(found.curves["loss"], [0.5, 0.25])


def test_nonsense_on_the_command_line_ends_at_once_in_one_line(cache, tmp_path):
    status, _, err = run(SCRIPT, *TINY, "--agad.width", "-1", "--output", tmp_path / "run", cache=cache)
    assert one_line(status, err, "width is -1")
    assert not (tmp_path / "run").exists()
    status, _, err = call(experiment.run, *TINY, "--resume", "/no/such/run")
    assert one_line(status, err, "/no/such/run")


def test_resume_refuses_changed_settings(finished):
    status, _, err = call(experiment.run, "--resume", finished, "--agad.width", "0.5")
    assert one_line(status, err, "agad.width")
