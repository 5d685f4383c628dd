"""The flags of a task: one set of them for all experiments."""

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxad import data
from jaxad.data import config as config_module
from jaxad.runs import cli
from jaxad.runs import folder as runs

sys.path.append(str(Path(__file__).parents[1] / "experiments"))
EXPERIMENTS = [importlib.import_module(name) for name in ("autoad_search", "compare_search")]


def test_the_contamination_depends_on_how_many_images_there_are(rng, tmp_path):
    images = rng.integers(0, 256, (200, 4, 4, 1), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(200) % 2)
    mine = {"dataset": f"npz:{tmp_path / 'mine.npz'}", "normal_classes": ("0",)}
    for changes, expected in [
        ({"dataset": "digits"}, 0.2),
        ({"dataset": "textures:64"}, 0.2),
        ({"dataset": "digits", "anomaly_ratio": 0.3}, 0.3),
        (mine, None),  # few enough that all serve
        (mine | {"anomaly_ratio": 0.4}, 0.4),
    ]:
        assert data.TaskConfig(**changes).load_task(0).details["anomaly_ratio"] == expected
    with pytest.raises(ValueError, match="no anomaly among"):
        data.TaskConfig(dataset="digits", anomaly_ratio=0).load_task(0)


def test_flags_reach_the_task():
    config = data.TaskConfig(
        dataset="digits", ood=("textures:8",), normal_classes=("3", "4"), image_size=6, limit=50, valid_anomalies=7
    )
    task = config.load_task(3)
    assert [(row.normal, row.anomalous) for row in data.describe(task)] == [(30, 0), (10, 7), (10, 2)]
    assert task.train.images.shape == (30, 6, 6, 1)
    assert task.details["seed"] == 3
    assert task.details["normal_classes"] == ["3", "4"]
    with pytest.raises(ValueError, match="digits has no part 'test'"):
        data.TaskConfig(dataset="digits", test_split="test").load_task(0)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda module: module.__name__)
def test_experiments_have_all_flags_with_help_and_resume_with_them(experiment, tmp_path, capsys, monkeypatch):
    names = [field.name for field in dataclasses.fields(data.TaskConfig)]
    assert [field.name for field in dataclasses.fields(experiment.Config)][: len(names)] == names
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        cli.main(experiment.run, experiment.Config, arguments=["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for words in (
        "--dataset STR",
        "Normal images, in one of the forms listed above",
        "painted:TEXTURE:SIZE: Crops",
        "Put exactly so many anomalies into validation",
        "--test-split",
    ):
        assert words in shown

    config = experiment.Config(dataset="fashion_mnist", ood=("mnist",), valid_anomalies=50, test_split="test")
    runs.create_run(tmp_path / "run", config, name="x").close()
    found = []

    def run(config):
        found.append(config)

    with pytest.raises(SystemExit):
        cli.main(run, experiment.Config, arguments=["--resume", str(tmp_path / "run")])
    assert dataclasses.replace(found[0], resume=None) == config
    with runs.open_run(tmp_path / "run", found[0], may_differ=sys.modules[experiment.Config.__module__].MAY_DIFFER):
        pass
    changed = dataclasses.replace(found[0], valid_anomalies=51)
    with pytest.raises(ValueError, match="valid_anomalies is 50 in the run but 51 was asked for"):
        runs.open_run(tmp_path / "run", changed, may_differ=sys.modules[experiment.Config.__module__].MAY_DIFFER)


def test_files_are_read_up_to_a_limit_and_other_sets_whole(tmp_path, monkeypatch, rng):
    from PIL import Image

    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (10, 10), np.uint8)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(config_module, "MOST_FILES", 8)
    task = data.TaskConfig(dataset=f"folder:{tmp_path}").load_task(0)
    assert sum(int((part.labels == 0).sum()) for part in data.parts(task).values()) == 8
    assert "at most 8 normal images are used (--limit)" in data.table(task)
    whole = data.TaskConfig(dataset=f"folder:{tmp_path}", limit=20).load_task(0)
    assert sum(int((part.labels == 0).sum()) for part in data.parts(whole).values()) == 12
    assert "--limit" not in data.table(whole)
    digits = data.TaskConfig(dataset="digits").load_task(0)
    assert len(digits.train.labels) > 8
