"""A run goes on with the program, the settings and the data that it was begun with, or says what differs."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from scripts import EXPERIMENTS, call, one_line

import jaxad
from jaxad import data
from jaxad.data.fingerprint import fingerprint
from jaxad.runs import runner, search
from jaxad.runs.cli import RunConfig
from jaxad.runs.folder import create_run, open_run
from jaxad.runs.search_config import SearchConfig

sys.path.append(str(EXPERIMENTS))
experiment = importlib.import_module("jaxad.runs.programs.train")
ama = importlib.import_module("ama_ood")
tables = importlib.import_module("tables")

FLAGS = ("--detector", "pca", "--normal-classes", "good", "--batch-size", "8")


class Killed(BaseException):
    """What a kill looks like from within."""


@pytest.fixture
def photos(tmp_path, rng):
    for name, count in (("good", 30), ("bad", 10)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(count):
            picture(tmp_path / "photos" / name / f"{i:03d}.png", rng)
    return tmp_path / "photos"


def picture(path, rng):
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)


@pytest.fixture
def begun(photos, tmp_path, monkeypatch):
    """A run that was killed when all was trained."""

    def kill(*args, **options):
        raise Killed

    monkeypatch.setattr(experiment, "keep", kill)
    with pytest.raises(Killed):
        call(experiment.run, *FLAGS, "--dataset", f"folder:{photos}", "--output", tmp_path / "run")
    monkeypatch.undo()
    return tmp_path / "run"


def test_resume_with_the_same_data_goes_on(begun):
    assert json.loads((begun / "config.json").read_text())["data"]["parts"]["train"] == "18 images 8x8x1 uint8"
    status, out, err = call(experiment.run, "--resume", begun)
    assert status == 0, err
    assert "before runs knew" not in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda good, rng: picture(good / "000a.png", rng), "1 image was added (good/000a.png)"),
        (lambda good, rng: (good / "001.png").unlink(), "1 image is gone (good/001.png)"),
        (lambda good, rng: picture(good / "002.png", rng), "1 image has other pixels (good/002.png)"),
        (lambda good, rng: (good / "003.png").rename(good.parent / "bad" / "x.png"), "has other labels"),
    ],
    ids=["added", "removed", "changed", "moved"],
)
def test_resume_with_other_data_is_refused(begun, photos, rng, change, message):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    change(photos / "good", rng)
    status, _, err = call(experiment.run, "--resume", begun)
    assert one_line(status, err, f"error: cannot resume {begun}: its data are others than when it was begun: ")
    assert message in err
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_moved_data_are_named_anew(begun, photos, tmp_path):
    photos.rename(tmp_path / "moved")
    flags = ("--resume", begun, "--dataset", f"folder:{tmp_path / 'moved'}")
    status, _, err = call(experiment.run, *flags)
    assert status == 0, err
    assert (begun / "results.json").exists()


def test_a_run_that_knows_no_data_says_so_and_keeps_its_place(begun, photos, tmp_path):
    stored = json.loads((begun / "config.json").read_text())
    del stored["data"]
    (begun / "config.json").write_text(json.dumps(stored))
    shutil.copytree(photos, tmp_path / "moved")
    status, _, err = call(experiment.run, "--resume", begun, "--dataset", f"folder:{tmp_path / 'moved'}")
    assert one_line(status, err, "dataset is ")
    status, out, err = call(experiment.run, "--resume", begun)
    assert status == 0, err
    assert "was begun before runs knew their data" in out


def test_without_the_file_that_knows_more_the_digest_still_counts(begun, photos, rng):
    (begun / "data.json").write_text("{")
    picture(photos / "good" / "000a.png", rng)
    status, _, err = call(experiment.run, "--resume", begun)
    assert one_line(status, err, "data.json, which knows more, cannot be read")


def test_a_search_in_python_knows_its_task_again(tmp_path):
    task, other = (
        data.load_task("digits", normal_classes=["0"], anomaly_ratio=0.3, limit=60, seed=seed) for seed in (0, 1)
    )
    with search._opened(task, SearchConfig(), tmp_path / "run", None):
        pass
    with pytest.raises(ValueError, match=r"its data are others .* images were added") as error:
        jaxad.search(other, resume=tmp_path / "run", quiet=True)
    assert "\n" not in str(error.value)
    with search._opened(task._replace(name="elsewhere"), SearchConfig(), None, tmp_path / "run") as run:
        assert run.data == fingerprint(task).summary()


def test_all_parts_of_a_grid_belong_to_the_run(tmp_path):
    sets = data.load_class_sets("digits", ["0"])
    config = RunConfig(output=str(tmp_path / "run"), quiet=True)
    with runner.session(config, "mine", data=sets) as folder:
        assert folder.data == fingerprint(sets).summary()
    changed = sets._replace(train=sets.train._replace(labels=sets.train.labels[::-1].copy()))
    again = RunConfig(resume=str(tmp_path / "run"), quiet=True)
    with pytest.raises(ValueError, match="other classes"), runner.session(again, "mine", data=changed):
        pass


def test_prepared_sets_may_lie_elsewhere_but_not_be_others(photos, tmp_path):
    """A set is then called the same, and only its images can say which it is."""
    flags = {"dataset": f"folder:{photos}", "quiet": True}
    config = experiment.Config(data_dir="here", output=str(tmp_path / "run"), **flags)
    with runner.session(config, "mine", data=(task := config.load())):
        pass
    again = experiment.Config(data_dir="there", resume=str(tmp_path / "run"), **flags)
    with runner.session(again, "mine", data=again.load()) as folder:
        assert folder.data == fingerprint(task).summary()
    negative = task._replace(train=task.train._replace(images=255 - task.train.images))
    said = "its data are others than when it was begun: 18 images have other pixels"
    with pytest.raises(ValueError, match=said), runner.session(again, "mine", data=negative):
        pass


def test_a_run_of_another_program_is_called_that_first(begun, tmp_path):
    status, _, err = call(ama.run, "--resume", begun)
    said = f"cannot resume {begun}: this is a run of jaxad train, not of python experiments/ama_ood.py"
    assert one_line(status, err, f"{said}; continue it with jaxad train --resume {begun}")
    create_run(tmp_path / "mine", {}, name="mine").close()
    with pytest.raises(ValueError, match="this is a run of mine, not of yours"):
        open_run(tmp_path / "mine", {"a": 1}, name="yours")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--preset", "smoke", "--preset", "paper"), "--preset is given 2 times"),
        (("--preset=smoke", "--preset", "smoke"), "--preset is given 2 times"),
        (("--resume", "a", "--resume", "b"), "--resume is given 2 times"),
        (("--settings", "steps=4", "--settings", "widths=[8]"), "--settings is given 2 times"),
        (("--normal_classes", "a", "--normal-classes", "b"), "--normal-classes is given 2 times"),
        (("--resume", ""), "--resume is empty"),
        (("--output=",), "--output is empty"),
        (("--cache-dir", ""), "--cache-dir is empty"),
        (("--resume", "a", "--output", "b"), "--output is b and --resume a"),
        (("--steps", "4", "--settings", "steps=9"), "steps and --steps are both given"),
        (("--features", "random", "--settings", "features.backbone=auto"), "features.backbone and --features are both"),
    ],
)
def test_flags_that_would_be_overruled_are_refused(flags, message):
    status, _, err = call(experiment.run, *flags)
    assert one_line(status, err, message)


def test_tables_take_a_list_of_tables_once():
    status, _, err = call(tables.run, "--tables", "ama-1", "--tables", "ama-2")
    assert one_line(status, err, "--tables is given 2 times, and only the last would count: give all its values after")


def test_a_preset_gives_way_to_what_is_written(monkeypatch):
    found = []
    monkeypatch.setattr(experiment, "run", found.append)
    monkeypatch.setattr(ama, "run", found.append)
    found.append.__self__.clear()

    def parsed(module, *flags):
        def run(config):
            found.append(config)

        run.__module__ = module.__name__
        assert call(run, *flags)[0] == 0
        return found.pop()

    svdd = ("--preset", "smoke", "--detector", "deep_svdd")
    assert parsed(experiment, *svdd).method().steps == 20
    assert parsed(experiment, *svdd, "--settings", "steps=7").method().steps == 7
    assert parsed(experiment, *svdd, "--steps", "7").method().steps == 7
    paper = parsed(ama, "--preset", "paper", "--ama.steps", "50")
    assert (paper.epochs, paper.ama.steps) == (None, 50)
    assert parsed(ama, "--preset", "paper").epochs == 100
    with pytest.raises(ValueError, match="steps is -5"):
        parsed(experiment, *svdd, "--settings", "steps=-5").check()


def test_a_run_may_be_resumed_where_it_is_written(begun):
    status, _, err = call(experiment.run, "--resume", begun, "--output", begun)
    assert status == 0, err
