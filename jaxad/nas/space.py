"""The search space of AutoAD: which detectors may be built, and how tokens spell them.

An `Architecture` is what a person reads; a token sequence is what a strategy plays with; `SearchSpace` maps
one onto the other and draws, mutates, counts and enumerates. Nothing here knows how a network is built.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn.architecture import (
    ACTIVATIONS,
    DISTANCES,
    HYPOTHESES,
    NORMS,
    POOLS,
    Architecture,
    Layer,
    check_name,
    check_positive,
)
from jaxad.types import Array, Key

# Spaces up to this size can be listed in about a second.
ENUMERATION_LIMIT = 1_000_000

_LAYER_ROLES = ("channels", "kernel", "pool", "pool_kernel", "norm", "activation")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All children a search may choose from: T = 6 N + 2 tokens for N layers (Sec. III-A of AutoAD).

    Tokens are [hypothesis, distance], then per layer [channels, kernel, pool, pool_kernel, norm, activation];
    each is an index into the choice list of that name. The decoder mirrors the encoder and has no tokens.
    Every list may be replaced by a shorter or other one. Raises ValueError for an empty list, a repeated
    or an unknown choice, and for kernels that are not odd.
    """

    num_layers: int = 3
    hypotheses: tuple[str, ...] = HYPOTHESES
    distances: tuple[str, ...] = DISTANCES
    channels: tuple[int, ...] = (3, 8, 16, 32, 64, 128, 256)
    kernels: tuple[int, ...] = (1, 3, 5, 7)
    pools: tuple[str, ...] = POOLS
    pool_kernels: tuple[int, ...] = (1, 3, 5, 7)
    norms: tuple[str, ...] = NORMS
    activations: tuple[str, ...] = ACTIVATIONS

    def __post_init__(self) -> None:
        check_positive("num_layers", self.num_layers)
        known = {
            "hypotheses": HYPOTHESES,
            "distances": DISTANCES,
            "pools": POOLS,
            "norms": NORMS,
            "activations": ACTIVATIONS,
        }
        for field in dataclasses.fields(self)[1:]:
            choices = getattr(self, field.name)
            if isinstance(choices, str) or not isinstance(choices, Sequence):
                raise ValueError(f"{field.name} is {choices!r}; give a tuple of choices")
            choices = tuple(choices)
            object.__setattr__(self, field.name, choices)  # lists would not hash
            if not choices or len(set(choices)) != len(choices):
                raise ValueError(f"{field.name} is {choices!r}; give at least one choice and each only once")
            for choice in choices:
                if field.name in known:
                    check_name(f"an entry of {field.name}", choice, known[field.name])
                else:
                    check_positive(f"an entry of {field.name}", choice, odd=field.name.endswith("kernels"))

    @property
    def _layer_lists(self) -> tuple[tuple, ...]:
        return (self.channels, self.kernels, self.pools, self.pool_kernels, self.norms, self.activations)

    @property
    def _lists(self) -> tuple[tuple, ...]:
        return (self.hypotheses, self.distances, *self._layer_lists * self.num_layers)

    @property
    def num_tokens(self) -> int:
        """T, the length of a token sequence."""
        return 6 * self.num_layers + 2

    @property
    def choices_per_token(self) -> tuple[int, ...]:
        """How many values each of the T tokens can take."""
        return tuple(len(choices) for choices in self._lists)

    @property
    def position_names(self) -> tuple[str, ...]:
        """What each of the T tokens decides: "hypothesis", "distance", "layer1.channels", ..."""
        layers = range(1, self.num_layers + 1)
        return ("hypothesis", "distance", *(f"layer{i}.{role}" for i in layers for role in _LAYER_ROLES))

    @property
    def values_by_action(self) -> dict[str, tuple]:
        """The choices of each action class, by the names in `position_names` without their layer."""
        return dict(zip(("hypothesis", "distance", *_LAYER_ROLES), self._lists))

    @property
    def cardinality(self) -> int:
        """Number of token sequences, exactly; 3.86e23 for the paper's N = 6."""
        return math.prod(self.choices_per_token)

    @property
    def canonical_cardinality(self) -> int:
        """Number of different functions: sequences that are their own `canonical` form."""
        pooling = sum(1 if kernel == 1 else len(self.pools) for kernel in self.pool_kernels)
        others = (self.channels, self.kernels, self.norms, self.activations)
        per_layer = pooling * math.prod(len(choices) for choices in others)
        return len(self.hypotheses) * len(self.distances) * per_layer**self.num_layers

    def to_architecture(self, tokens: Any) -> Architecture:
        """Read a token sequence [T]; ValueError names position, value and limit of a token out of range."""
        tokens = np.asarray(tokens)
        if tokens.shape != (self.num_tokens,) or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(
                f"tokens have shape {tokens.shape} and type {tokens.dtype}; "
                f"give {self.num_tokens} integers for {self.num_layers} layers"
            )
        values = []
        for name, token, choices in zip(self.position_names, tokens.tolist(), self._lists):
            if not 0 <= token < len(choices):
                raise ValueError(f"token {name} is {token}; give an integer from 0 to {len(choices) - 1}")
            values.append(choices[token])
        layers = (dict(zip(_LAYER_ROLES, values[i : i + 6])) for i in range(2, len(values), 6))
        return Architecture(hypothesis=values[0], distance=values[1], layers=tuple(Layer(**layer) for layer in layers))

    def to_tokens(self, architecture: Architecture) -> np.ndarray:
        """Tokens [T] int32 of an architecture; ValueError names the position of a choice not in the space."""
        if len(architecture.layers) != self.num_layers:
            raise ValueError(
                f"architecture has {len(architecture.layers)} layers; this space holds only {self.num_layers}"
            )
        layer_values = (getattr(layer, role) for layer in architecture.layers for role in _LAYER_ROLES)
        values = (architecture.hypothesis, architecture.distance, *layer_values)
        tokens = []
        for name, value, choices in zip(self.position_names, values, self._lists):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; this space holds only {', '.join(map(str, choices))}")
            tokens.append(choices.index(value))
        return np.asarray(tokens, np.int32)

    def sample(self, key: Key, n: int) -> Array:
        """Draw n token sequences [n, T] int32, uniform over the space; jittable for static n."""
        # Remainders of 32 random bits: as uniform as anyone can measure for lists this short (bias below
        # count / 2^32), and a fraction of the compile time of jax.random.randint.
        limits = jnp.asarray(self.choices_per_token, jnp.uint32)
        return (jax.random.bits(key, (n, self.num_tokens), jnp.uint32) % limits[None]).astype(jnp.int32)

    def mutate(self, key: Key, tokens: Array) -> Array:
        """Change exactly one token of tokens [T] to a different value; jittable and vmappable.

        The position is uniform among those with more than one choice, the value uniform among the others.
        Raises ValueError if the space holds a single architecture.
        """
        chex.assert_shape(tokens, (self.num_tokens,))
        chex.assert_type(tokens, int)
        free = [i for i, count in enumerate(self.choices_per_token) if count > 1]
        if not free:
            raise ValueError("the space holds 1 architecture; give some list a second choice to mutate it")
        which, value = jax.random.bits(key, (2,), jnp.uint32)  # remainders, as in `sample`
        position = jnp.asarray(free)[which % len(free)]
        count = jnp.asarray(self.choices_per_token, jnp.uint32)[position]
        shift = (1 + value % (count - 1)).astype(tokens.dtype)
        return tokens.at[position].set((tokens[position] + shift) % count.astype(tokens.dtype))

    def canonical(self, tokens: Any) -> Any:
        """The representative of all sequences that describe the same function; tokens [..., T], same out.

        Pooling with kernel 1 does nothing, so the pool type becomes the first one there. NumPy in, NumPy out;
        a JAX array stays on device.
        """
        xp = jnp if isinstance(tokens, jax.Array) else np
        tokens = xp.asarray(tokens)
        if tokens.ndim < 1 or tokens.shape[-1] != self.num_tokens:
            raise ValueError(f"tokens have shape {tokens.shape}; the last axis must hold {self.num_tokens}")
        if 1 not in self.pool_kernels:
            return tokens
        idle = tokens[..., 5::6] == self.pool_kernels.index(1)
        pools = xp.where(idle, 0, tokens[..., 4::6])
        if xp is jnp:
            return tokens.at[..., 4::6].set(pools)
        tokens = tokens.copy()
        tokens[..., 4::6] = pools
        return tokens

    def enumerate(self, *, canonical: bool = False) -> Iterator[tuple[int, ...]]:
        """Every token sequence as a tuple of integers, in lexicographic order; only canonical ones if asked.

        Raises ValueError beyond a million.
        """
        count = self.canonical_cardinality if canonical else self.cardinality
        if count > ENUMERATION_LIMIT:
            raise ValueError(
                f"the space holds {count:.3g} sequences, at most {ENUMERATION_LIMIT} can be listed; sample it"
            )
        layer = [
            tokens
            for tokens in itertools.product(*(range(len(choices)) for choices in self._layer_lists))
            if not (canonical and tokens[2] > 0 and self.pool_kernels[tokens[3]] == 1)
        ]
        children = itertools.product(
            range(len(self.hypotheses)), range(len(self.distances)), *[layer] * self.num_layers
        )
        return ((hypothesis, distance, *sum(layers, ())) for hypothesis, distance, *layers in children)
