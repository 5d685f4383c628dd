"""Small AGADs that several test modules share, compiled once for each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.data import digits
from jaxad.methods.agad import LINEAGE, AGADConfig, agad
from jaxad.types import Batch

SMALL = AGADConfig(generator="naive", width=0.1, latent_dim=6)
IMAGES = jnp.asarray(digits().images[:10], jnp.float32) / 255
LABELS = jnp.array([0, 0, 1, 0, 0, 0, 1, 0, 1, 0], jnp.int32)
GANOMALY, SKIP = (
    dataclasses.replace(LINEAGE[name], width=0.1, latent_dim=6, levels=2) for name in ("ganomaly", "skip_ganomaly")
)


@functools.cache
def compiled(config, part):
    """A function of the detector, compiled once for all tests."""
    return jax.jit(getattr(agad(config), part))


@functools.cache
def started(config, seed=0):
    return compiled(config, "init")(jax.random.key(seed), IMAGES)


def stepped(config, state, labels=LABELS, seed=1):
    return compiled(config, "step")(jax.random.key(seed), state, Batch(IMAGES, labels))


def leaves_close(got, expected, **tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def mostly_close(got, expected):
    """The first updates of Adam are signs, which rounding decides where a gradient is zero."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    same = [np.isclose(a, b, rtol=1e-4, atol=1e-6).ravel() for a, b in pairs]
    assert np.mean(np.concatenate(same)) > 0.99


def trained(config):
    state = started(config)
    for seed in range(3):
        state, _ = stepped(config, state, seed=seed)
    return state
