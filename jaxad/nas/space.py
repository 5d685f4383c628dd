"""The search space of AutoAD: which detectors may be built, and how tokens spell them.

An `Architecture` is what a person reads; a token sequence is what a strategy plays with; `SearchSpace` maps
one onto the other and draws, mutates, counts and enumerates. Nothing here knows how a network is built.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxad.nn.actions import ACTIONS, EXTRA_ACTIONS, Action, check_positive, known_actions
from jaxad.nn.architecture import Architecture, Layer
from jaxad.types import Array, Key

# Spaces up to this size can be listed in about a second.
ENUMERATION_LIMIT = 1_000_000

_PAPER = {action.name: action.standard for action in ACTIONS}


@dataclass(frozen=True, kw_only=True)
class SpaceChoices:
    """What a search space is made of; settings of a search have these fields, too."""

    num_layers: int = 3
    """Number of encoder layers N; the paper's space then has architectures of 6N + 2 tokens."""
    hypotheses: tuple[str, ...] = _PAPER["hypothesis"]
    """Anomaly hypotheses to choose from (REG of Eq. 2)."""
    distances: tuple[str, ...] = _PAPER["distance"]
    """Distances between reconstruction and image to choose from (DIST of Eq. 2)."""
    channels: tuple[int, ...] = _PAPER["channels"]
    """Numbers of output channels to choose from, layer by layer as all that follows."""
    kernels: tuple[int, ...] = _PAPER["kernel"]
    """Sizes of convolution kernels to choose from; odd."""
    pools: tuple[str, ...] = _PAPER["pool"]
    """Kinds of pooling to choose from."""
    pool_kernels: tuple[int, ...] = _PAPER["pool_kernel"]
    """Sizes and strides of pooling to choose from; odd, and 1 keeps the resolution."""
    norms: tuple[str, ...] = _PAPER["norm"]
    """Normalisations to choose from."""
    activations: tuple[str, ...] = _PAPER["activation"]
    """Activation functions to choose from."""
    extra: tuple[str, ...] = ()
    """Names of further actions to decide, beyond the paper's eight (see `jaxad.nn.actions`)."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace(SpaceChoices):
    """All children a search may choose from: T = 6 N + 2 tokens for N layers (Sec. III-A of AutoAD).

    Tokens are [hypothesis, distance], then per layer [channels, kernel, pool, pool_kernel, norm, activation];
    each is an index into the choice list of that name. The decoder mirrors the encoder and has no tokens.
    Every list may be replaced by a shorter or other one, of any names their tables know (`nn.choices`). `extra` names
    further actions (`nn.actions`) that are decided too: after the distance those of the child, after the activation
    those of a layer. Raises ValueError for an empty list, a repeated or an unknown choice, and for kernels that are
    not odd.
    """

    def __post_init__(self) -> None:
        check_positive("num_layers", self.num_layers)
        for action in ACTIONS:
            choices = self._tuple(action.plural)
            if not choices or len(set(choices)) != len(choices):
                raise ValueError(f"{action.plural} is {choices!r}; give at least one choice and each only once")
            for choice in choices:
                action.check(f"an entry of {action.plural}", choice)
        for name in self._tuple("extra"):
            EXTRA_ACTIONS.check("an entry of extra", name)
        if len(set(self.extra)) != len(self.extra):
            raise ValueError(f"extra is {self.extra!r}; give each action only once")
        for name, (guard, _) in self._idle.items():
            if guard not in self._layer or guard in self._idle:
                raise ValueError(
                    f"action {name!r} may be idle by {guard!r}; that must be an action of this space's layers which is "
                    "never idle itself"
                )

    @classmethod
    def of(cls, settings: SpaceChoices) -> "SearchSpace":
        """The space of settings that have its fields among others; raises as the constructor does."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(SpaceChoices)})

    def _tuple(self, field: str) -> tuple:
        values = getattr(self, field)
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ValueError(f"{field} is {values!r}; give a tuple of choices")
        object.__setattr__(self, field, tuple(values))  # lists would not hash
        return tuple(values)

    # ---- what the table of actions says of this space, in the order of the tokens -----------------------------------

    def _actions(self, scope: str) -> list[Action]:
        known = known_actions(scope)
        return [known[action.name] for action in ACTIONS if action.name in known] + [
            known[name] for name in self.extra if name in known
        ]

    def _choices(self, scope: str) -> dict[str, tuple]:
        return {
            action.name: getattr(self, action.plural) if action.plural else action.standard
            for action in self._actions(scope)
        }

    @functools.cached_property
    def _child(self) -> dict[str, tuple]:
        """Choices of the actions that a child decides once."""
        return self._choices("child")

    @functools.cached_property
    def _layer(self) -> dict[str, tuple]:
        """Choices of the actions that every layer decides."""
        return self._choices("layer")

    @functools.cached_property
    def _idle(self) -> dict[str, tuple[str, Any]]:
        """Actions of a layer that make no difference beside a choice of another: name -> (other, choice)."""
        return {action.name: action.idle for action in self._actions("layer") if action.idle is not None}

    @property
    def _lists(self) -> tuple[tuple, ...]:
        return (*self._child.values(), *tuple(self._layer.values()) * self.num_layers)

    @property
    def num_tokens(self) -> int:
        """T, the length of a token sequence."""
        return len(self._child) + len(self._layer) * self.num_layers

    @property
    def choices_per_token(self) -> tuple[int, ...]:
        """How many values each of the T tokens can take."""
        return tuple(len(choices) for choices in self._lists)

    @property
    def position_names(self) -> tuple[str, ...]:
        """What each of the T tokens decides: "hypothesis", "distance", "layer1.channels", ..."""
        layers = range(1, self.num_layers + 1)
        return (*self._child, *(f"layer{i}.{name}" for i in layers for name in self._layer))

    @property
    def values_by_action(self) -> dict[str, tuple]:
        """The choices of each action class, by the names in `position_names` without their layer."""
        return self._child | self._layer

    @property
    def cardinality(self) -> int:
        """Number of token sequences, exactly; 3.86e23 for the paper's N = 6."""
        return math.prod(self.choices_per_token)

    @property
    def canonical_cardinality(self) -> int:
        """Number of different functions: sequences that are their own `canonical` form."""
        involved = set(self._idle) | {guard for guard, _ in self._idle.values()}
        layers = itertools.product(*(range(len(self._layer[name])) for name in self._layer if name in involved))
        names = [name for name in self._layer if name in involved]
        different = sum(self._is_canonical(dict(zip(names, layer))) for layer in layers)
        others = math.prod(len(choices) for name, choices in self._layer.items() if name not in involved)
        return math.prod(map(len, self._child.values())) * (different * others) ** self.num_layers

    def _is_canonical(self, layer: Mapping[str, int]) -> bool:
        """Whether all idle actions of a layer, given as tokens by name, have their first choice."""
        return all(
            layer[name] == 0 or self._layer[guard][layer[guard]] != choice
            for name, (guard, choice) in self._idle.items()
        )

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
        start, size = len(self._child), len(self._layer)
        layers = (Layer(**self._fields(self._layer, values[i : i + size])) for i in range(start, self.num_tokens, size))
        return Architecture(**self._fields(self._child, values[:start]), layers=tuple(layers))

    def _fields(self, names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
        """Values as fields of a `Layer` or an `Architecture`."""
        named = dict(zip(names, values))
        return {"extra": {name: named.pop(name) for name in self.extra if name in named}} | named

    def to_tokens(self, architecture: Architecture) -> np.ndarray:
        """Tokens [T] int32 of an architecture; ValueError names the position of a choice not in the space."""
        if len(architecture.layers) != self.num_layers:
            raise ValueError(
                f"architecture has {len(architecture.layers)} layers; this space holds only {self.num_layers}"
            )
        for owner in (architecture, *architecture.layers):
            for name, choice in owner.extra:
                if name not in self.extra:
                    raise ValueError(f"{name} is {choice!r}; this space does not decide it: name it in extra")
        layer_values = (layer.choice(name) for layer in architecture.layers for name in self._layer)
        values = (*(architecture.choice(name) for name in self._child), *layer_values)
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

        Where an action is idle its choice becomes the first one: pooling with kernel 1 does nothing, so the pool type
        does not matter there. NumPy in, NumPy out; a JAX array stays on device.
        """
        xp = jnp if isinstance(tokens, jax.Array) else np
        tokens = xp.asarray(tokens)
        if tokens.ndim < 1 or tokens.shape[-1] != self.num_tokens:
            raise ValueError(f"tokens have shape {tokens.shape}; the last axis must hold {self.num_tokens}")
        places = {name: slice(i, None, len(self._layer)) for i, name in enumerate(self._layer, start=len(self._child))}
        result = tokens if xp is jnp else tokens.copy()
        for name, (guard, choice) in self._idle.items():
            if choice in self._layer[guard]:
                idle = tokens[..., places[guard]] == self._layer[guard].index(choice)
                first = xp.where(idle, 0, tokens[..., places[name]])
                if xp is jnp:
                    result = result.at[..., places[name]].set(first)
                else:
                    result[..., places[name]] = first
        return result

    def enumerate(self, *, canonical: bool = False) -> Iterator[tuple[int, ...]]:
        """Every token sequence as a tuple of integers, in lexicographic order; only canonical ones if asked.

        Raises ValueError beyond a million.
        """
        count = self.canonical_cardinality if canonical else self.cardinality
        if count > ENUMERATION_LIMIT:
            raise ValueError(
                f"the space holds {count:.3g} sequences, at most {ENUMERATION_LIMIT} can be listed; sample it"
            )
        names = tuple(self._layer)
        layer = [
            tokens
            for tokens in itertools.product(*(range(len(choices)) for choices in self._layer.values()))
            if not canonical or self._is_canonical(dict(zip(names, tokens)))
        ]
        first = itertools.product(*(range(len(choices)) for choices in self._child.values()))
        children = itertools.product(first, *[layer] * self.num_layers)
        return (sum(parts, ()) for parts in children)
