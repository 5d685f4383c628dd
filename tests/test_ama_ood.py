"""The AMA experiment as a user meets it: a process with flags, killed and resumed, fed nonsense."""

import dataclasses
import importlib
import json
import random
import sys
import types

import jax
import numpy as np
import pytest
from scripts import EXPERIMENTS, call, kill_once, killed_and_resumed, one_line, run, same_weights, start, with_flag

from jaxad._utils import validate
from jaxad.methods.ama import AMAConfig, ama
from jaxad.runs import saving, variants

sys.path.append(str(EXPERIMENTS))
detect = importlib.import_module("detect")
experiment = importlib.import_module("ama_ood")

SCRIPT = "ama_ood.py"
TINY = (
    *("--dataset", "digits", "--limit", "150", "--valid-anomalies", "10", "--batch-size", "10", "--checkpoints", "3"),
    *("--ama.width", "0.03", "--ama.latent-dim", "6", "--ama.steps", "6", "--ama.critic-steps", "2"),
    *("--compare", "--num-seeds", "2"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = run(SCRIPT, *TINY, "--output", folder, cache=cache)
    assert status == 0, err
    assert "auroc" in out
    return folder


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    del content["training"]["seconds"]
    return content


def assert_same_run(one, other):
    assert results(one) == results(other)
    for part in ("best/weights.safetensors", "checkpoint/ama.safetensors"):
        assert same_weights(one / part, other / part)


def test_a_run_leaves_everything_a_person_wants(finished):
    content = results(finished)
    assert {"task", "method", "seed", "training", "test", "test_by_choice", "variants", "versions"} <= content.keys()
    for test in (content["test"], *content["test_by_choice"].values()):
        for metric in ("auroc", "aupr_in", "aupr_out", "fpr95"):
            assert 0 <= test[metric]["low"] <= test[metric]["value"] <= test[metric]["high"] <= 1
    scores = ["ama", "r-score", "robust-score", "one-sided-score", "l1-score"]  # the paper's first
    assert list(content["variants"]) == scores
    assert not (finished / "checkpoint" / "l1-score.safetensors").exists()  # of the same training
    by_score = content["variants"]
    assert by_score["one-sided-score"]["last"]["auroc"] == pytest.approx(by_score["r-score"]["last"]["auroc"])
    # By validation the seed that it likes most, without labels the first: the last step of any other would be a choice.
    seeds = {"validation": int(np.max(content["training"]["evals"], axis=1).argmax()), "last": 0}
    assert content["chosen_seed"] == seeds["validation"]
    for chosen, seed in seeds.items():
        tested = content["variants"]["ama"][chosen]["auroc"]
        assert content["test_by_choice"][chosen]["auroc"]["value"] == pytest.approx(tested[seed])
    assert content["test"] == content["test_by_choice"]["validation"]
    assert any("the best of 2 training seeds is tested, without labels the first" in note for note in content["notes"])
    assert any("6 steps of 10 images are 0." in note for note in content["notes"])
    parts = {row["part"]: row for row in content["task"]["parts"]}
    assert parts["valid"]["anomalous"] == 10
    assert parts["test"]["anomalous"] == round(0.2 * parts["test"]["normal"])
    page = (finished / "report.html").read_text()
    for title in ("R-scores", "Latent space", "Training", "Choice and comparison"):
        assert title in page
    assert "python experiments/ama_ood.py" in page
    assert len((finished / "predictions.csv").read_text().splitlines()) > 60


@pytest.mark.slow
def test_variants_train_beside_it_and_are_shown(tmp_path, cache):
    flags = with_flag(TINY, "--compare", "no-mirror", "no-interpolation", "sipple", "normal-pairs")
    status, _, err = run(SCRIPT, *flags, "--output", tmp_path / "run", cache=cache)
    assert status == 0, err
    assert results(tmp_path / "run")["variants"].keys() >= {
        "ama",
        "no-mirror",
        "no-interpolation",
        "sipple",
        "normal-pairs",
    }
    assert "without mirror" in (tmp_path / "run" / "report.html").read_text()


def test_the_saved_detector_is_the_tested_one(finished):
    loaded = saving.load(finished / "best")
    assert loaded.name == "ama"
    assert loaded.image_shape == (8, 8, 1)
    assert loaded.threshold.value == results(finished)["threshold"]["value"]
    images = finished.parent / "images.npz"
    np.savez(images, images=np.random.default_rng(0).random((5, 8, 8, 1), np.float32))
    status, out, err = call(detect.detect, finished, images)
    assert status == 0, err
    assert "5 images" in out


@pytest.mark.slow
def test_killed_after_a_checkpoint_and_resumed_equals_uninterrupted(finished, tmp_path, cache):
    folder = tmp_path / "killed"
    process = start(SCRIPT, *TINY, "--output", folder, cache=cache)
    kill_once(process, lambda: (folder / "checkpoint" / "ama.safetensors").exists())
    assert not (folder / "results.json").exists()
    status, _, err = run(SCRIPT, "--resume", folder, cache=cache)
    assert status == 0, err
    assert_same_run(folder, finished)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_and_resumed_equals_uninterrupted(finished, tmp_path, cache, seed):
    moments = random.Random(seed)
    killed_and_resumed(SCRIPT, TINY, tmp_path / "killed", [moments.uniform(5, 40) for _ in range(3)], cache=cache)
    assert_same_run(tmp_path / "killed", finished)


def test_resuming_a_finished_run_changes_nothing(finished):
    before = (finished / "results.json").read_bytes()
    status, out, _ = call(experiment.run, "--resume", finished)
    assert status == 0
    assert "finished" in out
    assert (finished / "results.json").read_bytes() == before


def test_epochs_and_checkpoints_of_the_paper():
    """100 epochs, 30 to 90 of them with a lower rate, and a look after each from the 21st on (facts of section 4.1)."""
    config = experiment.Config(**experiment.PRESETS["paper"]).scheduled(2560)
    assert (config.ama.steps, config.epochs) == (1000, None)
    assert config.evals() == tuple(range(210, 1001, 10))
    even = dataclasses.replace(config, first_checkpoint=None, checkpoints=4)
    assert even.evals() == (250, 500, 750, 1000)
    assert dataclasses.replace(even, checkpoints=1).evals() == (1000,)


def test_padding_starts_from_the_images_as_they_are():
    config = experiment.Config(dataset="digits", image_size=16, fit="pad", limit=300, valid_anomalies=10)
    task = config.load()
    assert task.details["fitted_from"] == [8, 8, "pad"]
    assert not task.train.images[:, :4].any()
    shrunk = experiment.Config(dataset="textures:20", image_size=16, fit="pad", valid_anomalies=10).load()
    assert shrunk.train.images.shape[1:] == (16, 16, 1)
    assert shrunk.train.images[:, :2].any()


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"dataset": "digits"}, 8),
        ({"dataset": "textures:20"}, 32),
        ({"dataset": "textures:100"}, 64),
        ({"dataset": "textures:100", "auto_side": 32}, 32),
        ({"dataset": "textures:100", "image_size": None}, 128),
        ({"dataset": "textures:100", "image_size": 16, "fit": "crop"}, 16),
    ],
)
def test_images_get_a_side_that_the_networks_take(fields, side):
    """The least that holds them, of large ones one that can be afforded, unless somebody says another."""
    task = experiment.Config(valid_anomalies=5, limit=30, **fields).load()
    assert task.train.images.shape[1:3] == (side, side)
    if "100" in fields["dataset"]:
        assert task.details["fitted_from"][:2] == [100, 100]


