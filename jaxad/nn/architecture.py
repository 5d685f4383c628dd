"""An architecture of the search space: what a person reads, a network is built from and a detector is saved with."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from jaxad._utils.files import from_json

HYPOTHESES = ("density", "cluster", "centroid", "reconstruction")
DISTANCES = ("l1", "l2", "l21", "ssim")
POOLS = ("max", "average")
NORMS = ("none", "batch", "instance")
ACTIVATIONS = ("sigmoid", "tanh", "relu", "linear", "softplus", "leaky_relu", "relu6", "elu")


def check_name(role: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{role} is {value!r}; choose one of {', '.join(known)}")


def check_positive(role: str, value: Any, *, odd: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (odd and value % 2 == 0):
        raise ValueError(f"{role} is {value!r}; give {'an odd' if odd else 'a'} positive integer")


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

    def __post_init__(self) -> None:
        check_positive("channels", self.channels)
        check_positive("kernel", self.kernel, odd=True)
        check_positive("pool_kernel", self.pool_kernel, odd=True)
        check_name("pool", self.pool, POOLS)
        check_name("norm", self.norm, NORMS)
        check_name("activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A complete child: anomaly hypothesis, distance and the layers from the image inwards.

    `distance` may be a sum such as "l21+ssim" (Table IV uses one) although no token stands for it.
    Raises ValueError for unknown names and for an architecture without layers.
    """

    hypothesis: str
    distance: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        check_name("hypothesis", self.hypothesis, HYPOTHESES)
        for part in str(self.distance).split("+"):
            check_name("distance", part, DISTANCES)
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"layers is {self.layers!r}; give at least one Layer and nothing else")

    def to_json(self) -> dict[str, Any]:
        """Plain dict of strings, integers and lists, ready for `json.dump`."""
        record = dataclasses.asdict(self)
        return {**record, "layers": list(record["layers"])}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Architecture":
        """Inverse of `to_json`; ValueError names a missing, unknown or misplaced field."""
        return from_json(cls, record, "architecture")
