"""The AGAD benchmark measures what it says, with tiny networks."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
agad_step = importlib.import_module("agad_step")
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.slow
def test_it_measures_every_generator_in_turns_and_writes(tmp_path):
    size = {"batch-size": 8, "anomalies": 3, "image-size": 16, "channels": 1, "width": 0.02, "images": 40}
    size |= {"rounds": 2, "iterations": 2, "scores": 2, "json": tmp_path / "out.json"}
    flags = [f"--{name}={value}" for name, value in size.items()]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [
        sys.executable,
        BENCHMARKS / "agad_step.py",
        *flags,
        "--generators",
        "naive",
        "--methods",
        "ours",
        "torch",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    results = json.loads((tmp_path / "out.json").read_text())
    methods = ["ours", "torch"] if HAS_TORCH else ["ours"]
    assert list(results["methods"]["naive"]) == methods
    assert [turn["method"] for turn in results["turns"]] == methods + methods[::-1]
    for turn in results["turns"]:
        assert turn["images_per_second"] == pytest.approx(2 * 8 / turn["seconds"])
        assert np.isfinite(list(turn["info"].values())).all()
        assert turn["programs"] == 0
        assert turn["latency"] > 0
    assert ("torch" in results["errors"]["naive"]) != HAS_TORCH
    assert "8 images 16x16x1, 3 of them labelled anomalies" in done.stdout


def test_the_report_tells_ratios_and_warns():
    def turn(method, number, rate, **extra):
        record = {"generator": "unet", "round": number, "method": method, "images_per_second": rate, "peak_mib": 100.0}
        return record | {"programs": 0, "info": {"latent": 0.5}, "latency": 3.0} | extra

    about = {"method": "a library", "compile": 12.0, "programs": 3}
    results = {
        "settings": {
            "batch_size": 10, "image_size": 16, "channels": 1, "width": 0.25, "iterations": 2,
            "anomalies": 0, "rounds": 2,
        },
        "methods": {"unet": {"torch": about | {"programs": 0}, "ours": about}},
        "turns": [turn("ours", 0, 100.0), turn("torch", 0, 50.0), turn("torch", 1, 25.0), turn("ours", 1, 100.0)],
        "errors": {"unet": {"torch-channels-last": "exit status 1"}},
    }  # fmt: skip
    text = agad_step.report(results)
    assert "ours / torch, images/s: 3.00 (2.00 to 4.00)" in text
    rows = " ".join(text.split())
    assert "ours a library 100.0 100.0 100.0 100.0 3.00 12.0 100" in rows
    assert "torch a library 37.5 25.0 50.0 266.7 3.00 - 100" in rows
    assert "NOT MEASURED: torch-channels-last: exit status 1" in text
    assert "DIVERGED" not in text
    results["turns"].append(turn("ours", 2, 100.0, info={"latent": float("nan")}, programs=1))
    text = agad_step.report(results)
    assert "DIVERGED: ours in round 3" in text
    assert "COMPILED WHILE TIMED: ours in round 3" in text


@pytest.mark.parametrize("flags", ["--batch-size 0", "--images 20", "--rounds 0", "--anomalies 64"])
def test_it_refuses(flags, capsys):
    with pytest.raises(SystemExit):
        agad_step.arguments(flags.split())
    assert "error: --" in capsys.readouterr().err
