"""What children of equal shape may differ in, chosen at run time, so that one program serves them all.

Two architectures have equal shape when their layers agree in channels, kernel and pooling size. All else is a number
in that program. It branches among all standard choices, whatever a search space holds, and among others where the jobs
at hand ask for any: all of a table's own, and those that were added and are asked for.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxad.nn import layers as nn
from jaxad.nn.actions import EXTRA_ACTIONS
from jaxad.nn.architecture import Architecture
from jaxad.nn.choices import Choices, OneOf
from jaxad.nn.objectives import HYPOTHESES, Hypothesis, make_hypothesis
from jaxad.nn.objectives.aggregates import AGGREGATES
from jaxad.nn.objectives.distances import DISTANCES, Distance
from jaxad.types import Array, Key, Params

Shape = tuple[tuple[int, int, int], ...]  # (channels, kernel, pool_kernel) of every layer


def shape_of(architecture: Architecture) -> Shape:
    """What a program is compiled for; architectures of equal shape can train side by side."""
    return tuple((layer.channels, layer.kernel, layer.pool_kernel) for layer in architecture.layers)


class Options(NamedTuple):
    """Among which names a program chooses at run time: what is standard, and what else the jobs of a call ask for."""

    hypothesis: tuple[str, ...]
    distance: tuple[str, ...]
    aggregate: tuple[str, ...]
    pool: tuple[str, ...]
    norm: tuple[str, ...]
    activation: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...]  # (action, its choices) where any job has another than the default

    def vectors(self) -> dict[str, float]:
        """Vectors that any layer may train beside its kernel, and the value each starts from."""
        vectors = {"scale": 1.0}
        for name, choices in self.extra:
            action = EXTRA_ACTIONS[name]
            for choice in choices:
                vectors |= {action.key(vector): value for vector, value in action.vectors(choice).items()}
        return vectors


def options_of(architectures: Iterable[Architecture]) -> Options:
    """The options of a program that runs any of these."""
    architectures = list(architectures)
    layers = [layer for architecture in architectures for layer in architecture.layers]

    def names(table: Choices, used: Iterable[str]) -> tuple[str, ...]:
        known = table.standard if set(used) <= set(table.standard) else table.builtin
        return (*known, *sorted(set(used) - set(known)))

    extra = {name for owner in (*architectures, *layers) for name, _ in owner.extra}
    return Options(
        names(HYPOTHESES, [architecture.hypothesis for architecture in architectures]),
        names(DISTANCES, [part for architecture in architectures for part in _parts(architecture.distance)]),
        names(AGGREGATES, [architecture.aggregate for architecture in architectures]),
        names(nn.POOLS, [layer.pool for layer in layers]),
        names(nn.NORMS, [layer.norm for layer in layers]),
        names(nn.ACTIVATIONS, [layer.activation for layer in layers]),
        tuple((name, EXTRA_ACTIONS[name].standard) for name in sorted(extra)),
    )


def _parts(distance: str) -> list[str]:
    return [part.strip() for part in distance.split("+")]


class Chosen(NamedTuple):
    """What members of equal shape may differ in, as numbers; layers are stacked."""

    hypothesis: Array  # index among the options
    distance: Array  # [D] how often each of the options is summed
    aggregate: Array  # index among the options
    pool: Array  # [N] indices among the options
    norm: Array  # [N] ...
    activation: Array  # [N] ...
    extra: dict[str, Array]  # index, or [N] of them, by action


def choices_of(architecture: Architecture, options: Options | None = None) -> Chosen:
    """The run-time choices of an architecture, on the host; by default among its own options."""
    options = options_of([architecture]) if options is None else options
    layers, parts = architecture.layers, _parts(architecture.distance)

    def index(names: Sequence[str], chosen: Any) -> np.ndarray:
        return np.asarray([names.index(name) for name in chosen], np.int32)

    def of_extra(action: str, choices: Sequence[str]) -> np.ndarray:
        if EXTRA_ACTIONS[action].scope == "child":
            return index(choices, [architecture.choice(action)])[0]
        return index(choices, [layer.choice(action) for layer in layers])

    return Chosen(
        index(options.hypothesis, [architecture.hypothesis])[0],
        np.asarray([parts.count(name) for name in options.distance], np.int32),
        index(options.aggregate, [architecture.aggregate])[0],
        index(options.pool, [layer.pool for layer in layers]),
        index(options.norm, [layer.norm for layer in layers]),
        index(options.activation, [layer.activation for layer in layers]),
        {action: of_extra(action, choices) for action, choices in options.extra},
    )


class RuntimeLayer(NamedTuple):
    """What `autoencoder.apply` asks of a layer: a size, and choices that are known at run time."""

    pool_kernel: int
    pool: OneOf
    norm: OneOf
    activation: OneOf
    extra: Sequence[tuple[str, OneOf]]


def layers_of(shape: Shape, options: Options, chosen: Chosen) -> list[RuntimeLayer]:
    """The layers of a shape with the choices of a member."""
    return [
        RuntimeLayer(
            pool_kernel,
            OneOf(options.pool, chosen.pool[i]),
            OneOf(options.norm, chosen.norm[i]),
            OneOf(options.activation, chosen.activation[i]),
            [(name, one._replace(index=one.index[i])) for name, one in extra_of("layer", options, chosen)],
        )
        for i, (_, _, pool_kernel) in enumerate(shape)
    ]


def extra_of(scope: str, options: Options, chosen: Chosen) -> list[tuple[str, OneOf]]:
    """The further actions of a scope; those of layers are stacked."""
    return [
        (name, OneOf(choices, chosen.extra[name]))
        for name, choices in options.extra
        if EXTRA_ACTIONS[name].scope == scope
    ]


def distance_of(counts: Array, names: Sequence[str] = DISTANCES.standard) -> Distance:
    """The sum of all distances of which `counts` [D] is not zero."""

    def total(kind: str, x_hat: Array, x: Array) -> Array:
        options = [getattr(DISTANCES[name], kind) for name in names]
        zero = jnp.zeros_like(jax.eval_shape(options[0], x_hat, x))
        # Conditions, not products: a distance that overflows must not reach a child that did not ask for it.
        values = [lax.cond(counts[i] > 0, option, lambda *_: zero, x_hat, x) for i, option in enumerate(options)]
        return sum(counts[i] * value for i, value in enumerate(values))

    return Distance(functools.partial(total, "score"), functools.partial(total, "map"))


def hypothesis_of(choice: Array, names: Sequence[str] = HYPOTHESES.standard) -> Hypothesis:
    """The hypothesis of index `choice`; parameters and statistics hold those of all options, by name."""
    options = {name: make_hypothesis(name) for name in names}

    def init(key: Key, z: Array) -> Params:
        # Clones: only the chosen one is ever used, and it must start as it does alone.
        return {name: option.init(jax.random.clone(key), z) for name, option in options.items()}

    def select(call: Callable[[str, Hypothesis], Callable[..., Array]], *operands: Any) -> Array:
        return lax.switch(choice, [call(name, option) for name, option in options.items()], *operands)

    def loss(params: Params, z: Array, errors: Array, step: Array) -> Array:
        return select(lambda name, option: lambda p, *rest: option.loss(p[name], *rest), params, z, errors, step)

    def fit(params: Params, z: Array) -> Any:
        return {name: option.fit(params[name], z) for name, option in options.items()}

    def score(params: Params, stats: Any, z: Array, errors: Array) -> Array:
        return select(
            lambda name, option: lambda p, s, *rest: option.score(p[name], s[name], *rest), params, stats, z, errors
        )

    return Hypothesis(init, loss, fit, score)
