"""How many threads XLA has: never one, on which a program that calls the host would wait for itself."""

import os
import subprocess
import sys

import pytest

from jaxad._utils import threads

ONE_CORE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
else:
    os.cpu_count = lambda: 1
import jaxad
print("threads", os.environ["NPROC"])
import jax, numpy as np
images = np.random.default_rng(0).integers(0, 256, (70, 64, 64, 1), np.uint8)
for seed in range(3):
    detector = jaxad.detectors()["pca"].build()
    state, _ = jaxad.fit(detector, jax.random.key(seed), images, steps=5, batch_size=16)
    state = jaxad.calibrate(detector, state, images)
    assert np.isfinite(jaxad.score_images(detector, state, images)).all()
print("scored")
"""


def test_a_process_with_one_core_fits_a_detector_on_the_host():
    kept = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
    command = [sys.executable, "-c", ONE_CORE]
    ended = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=300)
    assert ended.stdout.split() == ["threads", "2", "scored"], ended.stderr


@pytest.mark.parametrize("given", ["", "1", "3"])
def test_whoever_begins_a_process_decides(given, monkeypatch):
    monkeypatch.setenv("NPROC", given)
    monkeypatch.setattr(threads, "_OURS", {"NPROC": ""})
    monkeypatch.setattr(threads, "cores", lambda: 1)
    threads.never_one()
    assert threads.threads() == int(given or 2)
    threads.begin_with(7)  # what is ours may be changed
    assert threads.threads() == int(given or 7)


def test_several_cores_are_as_many_threads(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    threads.never_one()
    assert "NPROC" not in os.environ
    assert threads.threads() == 4
