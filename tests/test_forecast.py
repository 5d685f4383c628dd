"""Forecasts: arithmetic against counting child by child, what they grow with, and what they say."""

import jax
import numpy as np
import pytest

from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import TrialConfig, put
from jaxad.nn.cost import flops
from jaxad.runs import forecast as module
from jaxad.runs.forecast import Forecast, Rate, forecast
from jaxad.runs.inputs import Inputs

SPACE = SearchSpace(
    num_layers=1,
    channels=(8,),
    kernels=(3,),
    pools=("max",),
    pool_kernels=(3,),
    hypotheses=("density",),
    distances=("l2",),
    norms=("none",),
    activations=("relu",),
)


@pytest.fixture
def known_rate(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "measured", lambda size, batch: asked.append((tuple(size), batch)) or Rate(1e6, 0.5))
    return asked


def data(train=20, valid=6, size=(8, 8, 1)):
    return put(np.zeros((train, *size), np.uint8), np.zeros((valid, *size), np.uint8), np.zeros(valid, int))


def test_it_counts_passes_of_training_fitting_and_scoring(known_rate):
    settings = TrialConfig(steps=3, batch_size=16, fit_images=10)
    found = forecast(Inputs(data(), (8, 8, 1)), SPACE, settings)
    (child,) = {flops(SPACE.to_architecture(row), (8, 8, 1)) for row in np.asarray(SPACE.sample(jax.random.key(0), 20))}
    assert found.compute == pytest.approx(child * (3 * 3 * 16 + 10 + 6) / 1e6)
    assert found.compiling == 0.5 * module.PROGRAMS
    assert found.megabytes == pytest.approx((26 * 64 + 6 * 4) / 1e6)
    assert known_rate == [((8, 8), 16)]


def test_every_input_counts_by_its_own_size(known_rate):
    space = SearchSpace(num_layers=1, inputs=("pixels", "deep"))
    small, large = data(), data(size=(8, 8, 4))
    both = Inputs({"pixels": small, "deep": large}, {"pixels": (8, 8, 1), "deep": (8, 8, 4)})
    alone = forecast(Inputs(small, (8, 8, 1)), SearchSpace(num_layers=1), TrialConfig())
    assert forecast(both, space, TrialConfig()).compute > alone.compute


def test_the_rate_of_this_machine_is_that_of_a_convolution():
    rate = module.measured((8, 8), 16, rounds=1)
    assert 1e6 < rate.flops < 1e16
    assert 0 < rate.compiling < 60


def test_what_does_not_fit_into_the_budget_is_said():
    expected = Forecast(2.0, 3.0, 12.0)
    assert expected.sentence(10, 60.0) == "about 50 s: 5.0 s a child, 3.0 of them compiling, and 12 MB of images"
    assert expected.sentence(60, 100.0) == (
        "about 5 min: 5.0 s a child, 3.0 of them compiling, and 12 MB of images; time_budget 100 s is enough for about "
        "20 children"
    )
