"""The reconstruction hypothesis (AutoAD, Table I): normal is what the autoencoder can reconstruct."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxad.nn.objectives.base import Hypothesis, check
from jaxad.types import Array, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """The reconstruction hypothesis has no settings."""


def reconstruction(config: ReconstructionConfig | None = None) -> Hypothesis:
    """Anomalies are reconstructed badly: loss mean_i e_i, score e, with e the mean squared error of an image.

    Adds to the distance of Eq. 2, which may be the same quantity.
    """

    def loss(params: Params, z: Array, errors: Array, step: Array) -> Array:
        check(z, errors)
        return jnp.mean(errors)

    def score(params: Params, stats: Any, z: Array, errors: Array) -> Array:
        check(z, errors)
        return errors

    return Hypothesis(init=lambda key, z: (), loss=loss, fit=lambda params, z: (), score=score)
