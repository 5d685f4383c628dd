"""The actions of the search space: everything that an architecture decides, each said once.

The paper's eight (AutoAD, section IV-A) are `ACTIONS`; what they do is written out in `nn.autoencoder`, and what each
of their names means stands in a table of its own (see `nn.choices`). Two are ours, `OPTIONAL_ACTIONS`: what a child
sees, and how its map becomes a score. A further action is one entry, `add_action`: its
name, its choices, where and how they act, and what they cost. Tokens, names of positions, the size of the space,
canonical forms, shares of the shared weights, both executors, files, tables and plots follow from it. A search decides
it where its space says so, and architectures that do not mention it have its default, which does nothing.

    >>> from jaxad.nas.space import SearchSpace
    >>> from jaxad.nn.actions import Action, Step, add_action
    >>> def add(features, inputs):  # a residual connection, where sizes and channels allow it
    ...     return features if inputs is None else features + inputs
    >>> _ = add_action(Action(name="shortcut", after="activation", sees_inputs=True, choices={"add": Step(add)}))
    >>> SearchSpace(num_layers=1, extra=("shortcut",)).position_names[-1]
    'layer1.shortcut'
    >>> SearchSpace(num_layers=1).position_names[-1]
    'layer1.activation'
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxad.nn.choices import Choices, OneOf, choose
from jaxad.nn.layers import ACTIVATIONS, NORMS, POOLS
from jaxad.nn.objectives import HYPOTHESES
from jaxad.nn.objectives.aggregates import AGGREGATES
from jaxad.nn.objectives.distances import DISTANCES
from jaxad.types import Array

PLACES = {
    "image": "child",  # before the first layer
    "conv": "layer",  # after CONV and DECONV
    "pool": "layer",  # after POOL in the encoder, after UPPOOL in the decoder
    "norm": "layer",  # after NORMA, before its scale and offset
    "activation": "layer",  # after ACT
    "latent": "child",  # after the last layer of the encoder
    "reconstruction": "child",  # after the last layer of the decoder
}
"""Where a further action may act, and whether every layer decides it or the child as a whole."""


def no_flops(height: int, width: int, channels: int) -> int:
    """What element-wise operations count for in `nn.cost`, as is usual."""
    return 0


class Step(NamedTuple):
    """One choice of a further action: what it does, and what it costs.

    `apply` is a pure function of features [B, H, W, C] that keeps their shape. It treats every image and every channel
    by itself, as the sequential executor cuts channels into blocks, and draws no random numbers.
    """

    # (features, **vectors) -> features, or (features, inputs, **vectors) where the action sees inputs. Vectors come as
    # [1, 1, 1, C].
    apply: Callable[..., Array]
    vectors: Mapping[str, float] = MappingProxyType({})  # trained numbers, one a channel: name -> value they start from
    flops: Callable[[int, int, int], int] = no_flops  # (height, width, channels) -> operations for one image


@dataclass(frozen=True, kw_only=True, eq=False)
class Action:
    """Something that an architecture decides. Raises ValueError where its parts do not fit together."""

    name: str
    """Names its tokens and its field in files; a singular noun, such as "norm"."""
    choices: Mapping[str, Any] | tuple[int, ...]
    """A table of what its names mean, or numbers. Of a further action: name -> `Step` of all but the default."""
    after: str | None = None
    """The place, in `PLACES`, where a further action acts; None for the paper's, which `nn.autoencoder` spells out, and
    for ours."""
    sees_inputs: bool = False
    """Whether a further action is also given what its layer received (after "reconstruction": the image), or None
    where that is of another height, width or number of channels."""
    default: str | None = None
    """What architectures have that do not mention the action; "none", which does nothing, of a further action unless it
    says otherwise. None of the paper's, which all architectures mention."""
    idle: tuple[str, Any] | None = None
    """(name of another action, its choice) with which this one makes no difference, within one layer."""
    scope: str = "layer"
    """Whether every "layer" decides it or the "child" as a whole; follows from the place of a further action."""
    label: str = ""
    """How tables of architectures call it; by default its name."""
    plural: str = ""
    """Name of its list in `SearchSpace`; of the paper's actions and ours only."""
    window: bool = False
    """Whether its numbers k are odd, and stand for windows of k x k."""
    standard: tuple = field(init=False)
    """The choices a search space holds unless it says otherwise, in the order of the token."""

    def __post_init__(self) -> None:
        choices, standard = self.choices, self.choices
        if self.after is not None:
            if self.after not in PLACES:
                raise ValueError(f"action {self.name!r} acts after {self.after!r}; choose one of {', '.join(PLACES)}")
            object.__setattr__(self, "scope", PLACES[self.after])
            object.__setattr__(self, "default", self.default or "none")
            if not choices or self.default in choices:
                raise ValueError(
                    f"action {self.name!r} has choices {sorted(choices)}; give at least one beside its default "
                    f"{self.default!r}, which does nothing and is not listed"
                )
            choices = {name: step if isinstance(step, Step) else Step(step) for name, step in choices.items()}
            if self.scope == "child" and any(step.vectors for step in choices.values()):
                raise ValueError(f"action {self.name!r} trains vectors, which only layers hold; let it act in a layer")
            standard = (self.default, *choices)
            choices = MappingProxyType(choices)
        elif isinstance(choices, Choices):
            standard = choices.standard
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "standard", tuple(standard))
        object.__setattr__(self, "label", self.label or self.name.replace("_", " ").capitalize())

    def check(self, role: str, value: Any) -> None:
        """ValueError, which says that `role` is this value, unless it may be chosen."""
        if isinstance(self.choices, Choices):
            self.choices.check(role, value)
        elif self.after is None:
            check_positive(role, value, odd=self.window)
        elif value not in self.standard:
            raise ValueError(f"{role} is {value!r}; choose one of {', '.join(self.standard)}")

    # ---- of further actions only ----------------------------------------------------------------------------------

    def apply(self, choice: str | OneOf, features: Array, inputs: Array | None, vectors: Mapping[str, Array]) -> Array:
        """What a choice, which may be known at run time only, makes of features [B, H, W, C]: the same shape.

        Args:
          inputs: what the layer received; of another shape it is as good as none.
          vectors: [C] by name, at least those of the choice.
        """
        inputs = inputs if self.sees_inputs and inputs is not None and inputs.shape == features.shape else None

        def option(step: Step) -> Callable[..., Array]:
            def call(features: Array, inputs: Array | None, vectors: Mapping[str, Array]) -> Array:
                own = {name: vectors[name][None, None, None] for name in step.vectors}
                seen = (inputs,) if self.sees_inputs else ()
                result = step.apply(features, *seen, **own)
                if result.shape != features.shape:
                    raise ValueError(
                        f"action {self.name!r} makes {result.shape} of {features.shape}; it must keep the shape"
                    )
                return result

            return call

        nothing = {self.default: lambda features, *_: features}
        return choose(nothing | {n: option(s) for n, s in self.choices.items()}, choice, features, inputs, vectors)

    def vectors(self, choice: str) -> dict[str, float]:
        """Names and first values of the vectors that a choice trains; the default trains none."""
        return {} if choice == self.default else dict(self.choices[choice].vectors)

    def flops(self, choice: str, height: int, width: int, channels: int) -> int:
        """Operations of a choice for the features of one image."""
        return 0 if choice == self.default else self.choices[choice].flops(height, width, channels)

    def key(self, vector: str) -> str:
        """Name of a vector among the weights of a layer."""
        return f"{self.name}.{vector}"


