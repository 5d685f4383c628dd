"""The experiment on refined maps, as a process."""

import importlib
import json
import sys

import pytest
import scripts
from scripts import one_line, run

sys.path.append(str(scripts.EXPERIMENTS))
experiment = importlib.import_module("refinement")

SCRIPT = "refinement.py"


@pytest.mark.slow  # half a minute; tests of detect.py refine the maps of photographs
def test_maps_are_refined_measured_and_drawn_without_any_weights(tmp_path, cache):
    folder = tmp_path / "run"
    status, out, err = run(SCRIPT, "--preset", "smoke", "--output", folder, cache=cache)
    assert status == 0, err
    assert "refined (Eq. 20)" in out
    content = json.loads((folder / "results.json").read_text())
    assert content["classifier"] == "random"
    assert any("random weights" in note for note in content["notes"])
    assert len(content["maps"]) == 4
    for measured in content["maps"].values():
        assert 0 <= measured["auroc"]["mean"] <= 1
        assert 0 <= measured["background"] <= 1
    page = (folder / "report.html").read_text()
    assert "Foreign things" in page
    status, out, _ = run(SCRIPT, "--resume", folder, cache=cache)
    assert status == 0
    assert "is finished" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--draws", "0"), "--draws is 0"),
        (("--side", "8"), "--side is 8; the least is 32"),
        (("--side", "100000"), "256 views of 100000x100000 pixels take at least 30.7 TB of memory"),
        (("--draws", str(10**9)), "1000000000 draws of 4 photographs of"),
    ],
)
def test_nonsense_ends_at_once_in_one_line(flags, message, tmp_path):
    status, _, err = scripts.call(experiment.run, *flags, "--output", tmp_path / "run")
    assert one_line(status, err, message)
    assert not (tmp_path / "run").exists()
