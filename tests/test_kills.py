"""What the benchmark of kills compares, and that it sees a difference; the kills themselves are run by hand."""

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
kills = importlib.import_module("kills")


@pytest.fixture
def run(tmp_path):
    """Makes what a run leaves."""

    def make(name, seconds, auroc, weights=b"w"):
        folder = tmp_path / name
        (folder / "best").mkdir(parents=True)
        cells = [{"cell": "a", "seconds": seconds, "auroc": 0.1}, {"cell": "a", "seconds": 1, "auroc": auroc}]
        (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
        (folder / "results.json").write_text(json.dumps({"test": {"auroc": auroc}, "training_seconds": seconds}))
        (folder / "best" / "weights.safetensors").write_bytes(weights)
        (folder / "log.txt").write_text(str(seconds))
        return folder

    return make


def test_times_do_not_count_and_all_else_does(run, capsys):
    first, later, other = run("one", 1.0, 0.5), run("two", 2.0, 0.5), run("three", 1.0, 0.6, b"v")
    expected = kills.left_by(first)
    assert set(expected) == {"cells.jsonl", "results.json", "best/weights.safetensors"}
    assert kills.same(expected, kills.left_by(later), later)
    assert not kills.same(expected, kills.left_by(other), other)
    said = capsys.readouterr().out
    assert "differs in results.json.test.auroc: 0.5 and 0.6" in said
    assert "differs in best/weights.safetensors" in said
    (later / "best" / "weights.safetensors").unlink()
    assert not kills.same(expected, kills.left_by(later), later)


def test_every_session_but_the_last_may_be_killed(monkeypatch, run):
    told = []

    def session(name, folder, moment):
        told.append(moment)
        if not folder.exists():
            run(str(folder), 1.0, 0.5)
        return None if moment is not None and len(told) % 3 else 0

    monkeypatch.setattr(kills, "session", session)
    done, runs, differ, errors, _ = kills.kill("ama", 3, run("x", 1, 0).parent / "all", kills.np.random.default_rng(0))
    assert (done, differ, errors) == (3, 0, 0)
    assert runs >= 1
    assert told[0] is None
