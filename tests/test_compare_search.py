"""The comparison as a user meets it: a folder with a verdict, the same however often it was stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "compare_search.py"
TINY = (
    *("--space", "tiny", "--limit", "150", "--steps", "2", "--batch-size", "16"),
    *("--seeds", "4", "--children", "10", "--controller.units", "6"),
)


def run(*flags):
    command = [sys.executable, str(SCRIPT), *map(str, flags)]
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_a_comparison_is_complete_and_goes_on_where_it_was_stopped(tmp_path):
    whole = run(*TINY, "--output", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    methods = {"autoad", "no-curiosity", "no-replay", "no-sharpening", "plain-lstm", "paper", "random", "evolution"}
    assert set(results["best"]) == methods
    assert {c["verdict"] for c in results["comparisons"]} <= {"better", "worse", "no evidence"}
    assert all(c["seeds"] == 4 for c in results["comparisons"])
    lines = (tmp_path / "whole" / "trials.jsonl").read_text().splitlines()
    assert len(lines) == results["functions"]

    # Stopped after ten children of the table, and after one strategy.
    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.json", "random.npy"):
        (half / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (half / "trials.jsonl").write_text("\n".join(lines[:10]) + "\n")
    again = run("--resume", half)
    assert again.returncode == 0, again.stderr
    for name in methods:
        np.testing.assert_array_equal(np.load(half / f"{name}.npy"), np.load(tmp_path / "whole" / f"{name}.npy"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--children", "7"), "--children is 7; give a multiple of --population 5"),
        (("--seeds", "0"), "--seeds is 0; the least is 1"),
        (("--controller.curiosity", "-1"), "curiosity is -1"),
    ],
)
def test_nonsense_ends_at_once_in_one_line(flags, message, tmp_path):
    ended = run(*TINY, *flags, "--output", tmp_path / "none")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()
