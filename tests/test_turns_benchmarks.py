"""Benchmarks whose ways take turns: each way is begun equally often, and what they measure is the same work."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxad.nas.trial import Result, Reward

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
take_turns, scoring = map(importlib.import_module, ("take_turns", "scoring"))


def test_every_way_has_its_turn_in_every_round_and_begins_some():
    begun = []

    def way(name):
        def run():
            begun.append(name)
            return {"seconds": len(begun), "cpu": 1.0}

        return run

    turns = take_turns.take_turns({name: way(name) for name in "abc"}, 3)
    rounds = [begun[at : at + 3] for at in range(0, len(begun), 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(rounds) == 4  # the first is not counted
    assert {one[0] for one in rounds[1:]} == set("abc")
    assert {name: len(costs) for name, costs in turns.items()} == dict.fromkeys("abc", 3)
    assert min(cost["seconds"] for costs in turns.values() for cost in costs) == 4


def test_ratios_are_those_of_a_round():
    turns = {
        "ours": [{"seconds": 1.0, "cpu": 1.0}, {"seconds": 10.0, "cpu": 1.0}],
        "theirs": [{"seconds": 2.0, "cpu": 3.0}, {"seconds": 40.0, "cpu": 3.0}],
    }
    row = take_turns.compared(turns, "ours").splitlines()[-1]
    assert row.split(maxsplit=1)[0] == "theirs"
    assert "3 (2, 4)" in row  # of seconds: the slow round slowed both
    assert "3 (3, 3)" in row


def test_what_fails_says_so(tmp_path):
    program = "import sys; sys.exit('no such luck')"
    with pytest.raises(SystemExit, match=r"(?s)ended with 1: no such luck"):
        take_turns.process([sys.executable, "-c", program])


def test_scoring_one_by_one_has_the_same_bits(tmp_path, monkeypatch, capsys):
    flags = ["--detectors", "deep_svdd", "--side", "8", "--images", "65", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["scoring.py", *flags, "--json", str(tmp_path / "out.json")])
    scoring.main()
    assert "ms an image" in capsys.readouterr().out
    (record,) = json.loads((tmp_path / "out.json").read_text())["detectors"]
    assert record["differences"]["a call an image"] == 0
    assert 0 <= record["differences"]["all at once"] < 1e-3
    assert {way: len(costs) for way, costs in record["turns"].items()} == dict.fromkeys(record["differences"], 1)


@pytest.mark.parametrize("flags", ["--detectors luck", "--images 63", "--channels 2", "--rounds 0"])
def test_scoring_benchmark_refuses(flags, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scoring.py", *flags.split()])
    with pytest.raises(SystemExit, match=r"^2$"):
        scoring.main()


@pytest.mark.parametrize("flags", ["--num-seeds 1", "--seconds 0", "--task moon", "--strategies random random"])
def test_feature_search_refuses(flags):
    with pytest.raises(SystemExit, match=r"^2$"):
        importlib.import_module("feature_search").main(flags.split())


def test_feature_search_compares_seed_by_seed():
    benchmark = importlib.import_module("feature_search")
    cells = [{"a": {"test": 0.5 + 0.1 * seed}, "b": {"test": 0.4 + 0.1 * seed}} for seed in range(6)]
    pair = benchmark.compared(cells, "a", "b", "test")
    np.testing.assert_allclose([pair["mean"], pair["low"], pair["high"], pair["p"]], [0.1, 0.1, 0.1, 2 / 2**6])


@pytest.mark.slow
def test_workers_return_the_same_bits(tmp_path):
    """In a process of its own: this benchmark decides with how many threads JAX computes."""
    flags = ["--workers", "1", "--children", "3", "--steps", "2", "--size", "8", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "workers.py", *flags, "--json", tmp_path / "out.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "bits: the same by all ways" in done.stdout
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["same"] is True
    assert content["megabytes"]["1 worker"] > 0


@pytest.mark.slow
def test_other_bits_are_told(monkeypatch):
    monkeypatch.setenv("NPROC", "1")  # which the benchmark sets when it is imported
    workers = importlib.import_module("workers")
    reward = Reward(np.float32(0.5), np.float32(0.1), np.True_)
    one = [Result(params={"kernel": np.ones(3)}, reward=reward, reason=None, batch_size=8, seconds=1.0)]
    assert workers.same(one, one)
    other = jax.tree.map(lambda leaf: np.nextafter(leaf, 2), one[0].params)
    assert not workers.same(one, [one[0]._replace(params=other)])
