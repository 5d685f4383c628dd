"""The decomposition of AGAD's loss: what is switched off is off, and the benchmark measures each part once."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agads import LABELS, SMALL, compiled, started

from jaxad.methods.agad import learns_from, variant
from jaxad.types import Batch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
agad_parts = importlib.import_module("agad_parts")

WEIGHTS = {"adversarial": 1.0, "contextual": 50.0, "pseudo": -15.0, "latent": 5.0}
OFF = {
    "reconstruction": {"adversarial", "pseudo", "latent"},
    "reconstruction-adversarial": {"pseudo", "latent"},
    "no-adcon": {"pseudo"},
    "reconstruction-pseudo": {"adversarial", "latent"},
    "no-latent": {"latent"},
    "no-adversarial": {"adversarial"},
}


PARTS = ["reconstruction", *(pytest.param(n, marks=pytest.mark.slow) for n in ("reconstruction-pseudo", "no-latent"))]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_switched_off_is_in_no_loss(name):
    """The loss is the weighted sum of the other terms, and labels act through what is left of Eq. 10."""
    from agads import IMAGES

    config = variant(SMALL, name)
    off = OFF[name]
    _, info = compiled(config, "step")(jax.random.key(1), started(config), Batch(IMAGES, jnp.asarray(LABELS)))
    terms = {term: weight * float(getattr(info, term)) for term, weight in WEIGHTS.items() if term not in off}
    np.testing.assert_allclose(info.generator_loss, sum(terms.values()) + info.anomaly_loss, rtol=1e-4)
    assert (info.anomaly_loss == 0) == (name == "reconstruction")


def test_every_part_has_its_own_switch():
    for name, off in OFF.items():
        config = variant(SMALL, name)
        assert {term for term in WEIGHTS if getattr(config, f"{term}_weight") == 0} == off
    assert not learns_from(variant(SMALL, "reconstruction"), "reconstruction", 0.05)
    assert learns_from(variant(SMALL, "reconstruction"), "reconstruction", 0)
    assert learns_from(dataclasses.replace(SMALL, latent_weight=0.0), "no-latent", 0.05)


def test_the_benchmark_repeats_no_training_and_averages_classes_before_seeds(tmp_path, monkeypatch, capsys):
    calls = []

    def auroc(config, task, seed, **options):
        calls.append((task.details["normal_classes"][0], int(task.train.labels.sum()), seed))
        return 0.5 + 0.1 * seed + 0.02 * (config.latent_weight > 0)

    monkeypatch.setattr(agad_parts, "trained_auroc", auroc)
    flags = ["--limit", "40", "--seeds", "2", "--output", str(tmp_path / "parts.jsonl")]
    agad_parts.main(flags)
    assert len(calls) == 2 * (6 + 5) * 2  # classes x (parts of gamma 0, and of 0.05) x seeds
    assert {known for _, known, _ in calls} == {0, 1}
    rows = agad_parts.known_rows(tmp_path / "parts.jsonl")
    assert len(rows) == len(calls)
    (line,) = [line for line in agad_parts.summary(rows) if line[1:3] == ("0", "agad")]
    assert line == ("digits", "0", "agad", "57.0", "7.1", 2, 2)
    path = tmp_path / "parts.jsonl"
    lines = [json.dumps(row) + "\n" for row in rows]
    path.write_text("".join(lines[2:] + lines[:1]) + lines[1][:20])  # a kill within a line
    agad_parts.main(flags)
    assert len(calls) == len(rows) + 1
    assert len(agad_parts.known_rows(tmp_path / "parts.jsonl")) == len(rows)
    assert "reconstruction-pseudo" in capsys.readouterr().out


@pytest.mark.slow
def test_the_benchmark_trains_and_tests(capsys):
    agad_parts.main(["--classes", "0", "--limit", "40", "--steps", "2", "--gammas", "0.05"])
    assert "no-latent" in capsys.readouterr().out
