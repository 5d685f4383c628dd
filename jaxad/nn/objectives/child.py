"""A child of the search: an autoencoder, a distance and a hypothesis as one objective (Eq. 2).

    loss  = mean_B DIST(g(f(x)), x) + lambda * REG(f(x))        while training
    score = DIST(g(f(x)), x) + lambda * REG(f(x))               for one image

In place of DIST a score may have another aggregate of the distance's map (`aggregates`); the loss never has.
Everything that trains or scores a child (alone, in a population, from shared kernels) takes its parts from here.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxad.nn import autoencoder
from jaxad.nn.architecture import Architecture
from jaxad.nn.choices import OneOf
from jaxad.nn.objectives import Hypothesis, make_hypothesis
from jaxad.nn.objectives.aggregates import image_score
from jaxad.nn.objectives.distances import Distance, get_distance
from jaxad.types import Array, Key, Params

OPTIMISERS = ("adam", "sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChildConfig:
    """How a child trains. Raises ValueError for values out of range."""

    optimiser: str = "adam"
    """Optimiser: adam, or sgd with momentum 0.9 (the paper names both in one breath)."""
    learning_rate: float = 3e-3
    """Step size, divided by 10 at 50 % and again at 75 % of the steps, as in the paper."""
    regulariser: float = 0.1
    """Weight lambda of the hypothesis in loss and score; Eq. 2 has 1."""
    clip: float | None = None
    """Largest absolute value of a gradient, which is cut off there; the paper clips nothing."""

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser is {self.optimiser!r}; choose one of {', '.join(OPTIMISERS)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; give a positive number such as 0.003")
        if not 0 <= self.regulariser < float("inf"):
            raise ValueError(f"regulariser is {self.regulariser}; give a number from 0 upwards, such as 0.1")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise ValueError(f"clip is {self.clip}; give a positive number such as 0.1, or None to clip nothing")


def make_optimiser(config: ChildConfig, steps: int) -> optax.GradientTransformation:
    """The optimiser of a child that trains for `steps` steps."""
    drops = {boundary: 0.1 for boundary in {steps // 2, 3 * steps // 4} if boundary > 0}
    schedule = optax.piecewise_constant_schedule(config.learning_rate, drops)
    optimiser = optax.adam(schedule) if config.optimiser == "adam" else optax.sgd(schedule, momentum=0.9)
    # Value by value: executors keep a child's weights in other arrays than a child by itself has.
    return optimiser if config.clip is None else optax.chain(optax.clip(config.clip), optimiser)


class Parts(NamedTuple):
    """The two terms of Eq. 2, as means of a batch or per image."""

    distance: Array  # per image, by the aggregate of the architecture
    regulariser: Array


class Child(NamedTuple):
    """One architecture as pure functions. Parameters are {"encoder", "decoder", "projection", "hypothesis"}."""

    init: Callable[[Key, Array], Params]  # (key, images [B, H, W, C]) -> params
    start: Callable[[Key, Params, Array], Params]  # (key, network, images) -> the hypothesis' first params
    loss: Callable[..., tuple[Array, Parts]]  # (params, images, step) -> (scalar, parts)
    fit: Callable[..., Any]  # (params, images [n, ...], moments=None) -> statistics of the hypothesis
    score: Callable[..., Array]  # (params, stats, images, moments=None) -> [B]
    parts: Callable[..., Parts]  # the same, term by term
    apply: Callable[..., autoencoder.Output]  # (params, images, moments=None) -> output


def make_child(architecture: Architecture, config: ChildConfig) -> Child:
    """The child of an architecture; weights come in as an argument, shared or its own."""
    return objective(
        architecture.layers,
        get_distance(architecture.distance),
        make_hypothesis(architecture.hypothesis),
        config,
        aggregate=architecture.aggregate,
        extra=architecture.extra,
        init_network=lambda key, shape: autoencoder.init(key, architecture, shape),
    )


def objective(
    layers: Any,
    distance: Distance,
    hypothesis: Hypothesis,
    config: ChildConfig,
    *,
    aggregate: str | OneOf = "mean",
    extra: autoencoder.Extra = (),
    init_network: Callable[[Key, tuple[int, int, int]], Params] | None = None,
) -> Child:
    """Join network, distance and hypothesis.

    `layers`, `aggregate` and `extra` may hold choices that are known at run time only: see `autoencoder.apply`.
    """
    distance_score = image_score(distance, aggregate)

    def init(key: Key, images: Array) -> Params:
        network_key, hypothesis_key = jax.random.split(key)
        network = init_network(network_key, images.shape[1:])
        return network | {"hypothesis": start(hypothesis_key, network, images)}

    def start(key: Key, network: Params, images: Array) -> Params:
        latent = autoencoder.apply(network, layers, images, extra=extra, with_decoder=False).latent
        return hypothesis.init(key, latent)

    def apply(params: Params, images: Array, moments: Any = None) -> autoencoder.Output:
        return autoencoder.apply(params, layers, images, extra=extra, moments=moments)

    def loss(params: Params, images: Array, step: Array) -> tuple[Array, Parts]:
        output = apply(params, images)
        terms = Parts(
            jnp.mean(jax.vmap(distance.score)(output.reconstruction, images)),
            hypothesis.loss(params["hypothesis"], output.latent, squared_errors(output.reconstruction, images), step),
        )
        return terms.distance + config.regulariser * terms.regulariser, terms

    def fit(params: Params, images: Array, moments: Any = None) -> Any:
        output = autoencoder.apply(params, layers, images, extra=extra, moments=moments, with_decoder=False)
        return hypothesis.fit(params["hypothesis"], output.latent)

    def parts(params: Params, stats: Any, images: Array, moments: Any = None) -> Parts:
        output = apply(params, images, moments)
        errors = squared_errors(output.reconstruction, images)
        return Parts(
            jax.vmap(distance_score)(output.reconstruction, images),
            hypothesis.score(params["hypothesis"], stats, output.latent, errors),
        )

    def score(params: Params, stats: Any, images: Array, moments: Any = None) -> Array:
        terms = parts(params, stats, images, moments)
        return terms.distance + config.regulariser * terms.regulariser

    return Child(init, start, loss, fit, score, parts, apply)


def squared_errors(reconstruction: Array, images: Array) -> Array:
    """Mean squared error of every image: [B, H, W, C] twice -> [B]."""
    return jnp.mean(jnp.square(reconstruction - images), axis=(1, 2, 3))
