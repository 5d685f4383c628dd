"""The comparison with other libraries runs, and its sides agree where they do the same."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
peers = importlib.import_module("peers")

SAME = {
    "jaxad nearest_neighbours": "sklearn nearest neighbours",
    "jaxad pca": "sklearn pca",
    "jaxad one_class_svm": "sklearn one-class SVM",
}


def test_sides_that_do_the_same_agree(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(peers, "enable_compilation_cache", lambda: None)
    where = tmp_path / "peers.json"
    methods = [*SAME, *SAME.values()]
    peers.main(["--dataset", "digits", "--classes", "3", "--tests", "300", "--json", str(where), "--methods", *methods])
    content = json.loads(where.read_text())
    values = {record["method"]: record["auroc"] for record in content["results"]}
    for ours, theirs in SAME.items():
        assert values[ours] == pytest.approx(values[theirs], abs=2e-3)
        assert 0.8 < values[ours] <= 1
    printed = capsys.readouterr().out
    assert "score images/s" in printed
    assert all(method in printed for method in methods)


def test_scores_by_the_call_are_marked():
    tests = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)

    def brightness(images):
        return peers.rows(images).mean(1)

    def rank(images):  # as ECOD, by how many of the call are darker
        return np.argsort(np.argsort(brightness(images))) / len(images)

    assert [peers.by_itself(score, tests, score(tests)) for score in (brightness, rank)] == [True, False]
    records = [{"method": "rank", "class": 0, "auroc": 0.5, "fit_seconds": 1.0, "images_per_second": 2.0}]
    assert "by the call" not in peers.report({"results": [records[0] | {"by_itself": True}]})
    assert "by the call" in peers.report({"results": [records[0] | {"by_itself": False}]})


def test_nonsense_is_refused():
    with pytest.raises(SystemExit, match="class 11 is not in"):
        peers.main(["--dataset", "digits", "--classes", "11", "--methods", "sklearn pca"])
    with pytest.raises(SystemExit):
        peers.main(["--methods", "sklearn everything"])
