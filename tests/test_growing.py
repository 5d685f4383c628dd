"""A search may be given more children: it then ends as one that had them from the beginning."""

import importlib
import json
import sys
import types

import numpy as np
import pytest
from scripts import EXPERIMENTS, call, one_line

from jaxad.runs.folder import create_run, open_run
from jaxad.runs.growing import grow

sys.path.append(str(EXPERIMENTS))
experiment = importlib.import_module("autoad_search")


def asked(children):
    return types.SimpleNamespace(children=children, is_command_line=True)


@pytest.fixture
def run(tmp_path):
    """A finished run of 4 children in 2 populations."""
    with create_run(tmp_path / "run", {"children": 4, "seed": 1}, name="autoad") as run:
        for step in (2, 4):
            run.checkpoints.save(step, {"n": step}, metadata={"stopped": None})
        (run.path / "results.json").write_text("{}")
        yield run


def test_a_finished_search_goes_back_to_where_its_last_population_began(run):
    grow(run, asked(6))
    assert run.checkpoints.latest({"n": 0}).step == 2
    assert not (run.path / "results.json").exists()
    assert (run.path / "results-4.json").exists()
    run.close()
    assert open_run(run.path, {"children": 6, "seed": 1}).config["children"] == 6


def test_a_search_that_is_under_way_goes_on(run):
    run.checkpoints.path(4).unlink()
    (run.path / "results.json").unlink()
    grow(run, asked(6))
    assert run.checkpoints.latest({"n": 0}).step == 2


@pytest.mark.parametrize("damage", [False, True])
def test_one_that_its_time_has_ended_goes_back_as_well(run, damage):
    run.checkpoints.save(3, {"n": 3}, metadata={"stopped": "time budget"})
    if damage:
        run.checkpoints.path(3).write_bytes(b"torn")
    grow(run, asked(6))
    assert run.checkpoints.steps() == [2]


def test_the_same_number_changes_nothing_and_fewer_are_refused(run):
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    grow(run, asked(4))
    with pytest.raises(ValueError, match=r"--children is 3, and .*run has 4: they can only grow"):
        grow(run, asked(3))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_search_with_more_children_ends_as_one_that_had_them_from_the_beginning(tmp_path):
    tiny = ("--dataset", "digits", "--limit", "60", "--num-layers", "1", "--population", "2", "--steps", "1", "--quiet")
    tiny += ("--retrain-steps", "2", "--rivals", "none", "--time-budget", "None")
    for name, children in (("all", 5), ("some", 3)):
        status, _, err = call(experiment.run, *tiny, "--children", children, "--output", tmp_path / name)
        assert status == 0, err
    status, _, err = call(experiment.run, "--resume", tmp_path / "some", "--children", "2")
    assert one_line(status, err, "they can only grow")
    status, _, err = call(experiment.run, "--resume", tmp_path / "some", "--children", "5")
    assert status == 0, err
    one, other = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("all", "some"))
    assert one["test"] == other["test"]
    assert one["best"] == other["best"]
    trials = [
        [
            (record["tokens"], record["reward"])
            for record in map(json.loads, (path / "trials.jsonl").read_text().splitlines())
        ]
        for path in (tmp_path / "all", tmp_path / "some")
    ]
    assert trials[0] == trials[1]
    assert np.isfinite(trials[0][0][1])
    assert (tmp_path / "some" / "results-3.json").exists()
