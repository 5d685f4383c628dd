"""The AMA experiment as a user meets it: a process with flags, killed and resumed, fed nonsense."""

import json
import random

import numpy as np
import pytest
from scripts import kill_once, killed_and_resumed, one_line, run, same_weights, start

from jaxad.detectors.saved import load_detector

SCRIPT = "ama_ood.py"
TINY = (
    *("--dataset", "digits", "--limit", "150", "--valid-anomalies", "10", "--batch-size", "10", "--looks", "3"),
    *("--ama.width", "0.03", "--ama.latent-dim", "6", "--ama.steps", "6", "--ama.critic-steps", "2"),
    *("--compare", "r-score"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs, shared by the processes of this module."""
    return tmp_path_factory.mktemp("cache")


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
    assert content["variants"].keys() == {"ama", "r-score"}
    assert content["variants"]["ama"]["validation"]["auroc"] == [content["test"]["auroc"]["value"]]
    parts = {row["part"]: row for row in content["task"]["parts"]}
    assert parts["valid"]["anomalous"] == 10
    assert parts["test"]["anomalous"] == round(0.2 * parts["test"]["normal"])
    page = (finished / "report.html").read_text()
    for title in ("R-scores", "Latent space", "Training", "Choice and comparison"):
        assert title in page
    assert "python experiments/ama_ood.py" in page
    assert len((finished / "predictions.csv").read_text().splitlines()) > 60


def test_the_saved_detector_is_the_tested_one(finished):
    loaded = load_detector(finished / "best")
    assert loaded.name == "ama"
    assert loaded.image_shape == (8, 8, 1)
    assert loaded.threshold.value == results(finished)["threshold"]["value"]
    images = finished.parent / "images.npz"
    np.savez(images, images=np.random.default_rng(0).random((5, 8, 8, 1), np.float32))
    status, out, err = run("detect.py", finished, images, cache=finished.parent / "cache")
    assert status == 0, err
    assert "5 images" in out


def test_killed_after_a_look_and_resumed_equals_uninterrupted(finished, tmp_path, cache):
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


def test_resuming_a_finished_run_changes_nothing(finished, cache):
    before = (finished / "results.json").read_bytes()
    status, out, _ = run(SCRIPT, "--resume", finished, cache=cache)
    assert status == 0
    assert "finished" in out
    assert (finished / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--image-size", "12"), "--image-size is 12"),
        (("--looks", "999"), "--looks is 999"),
        (("--batch-size", "0"), "--batch-size is 0"),
        (("--batch-size", "3"), "has no room for negatives"),
        (("--ama.width", "-1"), "width is -1"),
        (("--valid-anomalies", "99999"), "99999"),
        (("--resume", "/no/such/run"), "/no/such/run"),
    ],
)
def test_nonsense_ends_at_once_in_one_line(flags, message, cache, tmp_path):
    where = () if "--resume" in flags else ("--output", tmp_path / "run")
    status, _, err = run(SCRIPT, *TINY, *flags, *where, cache=cache)
    assert one_line(status, err, message)
    assert not (tmp_path / "run").exists()


def test_resume_refuses_changed_settings(finished, cache):
    status, _, err = run(SCRIPT, "--resume", finished, "--ama.width", "0.5", cache=cache)
    assert one_line(status, err, "ama.width")
