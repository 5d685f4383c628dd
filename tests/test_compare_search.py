"""The comparison as a user meets it: a folder with a verdict, the same however often it was stopped."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxad.nas.analysis.contenders import SPACES
from jaxad.nas.analysis.tabular import Table, write_table
from jaxad.nas.strategies.autoad import AutoADConfig
from jaxad.runs.grid import Records

SCRIPT = Path(__file__).parents[1] / "experiments" / "compare_search.py"
sys.path.append(str(SCRIPT.parent))
compare_search = importlib.import_module("compare_search")
TINY = (
    *("--space", "tiny", "--limit", "150", "--steps", "2", "--batch-size", "16"),
    *("--num-seeds", "4", "--children", "10", "--controller.units", "6"),
)


def run(*flags):
    command = [sys.executable, str(SCRIPT), *map(str, flags)]
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


METHODS = {"autoad", "no-curiosity", "no-replay", "no-sharpening", "plain-lstm", "paper", "random", "evolution"}


def results_of(ended, folder):
    assert ended.returncode == 0, ended.stderr
    results = json.loads((folder / "results.json").read_text())
    assert {c["verdict"] for c in results["comparisons"]} <= {"better", "worse", "no evidence"}
    assert "</html>" in (folder / "report.html").read_text()
    return results


@pytest.mark.slow
def test_a_table_is_searched_and_goes_on_where_it_was_stopped(tmp_path):
    whole = tmp_path / "whole"
    results = results_of(run(*TINY, "--output", whole), whole)
    assert set(results["outcomes"]["best reward of a search"]) == METHODS
    assert all(c["seeds"] == 4 for c in results["comparisons"])
    lines = (whole / "trials.jsonl").read_text().splitlines()
    assert len(lines) == results["functions"]

    # Another comparison searches the same rewards without training anything.
    again = tmp_path / "again"
    seeds = ("--num-seeds", "4", "--children", "10", "--controller.units", "6")
    found = results_of(run("--table", whole / "table.json", *seeds, "--output", again), again)
    assert found["outcomes"] == results["outcomes"]
    assert found["functions"] == results["functions"]
    assert (again / "table.json").read_bytes() == (whole / "table.json").read_bytes()
    assert not (again / "trials.jsonl").exists()

    # Stopped after ten children of the table, and after one strategy.
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_bytes((whole / "config.json").read_bytes())
    (half / "trials.jsonl").write_text("\n".join(lines[:10]) + "\n")
    (half / "cells.jsonl").write_text((whole / "cells.jsonl").read_text().splitlines()[0] + "\n")
    results_of(run("--resume", half), half)
    assert dict(Records(half / "cells.jsonl")) == dict(Records(whole / "cells.jsonl"))
    assert set(Records(half / "cells.jsonl")) == METHODS


@pytest.mark.slow
def test_real_searches_are_compared_and_go_on_where_they_were_stopped(tmp_path):
    whole = tmp_path / "whole"
    flags = ("--mode", "search", *TINY, "--num-seeds", "2", "--correlate", "1", "--retrain-steps", "3", "--jobs", "2")
    results = results_of(run(*flags, "--output", whole), whole)
    for what in ("children", "seconds"):
        assert set(results["outcomes"][f"test AUROC after equal {what}"]) == METHODS | {"random-from-scratch"}
    assert set(results["outcomes"]["best reward of a search"]) == METHODS
    assert results["shared against from scratch"]["children"] == 10
    expected = Records(whole / "cells.jsonl")
    assert len(expected) == 2 * (len(METHODS) + 1 + 1)

    half, again = tmp_path / "half", ("0-autoad", "1-random-from-scratch")
    half.mkdir()
    (half / "config.json").write_bytes((whole / "config.json").read_bytes())
    lines = (whole / "cells.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["cell"] not in again]
    (half / "cells.jsonl").write_text("\n".join(kept) + "\n")
    results_of(run("--resume", half), half)
    found = Records(half / "cells.jsonl")
    assert found.keys() == expected.keys()
    for name in again:
        for field in ("tokens", "rewards"):
            assert found[name][field] == expected[name][field]  # and seconds of their own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"children": 7}, "--children is 7; give a multiple of --population 5"),
        ({"num_seeds": 1}, "--num-seeds is 1; a comparison needs at least 2"),
        ({"retrain_steps": 0}, "--retrain-steps is 0; the least is 1"),
        ({"correlate": 101}, "--correlate is 101; give a number from 0 to --num-seeds 100"),
        ({"space": "medium"}, "--space medium is too large for a table"),
        ({"without": ("random",)}, "--without random: choose among no-curiosity"),
        ({"controller": AutoADConfig(curiosity=-1)}, "curiosity is -1"),
        ({"table": "nowhere.json"}, "cannot read nowhere.json: No such file"),
        ({"table": "nowhere.json", "mode": "search"}, "--table is for --mode table"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_search.run(compare_search.Config(output=str(tmp_path / "none"), **changes))
    assert not (tmp_path / "none").exists()


def test_a_table_of_another_space_is_refused(tmp_path):
    space = SPACES["tiny"]
    write_table(tmp_path / "table.json", Table(space, np.zeros(space.cardinality, np.float32), {}))
    with pytest.raises(ValueError, match="is not of --space two-layer; leave --space out"):
        compare_search.Config(table=str(tmp_path / "table.json"), space="two-layer").check()


def test_there_are_no_images_to_check_beside_a_table(tmp_path):
    config = compare_search.Config(table=str(tmp_path / "table.json"), check_data=True)
    with pytest.raises(ValueError, match=r"--check-data looks at images, and --table .*table\.json has none"):
        config.checked()


def test_nonsense_ends_in_one_line():
    ended = run(*TINY, "--children", "7")
    assert ended.returncode == 2
    assert "--children is 7" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