def test_long_images_become_squares_that_can_be_afforded_or_are_refused(monkeypatch, tmp_path, rng):
    images = rng.integers(0, 256, (24, 3000, 20, 1), dtype=np.uint8)
    np.savez(tmp_path / "long.npz", images=images, labels=np.arange(24) // 18)
    config = experiment.Config(dataset=f"npz:{tmp_path / 'long.npz'}", normal_classes=("0",), valid_anomalies=2)
    assert config.load().train.images.shape[1:] == (64, 64, 1)
    monkeypatch.setattr(validate, "_memory", lambda: 24 * 2**30)
    said = "batches of 32 images of 4096x4096 take about 512 GiB to train on, and this machine has 24: give a smaller"
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(config, image_size=None).load()


def test_known_anomalies_reach_the_training_and_not_the_calibration(monkeypatch, tmp_path):
    """Of every variant: labels for `fit`, normal images for the last state; validation keeps the other anomalies."""
    task = experiment.Config(**SMALL | {"labelled": 4}).load()
    assert (task.train.labels.sum(), task.valid.labels.sum()) == (4, 6)
    given = {}

    def fit_selected_saved(detector, keys, train, valid, labels, **options):
        given.update(options, train=train)
        return types.SimpleNamespace(values=np.ones((1, 1)), best="best", state="last"), 0.0, np.zeros(1), {}

    def calibrate_population(detector, states, images):
        given["calibrated"] = images
        return states

    monkeypatch.setattr(variants, "fit_selected_saved", fit_selected_saved)
    monkeypatch.setattr(variants, "calibrate_population", calibrate_population)
    options = {
        "key": jax.random.key(0),
        "num_seeds": 1,
        "evals": (2,),
        "batch_size": 10,
        "folder": tmp_path,
        "quiet": True,
    }
    variants.train_variants(task, {"ama": SMALL["ama"]}, ama, **options)
    np.testing.assert_array_equal(given["train_labels"], task.train.labels)
    assert given["anomalies_per_batch"] is None  # they come as they are
    assert len(given["train"]) == len(given["calibrated"]) + 4


@pytest.mark.slow
def test_known_anomalies_train_and_the_rest_of_validation_chooses(tmp_path):
    """Semi-supervised AMA, with negatives that are compared and therefore begin at once."""
    fields = SMALL | {"labelled": 4, "compare": ("no-negatives",), "checkpoints": 1, "ama": TINIEST}
    experiment.run(experiment.Config(**fields, output=str(tmp_path / "run")))
    content = results(tmp_path / "run")
    parts = {row["part"]: row["anomalous"] for row in content["task"]["parts"]}
    assert (parts["train"], parts["valid"]) == (4, 6)
    assert any("Negatives begin at once" in note for note in content["notes"])
    assert "no-negatives" in content["variants"]
    assert saving.load(tmp_path / "run" / "best").config.negative_start == 0


TINIEST = AMAConfig(width=0.03, latent_dim=4, steps=2, critic_steps=1)
SMALL = {
    "dataset": "digits", "limit": 150, "valid_anomalies": 10, "batch_size": 10, "checkpoints": 3, "compare": (),
    "ama": AMAConfig(width=0.03, latent_dim=6, steps=6), "quiet": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 12}, "--image-size is 12"),
        ({"image_size": 32768}, "10 images of 32768x32768 take about 10,240 GiB to train on, .*: give a smaller"),
        ({"checkpoints": 999}, "--checkpoints is 999"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"batch_size": 3}, "ama: a batch of 3 has no room for negatives"),
        (
            {"ama": AMAConfig(negatives="none"), "batch_size": 3, "compare": ("sipple",)},
            "sipple: a batch of 3 has no room",
        ),
        ({"first_checkpoint": 1.5}, "--first-checkpoint is 1.5"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": 1, "checkpoints": 50}, "--checkpoints is 50"),
        ({"ama": AMAConfig(width=-1.0)}, "width is -1"),
        ({"ama": AMAConfig(steps=0)}, "steps is 0"),
        ({"compare": ("mirror",)}, "there is no variant 'mirror'"),
        ({"valid_anomalies": 99999}, "99999"),
    ],
)
def test_nonsense_is_refused_in_one_line_before_anything_is_written(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        experiment.run(experiment.Config(**SMALL | fields, output=str(tmp_path / "run")))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_nonsense_on_the_command_line_ends_at_once_in_one_line(cache, tmp_path):
    status, _, err = run(SCRIPT, *TINY, "--ama.width", "-1", "--output", tmp_path / "run", cache=cache)
    assert one_line(status, err, "width is -1")
    assert not (tmp_path / "run").exists()
    status, _, err = call(experiment.run, *TINY, "--resume", "/no/such/run")
    assert one_line(status, err, "/no/such/run")


def test_resume_refuses_changed_settings(finished):
    status, _, err = call(experiment.run, "--resume", finished, "--ama.width", "0.5")
    assert one_line(status, err, "ama.width")
