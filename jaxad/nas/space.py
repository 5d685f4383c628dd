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

from jaxad.nas.space_choices import FEATURE_CHOICES, PAPER_CHOICES, SpaceChoices
from jaxad.nn.actions import ACTIONS, EXTRA_ACTIONS, OPTIONAL_ACTIONS, Action, check_positive, known_actions
from jaxad.nn.architecture import Architecture, Layer
from jaxad.types import Array, Key

# Spaces up to this size can be listed in about a second.
ENUMERATION_LIMIT = 1_000_000
MOST_LAYERS = 1000  # ten times as many as any network of its kind has


@dataclass(frozen=True, kw_only=True)
class SearchSpace(SpaceChoices):
    """All children a search may choose from: T = 6 N + 2 tokens for N layers (AutoAD, section IV-A).

    Tokens are [hypothesis, distance], then per layer [channels, kernel, pool, pool_kernel, norm, activation];
    each is an index into the choice list of that name. The decoder mirrors the encoder and has no tokens.
    Every list may be replaced by a shorter or other one, of any names their tables know (`nn.choices`).

    Beyond the paper, after the distance follow tokens of the input and the aggregate where there are several of these
    to choose from, of the depth (`min_layers` to `num_layers`) where it varies, and of the actions of the child that
    `extra` names (`nn.actions`); actions of a layer follow its activation. Sequences are of one length: the tokens of
    layers beyond the depth are idle. Raises ValueError for an empty list, a repeated or an unknown choice, kernels that
    are not odd, and for numbers of layers out of range.
    """

    def __post_init__(self) -> None:
        for name, default in PAPER_CHOICES.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        check_positive("num_layers", self.num_layers)
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers is {self.num_layers}; the most is {MOST_LAYERS}")
        if self.min_layers is not None:
            check_positive("min_layers", self.min_layers)
            if self.min_layers > self.num_layers:
                raise ValueError(f"min_layers is {self.min_layers}; the most is num_layers, {self.num_layers}")
        for action in (*ACTIONS, *OPTIONAL_ACTIONS):
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

    @classmethod
    def features(cls, **changes: Any) -> "SearchSpace":
        """The space of `FEATURE_CHOICES`, its fields changed to those that are not None; raises as the constructor."""
        return cls(**FEATURE_CHOICES | {name: value for name, value in changes.items() if value is not None})

    def _tuple(self, field: str) -> tuple:
        values = getattr(self, field)
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ValueError(f"{field} is {values!r}; give a tuple of choices")
        object.__setattr__(self, field, tuple(values))  # lists would not hash
        return tuple(values)

    # ---- what the table of actions says of this space, in the order of the tokens -----------------------------------

    def _actions(self, scope: str) -> list[Action]:
        known = known_actions(scope)
        ours = [action for action in OPTIONAL_ACTIONS if len(getattr(self, action.plural)) > 1]
        return [known[action.name] for action in (*ACTIONS, *ours) if action.name in known] + [
            known[name] for name in self.extra if name in known
        ]

    def _choices(self, scope: str) -> dict[str, tuple]:
        return {
            action.name: getattr(self, action.plural) if action.plural else action.standard
            for action in self._actions(scope)
        }

    @functools.cached_property
    def _child(self) -> dict[str, tuple]:
        """Choices of what a child decides once: its actions and, where it varies, the depth."""
        choices = self._choices("child")
        if len(self.depths) == 1:
            return choices
        further = {name: choices.pop(name) for name in self.extra if name in choices}
        return choices | {"depth": self.depths} | further

    @functools.cached_property
    def _fixed(self) -> dict[str, str]:
        """Our actions of which there is one choice only, and therefore no token."""
        lists = {action.name: getattr(self, action.plural) for action in OPTIONAL_ACTIONS}
        return {name: choices[0] for name, choices in lists.items() if len(choices) == 1}

    @functools.cached_property
    def _layer(self) -> dict[str, tuple]:
        """Choices of the actions that every layer decides."""
        return self._choices("layer")

    @functools.cached_property
    def _idle(self) -> dict[str, tuple[str, Any]]:
        """Actions of a layer that make no difference beside a choice of another: name -> (other, choice)."""
        return {action.name: action.idle for action in self._actions("layer") if action.idle is not None}

    @property
    def depths(self) -> tuple[int, ...]:
        """The numbers of layers that architectures may have."""
        return tuple(range(self.num_layers if self.min_layers is None else self.min_layers, self.num_layers + 1))

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
        children = math.prod(len(choices) for name, choices in self._child.items() if name != "depth")
        return children * sum((different * others) ** depth for depth in self.depths)

    @property
    def _layers_words(self) -> str:
        return f"{self.num_layers}" if len(self.depths) == 1 else f"{self.depths[0]} to {self.num_layers}"

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
                f"give {self.num_tokens} integers for {self._layers_words} layers"
            )
        values = []
        for name, token, choices in zip(self.position_names, tokens.tolist(), self._lists):
            if not 0 <= token < len(choices):
                raise ValueError(f"token {name} is {token}; give an integer from 0 to {len(choices) - 1}")
            values.append(choices[token])
        start, size = len(self._child), len(self._layer)
        child = self._fixed | self._fields(self._child, values[:start])
        end = start + size * child.pop("depth", self.num_layers)
        layers = (Layer(**self._fields(self._layer, values[i : i + size])) for i in range(start, end, size))
        return Architecture(**child, layers=tuple(layers))

    def _fields(self, names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
        """Values as fields of a `Layer` or an `Architecture`."""
        named = dict(zip(names, values))
        return {"extra": {name: named.pop(name) for name in self.extra if name in named}} | named

    def to_tokens(self, architecture: Architecture) -> np.ndarray:
        """Tokens [T] int32 of an architecture, zeros beyond its depth.

        ValueError names the position of a choice that is not in the space.
        """
        if architecture.depth not in self.depths:
            raise ValueError(
                f"architecture has {architecture.depth} layers; this space holds only {self._layers_words}"
            )
        for name, choice in self._fixed.items():
            if architecture.choice(name) != choice:
                raise ValueError(f"{name} is {architecture.choice(name)!r}; this space holds only {choice}")
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
        return np.asarray(tokens + [0] * (self.num_tokens - len(tokens)), np.int32)

    def sample(self, key: Key, n: int) -> Array:
        """Draw n token sequences [n, T] int32, uniform over all sequences; jittable for static n."""
        # Remainders of 32 random bits: as uniform as anyone can measure for lists this short (bias below
        # count / 2^32), and a fraction of the compile time of jax.random.randint.
        limits = jnp.asarray(self.choices_per_token, jnp.uint32)
        return (jax.random.bits(key, (n, self.num_tokens), jnp.uint32) % limits[None]).astype(jnp.int32)

    def mutate(self, key: Key, tokens: Array) -> Array:
        """Change exactly one token of tokens [T] to a different value; jittable and vmappable.

        The position is uniform among those with more than one choice, without those of layers beyond the depth of
        `tokens`; the value is uniform among the others. A child that becomes deeper finds in its new layers what the
        tokens there happen to be. Raises ValueError if the space holds a single architecture.
        """
        chex.assert_shape(tokens, (self.num_tokens,))
        chex.assert_type(tokens, int)
        free = [i for i, count in enumerate(self.choices_per_token) if count > 1]
        if not free:
            raise ValueError("the space holds 1 architecture; give some list a second choice to mutate it")
        which, value = jax.random.bits(key, (2,), jnp.uint32)  # remainders, as in `sample`
        used = len(free)
        if len(self.depths) > 1:  # positions of deeper layers come last
            used = jnp.asarray(self._used[:, free].sum(1), jnp.uint32)[tokens[self._depth_place]]
        position = jnp.asarray(free)[which % used]
        count = jnp.asarray(self.choices_per_token, jnp.uint32)[position]
        shift = (1 + value % (count - 1)).astype(tokens.dtype)
        return tokens.at[position].set((tokens[position] + shift) % count.astype(tokens.dtype))

    def canonical(self, tokens: Any) -> Any:
        """The representative of all sequences that describe the same function; tokens [..., T], same out.

        Where an action is idle its choice becomes the first one: pooling with kernel 1 does nothing, so the pool type
        does not matter there, and nothing matters in layers beyond the depth. NumPy in, NumPy out; a JAX array stays
        on device.
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
        if len(self.depths) == 1:
            return result
        return xp.where(xp.asarray(self._used)[tokens[..., self._depth_place]], result, 0)

    @property
    def _depth_place(self) -> int:
        return list(self._child).index("depth")

    @property
    def _used(self) -> np.ndarray:
        """Whether a token matters at each depth: [depths, T] booleans."""
        layers = np.repeat(np.arange(1, self.num_layers + 1), len(self._layer))
        needed = np.concatenate([np.zeros(len(self._child), int), layers])
        return needed[None] <= np.array(self.depths)[:, None]

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
        idle = [(0,) * len(self._layer)]

        def parts() -> Iterator[tuple[tuple[int, ...], ...]]:
            for first in itertools.product(*(range(len(choices)) for choices in self._child.values())):
                depth = dict(zip(self._child, first)).get("depth", -1)
                used = self.depths[depth] if canonical else self.num_layers
                yield from itertools.product([first], *[layer] * used, *[idle] * (self.num_layers - used))

        return (sum(sequence, ()) for sequence in parts())
