"""An architecture of the search space: what a person reads, a network is built from and a detector is saved with."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from jaxad._utils.files import fields_from_json
from jaxad.nn.actions import ACTIONS, EXTRA_ACTIONS, OPTIONAL_ACTIONS
from jaxad.nn.layers import NORMS

Extra = tuple[tuple[str, str], ...]
"""(action, choice) of what is decided beyond the paper's actions and is not the default, in the order of names."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One encoder layer and, mirrored, one decoder layer: conv -> pool -> norm -> activation.

    Raises ValueError for channels that are not positive, kernels that are not odd, unknown names.
    """

    channels: int
    kernel: int
    pool: str
    pool_kernel: int  # also the pooling stride; 1 keeps the resolution
    norm: str
    activation: str
    extra: Extra = ()  # may be given as a mapping; an action that is not named has its default

    def __post_init__(self) -> None:
        for action in ACTIONS:
            if action.scope == "layer":
                action.check(action.name, getattr(self, action.name))
        object.__setattr__(self, "extra", _checked(self.extra, "layer"))

    @property
    def vectors(self) -> dict[str, float]:
        """The vectors [C] that the layer trains beside its kernel, by name, and the value each starts from."""
        vectors = {"scale": 1.0, "offset": 0.0} if NORMS[self.norm].scaled else {"offset": 0.0}
        for name, choice in self.extra:
            action = EXTRA_ACTIONS[name]
            vectors |= {action.key(vector): value for vector, value in action.vectors(choice).items()}
        return vectors

    def choice(self, action: str) -> Any:
        """What the layer decides of an action: for one that it does not mention, the default."""
        return _choice(self, action)

    def to_json(self) -> dict[str, Any]:
        """Plain dict of strings and integers."""
        return _record(self)

    @classmethod
    def from_json(cls, record: Any, name: str = "layer") -> "Layer":
        """Inverse of `to_json`; ValueError names a missing, unknown or misplaced field."""
        return _from_record(cls, record, name, "layer")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A complete child: anomaly hypothesis, distance and the layers from the image inwards.

    `distance` may be a sum such as "l21+ssim" (Table IV uses one) although no token stands for it. The child trains on
    its distance; `aggregate` says how the distance's map becomes the score of an image.
    Raises ValueError for unknown names and for an architecture without layers.
    """

    hypothesis: str
    distance: str
    layers: tuple[Layer, ...]
    input: str = "pixels"  # what it sees, one of `nn.actions.INPUTS`
    aggregate: str = "mean"  # one of `nn.objectives.aggregates.AGGREGATES`
    extra: Extra = ()  # what the child as a whole decides beyond that, as in `Layer`

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for action in (*ACTIONS, *OPTIONAL_ACTIONS):
            if action.scope == "child":
                value = getattr(self, action.name)
                for part in str(value).split("+") if action.name == "distance" else [value]:
                    action.check(action.name, part)
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"layers is {self.layers!r}; give at least one Layer and nothing else")
        object.__setattr__(self, "extra", _checked(self.extra, "child"))

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    def choice(self, action: str) -> Any:
        """What the child decides of an action: for one that it does not mention, the default."""
        return _choice(self, action)

    def to_json(self) -> dict[str, Any]:
        """Plain dict of strings, integers and lists, ready for `json.dump`; what is as by default is left out."""
        return _record(self) | {"layers": [layer.to_json() for layer in self.layers]}

    @classmethod
    def from_json(cls, record: Any, name: str = "architecture") -> "Architecture":
        """Inverse of `to_json`; ValueError names a missing, unknown or misplaced field."""
        return _from_record(cls, record, name, "child")


def _checked(extra: Mapping[str, str] | Iterable[tuple[str, str]], scope: str) -> Extra:
    """Choices of further actions, without those that are defaults."""
    kept = []
    for name, choice in sorted(dict(extra).items()):
        EXTRA_ACTIONS.check(f"an action of the {scope}", name)
        action = EXTRA_ACTIONS[name]
        if action.scope != scope:
            raise ValueError(f"action {name!r} of the {scope} is one of the {action.scope}; give it there")
        action.check(name, choice)
        if choice != action.default:
            kept.append((name, choice))
    return tuple(kept)


def _choice(owner: Layer | Architecture, action: str) -> Any:
    if action in EXTRA_ACTIONS:
        return dict(owner.extra).get(action, EXTRA_ACTIONS[action].default)
    return getattr(owner, action)


def _own_fields(cls: type) -> dict[str, Any]:
    """Name -> default, `MISSING` where there is none."""
    return {field.name: field.default for field in fields(cls) if field.name != "extra"}


def _record(owner: Layer | Architecture) -> dict[str, Any]:
    values = {name: (getattr(owner, name), default) for name, default in _own_fields(type(owner)).items()}
    own = {name: value for name, (value, default) in values.items() if value != default}
    # Further actions stand beside the others, so that files do not depend on who defined an action.
    return own | dict(owner.extra)


def _from_record(cls: type, record: Any, name: str, scope: str) -> Any:
    given = record if isinstance(record, dict) else {}
    own, extra = [key for key, default in _own_fields(cls).items() if default is MISSING or key in given], {}
    if isinstance(record, dict):
        extra = {key: value for key, value in record.items() if key not in own and key in EXTRA_ACTIONS}
        record = {key: value for key, value in record.items() if key not in extra}
        unknown = sorted(set(record) - set(own))
        if unknown and set(own) <= set(record):
            raise ValueError(f"{name} decides {', '.join(unknown)}; import first what adds such actions of the {scope}")
    return cls(**fields_from_json(cls, record, name, own), extra=extra)