def check_positive(role: str, value: Any, *, odd: bool = False) -> None:
    """ValueError, which says that `role` is this value, unless it is a positive, or odd, integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (odd and value % 2 == 0):
        raise ValueError(f"{role} is {value!r}; give {'an odd' if odd else 'a'} positive integer")


ACTIONS = (
    Action(name="hypothesis", plural="hypotheses", choices=HYPOTHESES, scope="child", label="Definition hypothesis"),
    Action(name="distance", plural="distances", choices=DISTANCES, scope="child", label="Distance measurement"),
    Action(name="channels", plural="channels", choices=(3, 8, 16, 32, 64, 128, 256), label="Output channels"),
    Action(name="kernel", plural="kernels", choices=(1, 3, 5, 7), window=True, label="Convolution kernel"),
    Action(name="pool", plural="pools", choices=POOLS, idle=("pool_kernel", 1), label="Pooling type"),
    Action(name="pool_kernel", plural="pool_kernels", choices=(1, 3, 5, 7), window=True, label="Pooling kernel"),
    Action(name="norm", plural="norms", choices=NORMS, label="Normalization type"),
    Action(name="activation", plural="activations", choices=ACTIVATIONS, label="Activation function"),
)
"""The paper's eight, in the order of the tokens: first of the child, then of each layer."""

INPUTS: Choices[str] = Choices(
    "input",
    {"pixels": "the image itself"},
    {
        "shallow": "features of an early stage of a fixed network",
        "deep": "features of a late stage of it",
        "both": "features of both stages, side by side at the resolution of the early one",
    },
)
"""Name -> what a child sees, in words: whoever trains children has the arrays."""

OPTIONAL_ACTIONS = (
    Action(name="input", plural="inputs", choices=INPUTS, default="pixels", scope="child"),
    Action(
        name="aggregate", plural="aggregates", choices=AGGREGATES, default="mean", scope="child",
        label="Aggregate of the map",
    ),
)  # fmt: skip
"""Ours: a search space has tokens for those it holds several choices of; architectures mention what is not default."""

EXTRA_ACTIONS: Choices[Action] = Choices("action", {})
"""Further actions by name, see `add_action`."""


def add_action(action: Action, *, replace: bool = False) -> Action:
    """Make a further action known under its name; search spaces hold it where they say so (`SearchSpace.extra`).

    Args:
      replace: whether an action that was added before may get another meaning, as when a notebook's cell runs again.

    Returns:
      The action.

    Raises:
      ValueError: an action that acts nowhere, or a name that is no identifier or is taken.
    """
    if action.after is None:
        raise ValueError(f"action {action.name!r} acts nowhere; give after=, one of {', '.join(PLACES)}")
    taken = {known.name for known in (*ACTIONS, *OPTIONAL_ACTIONS)}
    if action.name in taken | {"layers", "depth", "extra", "scale", "offset"}:
        raise ValueError(f"action {action.name!r} is known already; give another name")
    return EXTRA_ACTIONS.add(action.name, action, replace=replace)


def known_actions(scope: str) -> dict[str, Action]:
    """All actions of a scope by name: the paper's in their order, then ours, then those that were added."""
    every = (*ACTIONS, *OPTIONAL_ACTIONS, *EXTRA_ACTIONS.values())
    return {action.name: action for action in every if action.scope == scope}
