"""The simulation of a cluster against times that are known by hand."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
simulation = importlib.import_module("cluster_simulation")

IDEAL = simulation.Child(seconds=2.0, size=0, cut=0.0, pickled=0.0, merge=0.0, flops=1.0)
FAST = 1e6  # Gbit/s


def replay(children, workers, population, ahead=0, *, fixed=0.0, gigabits=FAST):
    return simulation.replay(children, fixed, workers, gigabits, population, ahead, np.random.default_rng(0))


@pytest.mark.parametrize(("population", "ahead"), [(8, 0), (4, 0), (4, 1), (2, 1), (1, 3)])
def test_equal_children_without_costs_keep_all_workers_busy(population, ahead, monkeypatch):
    monkeypatch.setattr(simulation, "LATENCY", 0.0)
    found = replay([IDEAL], 4, population, ahead)
    assert found.rate == pytest.approx(4 * 60 / 2)
    assert found.efficiency == pytest.approx(1)
    assert found.network == pytest.approx(0, abs=1e-9)
    assert found.client == 0


def test_what_limits_is_seen(monkeypatch):
    monkeypatch.setattr(simulation, "LATENCY", 0.0)
    # Two children on four workers: half of these have nothing to do.
    assert replay([IDEAL], 4, 2).efficiency == pytest.approx(0.5)
    # A second each way at 1 Gbit/s, one message at a time: four workers wait for the network.
    large = IDEAL._replace(size=125_000_000)
    found = replay([large], 4, 4, 3, gigabits=1.0)
    assert found.rate == pytest.approx(60, rel=0.05)
    assert found.network == pytest.approx(1, rel=0.05)
    # A client that merges for a second a child merges while others train, and sets the pace of four workers.
    found = replay([IDEAL._replace(merge=1.0)], 4, 40)
    assert found.client == pytest.approx(1, rel=0.06)
    # A population that costs two seconds of the client and two of training: workers train half of the time.
    assert replay([IDEAL], 4, 4, fixed=2.0).efficiency == pytest.approx(0.5)


def test_a_population_ahead_fills_the_time_of_the_slowest(monkeypatch):
    """Of two workers and populations of 3 s and 1 s one is idle for 2 of 3 s, and for none if others begin ahead."""
    monkeypatch.setattr(simulation, "LATENCY", 0.0)

    class InTurn:
        def integers(self, low, high, count):
            return np.arange(count) % 2

    children = [IDEAL._replace(seconds=3.0, flops=9.0), IDEAL._replace(seconds=1.0)]
    shares = [simulation.replay(children, 0.0, 2, FAST, 2, ahead, InTurn()).efficiency for ahead in (0, 1, 3)]
    assert shares[0] == pytest.approx(4 / 6)
    assert shares[0] < shares[1] <= shares[2]
    assert shares[2] == pytest.approx(1, abs=0.05)


def test_the_largest_go_first(monkeypatch):
    """One child of 4 s and four of 1 s on two workers take 4 s then, and up to 6 s otherwise."""
    monkeypatch.setattr(simulation, "LATENCY", 0.0)
    monkeypatch.setattr(simulation, "ROUNDS", 1)
    small, large = IDEAL._replace(seconds=1.0), IDEAL._replace(seconds=4.0, flops=9.0)

    class InOrder:
        def integers(self, low, high, count):
            return np.arange(count)

    children = [small, small, small, small, large]
    assert 5 * 60 / simulation.replay(children, 0.0, 2, FAST, 5, 0, InOrder()).rate == pytest.approx(4)


def test_costs_are_those_of_the_children_of_a_run(tmp_path, capsys):
    layer = {"channels": 8, "kernel": 3, "pool": "max", "pool_kernel": 1, "norm": "batch", "activation": "relu"}
    trials = [
        {
            "status": "ok", "seconds": 0.5, "flops": 1e3 * channels, "reward": 0.5,
            "architecture": {"hypothesis": "centroid", "distance": "l2", "layers": [layer | {"channels": channels}]},
        }
        for channels in (8, 128)
    ]  # fmt: skip
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    children, fixed = simulation.measured(trials, steps=3)
    assert [child.seconds for child in children] == [1.5, 1.5]
    assert children[0].size < children[1].size
    assert min(min(child.cut, child.pickled) for child in children) > 0
    assert fixed > 0
    simulation.run(simulation.Config(run=str(tmp_path), workers=(2,), gigabits=(1.0,), per_worker=(1, 2), ahead=(0, 1)))
    printed = capsys.readouterr().out
    assert "2 children of 0.50 s" in printed
    rows = [line.split() for line in printed.splitlines()[-4:]]
    assert [row[:4] for row in rows] == [["2", "1", population, ahead] for population in "24" for ahead in "01"]
    (tmp_path / "trials.jsonl").write_text("")
    with pytest.raises(ValueError, match="has 0 trained children"):
        simulation.run(simulation.Config(run=str(tmp_path)))
