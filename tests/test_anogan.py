"""AnoGAN: the search for the code of an image, and that training helps."""

import jax
import numpy as np
import pytest
from learning import OneClass, assert_learns, before_and_after

from jaxad.methods.anogan import anogan


def test_the_search_finds_better_codes_than_it_starts_from():
    images = OneClass(0).train[:6].astype(np.float32) / 255
    options = {"widths": (8,), "latent_dim": 6}
    short, long, two = (anogan(**options, **more) for more in (
        {"search_steps": 1}, {"search_steps": 40}, {"search_steps": 40, "starts": 2}
    ))  # fmt: skip
    state = jax.jit(two.init)(jax.random.key(0), images)
    first = state._replace(starts=state.starts[:1])
    scores = [np.asarray(jax.jit(d.score)(s, images)) for d, s in ((short, first), (long, first), (two, state))]
    assert (scores[1] < scores[0]).all()
    assert (scores[2] <= scores[1] + 1e-6).all()
    maps = jax.jit(long.score_map)(first, images)
    features = anogan(**options, search_steps=40, feature_weight=0.0)
    np.testing.assert_allclose(
        jax.jit(features.score_map)(first, images).mean((1, 2)), jax.jit(features.score)(first, images), rtol=1e-3
    )
    assert maps.shape == (6, 8, 8)


@pytest.mark.slow
def test_training_makes_it_better_than_it_was_and_than_chance():
    detector = anogan(widths=(8, 16), latent_dim=16, steps=600, learning_rate=1e-3, search_steps=30)
    assert_learns(*before_and_after(detector, OneClass(0), steps=600))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"search_steps": 0}, "search_steps is 0"),
        ({"feature_weight": 1.5}, "feature_weight is 1.5"),
        ({"search_rate": 0.0}, "search_rate is 0.0"),
        ({"widths": (0,)}, r"widths are \(0,\)"),
    ],
)
def test_configs_say_what_is_wrong_with_them(fields, message):
    with pytest.raises(ValueError, match=message):
        anogan(**fields)
