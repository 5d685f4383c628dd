"""What tests of neural batch sampling share: a tiny config with its images, and programs compiled in a hurry."""

import jax
import numpy as np
import pytest

from jaxad import data
from jaxad.methods.nbs import EnvironmentConfig, NBSConfig, make_image_pool

SMALL = NBSConfig(
    environment=EnvironmentConfig(patch=8, shift=3, window=16),
    episode=4, batch=2, code=4, width=0.05, sampler_width=0.2, predictor_width=0.5, period=6, skip=3, profile=3,
    clone_steps=20, predictor_batch=3, memory=7, learning_rate=1e-2,
)  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    made = data.painted("gravel", 16, seed=0)
    order = np.argsort(made.labels == 0, kind="stable")[:8]  # all with defects
    return made.images[order], made.masks[order]


@pytest.fixture(scope="module")
def pool(parts):
    images, masks = parts
    return make_image_pool(SMALL, images[:3], masks[:3], images[3:])


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
