"""The segmentation experiment as a user meets it: a run with all its files, killed and continued, bad input."""

import csv
import importlib
import json
import sys

import numpy as np
import pytest
import scripts
from PIL import Image
from scripts import kill_once, one_line, run, same_weights, start

sys.path.append(str(scripts.EXPERIMENTS))
experiment = importlib.import_module("nbs_segmentation")

SCRIPT = "nbs_segmentation.py"
SMOKE = ("--preset", "smoke", "--quiet")
SAMPLED = (*SMOKE, "--methods", "nbs", "unet", "--num-seeds", "2")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A run of the learned sampler and the U-Net that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, _, err = run(SCRIPT, *SAMPLED, "--output", folder, cache=cache)
    assert status == 0, err
    return folder


def check_folder(folder, methods, seeds):
    results = json.loads((folder / "results.json").read_text())
    for name in ("f1", "precision", "recall", "iou", "pixel_auroc", "au_pro"):
        entry = results["segmentation"][name]
        assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1
    assert [row["method"] for row in results["comparison"]] == methods
    assert [(one["method"], one["seed"]) for one in results["trainings"]] == [(m, s) for m in methods for s in seeds]
    count = results["task"]["images"]["test"]
    masks = sorted((folder / "masks").glob("*.png"))
    assert len(masks) == count
    assert np.asarray(Image.open(masks[0])).shape == (32, 32)
    assert len(list((folder / "overlays").glob("*.png"))) == min(8, count)
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert len(rows) == count * len(methods) * len(seeds)
    # The pooled F1 follows from the table of images.
    for one in results["trainings"]:
        mine = [row for row in rows if (row["method"], int(row["seed"])) == (one["method"], one["seed"])]
        both, predicted, true = (sum(int(row[n]) for row in mine) for n in ("both", "predicted", "anomalous"))
        assert one["test"]["f1"]["value"] == pytest.approx(2 * both / (predicted + true))
        assert one["readings"][one["reading"]]["f1"] == one["test"]["f1"]["value"]
    report = (folder / "report.html").read_text()
    assert all(title in report for title in ("Comparison", "Masks", "From maps to masks", "All figures"))
    return report


def test_a_run_leaves_everything_and_a_detector(cache, tmp_path):
    folder = tmp_path / "l2"
    status, _, err = run(SCRIPT, *SMOKE, "--methods", "l2", "--setting", "inductive", "--output", folder, cache=cache)
    assert status == 0, err
    report = check_folder(folder, ["l2"], [0])
    assert "Where the sampler goes" not in report
    pictures = sorted((folder / "masks").glob("*.png"))  # beside arrays of all masks, which are no images
    status, out, err = run("detect.py", folder, *pictures, "--overlays", 1, cache=cache)
    assert status == 0, err
    assert "images are anomalous" in out


@pytest.mark.slow
def test_a_run_of_the_sampler_leaves_everything_and_a_detector(whole, cache):
    report = check_folder(whole, ["nbs", "unet"], [0, 1])
    assert all(title in report for title in ("Where the sampler goes", "Loss profiles"))
    status, _, err = run("detect.py", whole, *(whole / "masks").glob("*.png"), "--overlays", 1, cache=cache)
    assert status == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["checkpoint/nbs-seed0.safetensors", "best/detector.json"])
def test_a_killed_run_goes_on_as_if_it_never_stopped(whole, cache, tmp_path, moment):
    folder = tmp_path / f"killed-{moment.partition('/')[0]}"
    process = start(SCRIPT, *SAMPLED, "--output", folder, cache=cache)
    kill_once(process, (folder / moment).exists)
    assert not (folder / "results.json").exists()
    status, _, err = run(SCRIPT, "--resume", folder, "--quiet", cache=cache)
    assert status == 0, err
    assert (folder / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    for name in ("best/weights.safetensors", "checkpoint/nbs-seed1.safetensors"):
        assert same_weights(folder / name, whole / name)
    one, other = (json.loads((path / "results.json").read_text()) for path in (whole, folder))
    assert one["segmentation"] == other["segmentation"]
    assert one["comparison"] == other["comparison"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--labelled", "30"), "too few for 30 labelled"),
        (("--nbs.environment.patch", "24", "--nbs.environment.window", "32"), "no whole number of patches of 24"),
    ],
)
def test_bad_input_ends_in_one_line_and_no_folder(flags, message, tmp_path):
    status, _, err = scripts.call(experiment.run, *SMOKE, *flags, "--output", tmp_path / "out")
    assert one_line(status, err, message)
    assert not (tmp_path / "out").exists()
