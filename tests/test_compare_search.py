"""The comparison as a user meets it: a folder with a verdict, the same however often it was stopped."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxad.nas.strategies.autoad import AutoADConfig

SCRIPT = Path(__file__).parents[1] / "experiments" / "compare_search.py"
sys.path.append(str(SCRIPT.parent))
compare_search = importlib.import_module("compare_search")
TINY = (
    *("--space", "tiny", "--limit", "150", "--steps", "2", "--batch-size", "16"),
    *("--seeds", "4", "--children", "10", "--controller.units", "6"),
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

    # Stopped after ten children of the table, and after one strategy.
    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.json", "random.npy"):
        (half / name).write_bytes((whole / name).read_bytes())
    (half / "trials.jsonl").write_text("\n".join(lines[:10]) + "\n")
    results_of(run("--resume", half), half)
    for name in METHODS:
        np.testing.assert_array_equal(np.load(half / f"{name}.npy"), np.load(whole / f"{name}.npy"))


@pytest.mark.slow
def test_real_searches_are_compared_and_go_on_where_they_were_stopped(tmp_path):
    whole = tmp_path / "whole"
    flags = ("--mode", "search", *TINY, "--seeds", "2", "--correlate", "1", "--retrain-steps", "3", "--jobs", "2")
    results = results_of(run(*flags, "--output", whole), whole)
    for what in ("children", "seconds"):
        assert set(results["outcomes"][f"test AUROC after equal {what}"]) == METHODS | {"random-from-scratch"}
    assert set(results["outcomes"]["best reward of a search"]) == METHODS
    assert results["shared against from scratch"]["children"] == 10
    assert len(list((whole / "cells").iterdir())) == 2 * (len(METHODS) + 1 + 1)

    half = tmp_path / "half"
    shutil.copytree(whole, half)
    for name in ("results.json", "report.html", "cells/0-autoad.json", "cells/1-random-from-scratch.json"):
        (half / name).unlink()
    results_of(run("--resume", half), half)
    for name in ("0-autoad", "1-random-from-scratch"):
        a, b = (json.loads((folder / "cells" / f"{name}.json").read_text()) for folder in (whole, half))
        assert (a["tokens"], a["rewards"]) == (b["tokens"], b["rewards"])  # and seconds of their own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"children": 7}, "--children is 7; give a multiple of --population 5"),
        ({"seeds": 1}, "--seeds is 1; a comparison needs at least 2"),
        ({"retrain_steps": 0}, "--retrain-steps is 0; the least is 1"),
        ({"correlate": 101}, "--correlate is 101; give a number from 0 to --seeds 100"),
        ({"space": "medium"}, "--space medium is too large for a table"),
        ({"without": ("random",)}, "--without random: choose among no-curiosity"),
        ({"controller": AutoADConfig(curiosity=-1)}, "curiosity is -1"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_search.run(compare_search.Config(output=str(tmp_path / "none"), **changes))
    assert not (tmp_path / "none").exists()


def test_nonsense_ends_in_one_line():
    ended = run(*TINY, "--children", "7")
    assert ended.returncode == 2
    assert "--children is 7" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
