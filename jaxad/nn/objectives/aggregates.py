"""How the anomaly map of a distance becomes the score of its image.

The paper scores an image by the distance itself, a mean over all pixels, in which a small defect drowns. The largest
value of the map, or the mean of its largest values, does not depend on how much of the image is normal. Training is
always by the distance; only scores ask for an aggregate.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp
from jax import lax

from jaxad.nn.choices import Choices, OneOf, choose
from jaxad.nn.objectives.distances import Distance
from jaxad.types import Array

TOP_PART = 100
"""One in so many pixels of a map, the largest, makes up its "top"."""


def top(anomaly_map: Array) -> Array:
    """The mean of the largest 1 % of a map [H, W], rounded down to whole pixels but at least one."""
    chex.assert_rank(anomaly_map, 2)
    largest, _ = lax.top_k(anomaly_map.reshape(-1), max(1, anomaly_map.size // TOP_PART))
    return jnp.mean(largest)


AGGREGATES: Choices[Callable[[Array], Array] | None] = Choices(
    "aggregate", {"mean": None}, {"max": jnp.max, "top": top}
)
"""Name -> (map [H, W]) -> scalar, or None for the distance's own score, which is a mean in a way of its own."""


def image_score(distance: Distance, aggregate: str | OneOf) -> Callable[[Array, Array], Array]:
    """(x_hat [H, W, C], x [H, W, C]) -> scalar: what a distance comes to by an aggregate.

    Args:
      aggregate: a name in `AGGREGATES`, or one that is known at run time only.
    """

    def option(name: str) -> Callable[[Array, Array], Array]:
        of_map = AGGREGATES[name]
        if of_map is None:
            return distance.score
        return lambda x_hat, x: of_map(distance.map(x_hat, x))

    return lambda x_hat, x: choose({name: option(name) for name in AGGREGATES}, aggregate, x_hat, x)
