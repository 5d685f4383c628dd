"""What a score goes by: the benchmark that takes the score of a finished run apart."""

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import call
from sklearn.metrics import roc_auc_score

from jaxad.runs.programs import train

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
score_parts = importlib.import_module("score_parts")

LAYERS = '[{"channels":4,"kernel":3,"pool":"max","pool_kernel":3,"norm":"batch","activation":"tanh"}]'
ARCHITECTURE = f'{{"hypothesis":"centroid","distance":"l1","layers":{LAYERS}}}'


def trained(folder, *flags):
    """The folder of a run."""
    status, _, err = call(train.run, "--preset", "smoke", "--output", folder, "--quiet", *flags)
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of an autoencoder, whose distance is l1."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return trained(folder, "--detector", "autoencoder", "--settings", f"architecture={ARCHITECTURE}")


def test_parts_are_those_of_the_score_that_the_run_has_kept(finished, tmp_path):
    score_parts.main([str(finished), "--json", str(tmp_path / "parts.json")])
    (found,) = json.loads((tmp_path / "parts.json").read_text()).values()
    results = json.loads((finished / "results.json").read_text())
    assert found["score"] == pytest.approx(results["test"]["auroc"]["value"], abs=1e-6)

    loaded = score_parts.saving.load(finished / "best", trainable=False)
    task = train.Config(**score_parts.cli.stored_settings(train.Config, finished)).load()
    parts = score_parts.parts(loaded.config, loaded.state, task.test.images)
    with (finished / "predictions.csv").open() as file:
        kept = [float(row["score"]) for row in csv.DictReader(file) if row["part"] == "test"]
    np.testing.assert_allclose(parts["score"], kept, rtol=1e-4)
    brightness = (task.test.images / 255 if task.test.images.dtype == np.uint8 else task.test.images).mean((1, 2, 3))
    np.testing.assert_allclose(parts["zeros"], brightness, rtol=1e-5)
    np.testing.assert_allclose(parts["relative"], parts["distance"] / brightness, rtol=1e-4)
    for name, part in parts.items():
        assert found[name] == pytest.approx(roc_auc_score(task.test.labels, part), abs=1e-6), name
    assert not np.allclose(parts["distance"], parts["score"])  # the regulariser has a part in it


def test_other_runs_are_refused_in_a_line(tmp_path):
    with pytest.raises(SystemExit, match="holds a pca: give runs of an autoencoder"):
        score_parts.main([str(trained(tmp_path / "run", "--detector", "pca"))])
