"""What is compared when strategies are: the spaces, from one that a table can hold upwards, and the strategies."""

from collections.abc import Collection

from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad import AutoADConfig, ablations, autoad
from jaxad.nas.strategies.registry import make_strategy
from jaxad.types import Search

SPACES = {
    "tiny": SearchSpace(
        num_layers=1, hypotheses=("centroid", "reconstruction"), distances=("l1", "ssim"), channels=(4,),
        kernels=(1, 3), pool_kernels=(1, 3), norms=("none", "batch", "instance"), activations=("relu", "linear"),
    ),
    "small": SearchSpace(
        num_layers=1, channels=(8, 32), kernels=(1, 3), pool_kernels=(1, 3),
        activations=("relu", "tanh", "sigmoid", "linear"),
    ),
    "two-layer": SearchSpace(
        num_layers=2, channels=(8,), kernels=(1, 3), pool_kernels=(1, 3), norms=("none", "batch"),
        activations=("relu", "tanh"),
    ),
    "medium": SearchSpace(num_layers=2, channels=(8, 16, 32)),
}  # fmt: skip
"""Sequences: tiny 192, small 3,072 (of one layer), two-layer 16,384, all for tables; medium 85 million (of two)."""

SCRATCH = "random-from-scratch"
"""Random search whose children share no weights: a strategy of real searches alone."""

CAN_BE_LEFT_OUT = ("no-curiosity", "no-replay", "no-sharpening", "plain-lstm", "paper", "evolution", SCRATCH)


def contenders(
    space: SearchSpace, controller: AutoADConfig, *, population: int, without: Collection[str] = ()
) -> dict[str, Search]:
    """The controller, each of its parts left out, the paper's settings, random search and evolution, by name.

    Args:
      controller: its settings.
      population: proposals of one iteration.
      without: names to leave out.
    """
    settings = ablations(controller) | {"paper": AutoADConfig.paper()}
    found = {name: autoad(space, population=population, config=config) for name, config in settings.items()}
    for name in ("random", "evolution"):
        found[name] = make_strategy(name, space, population=population)
    return {name: search for name, search in found.items() if name not in without}


def pairs_of(names: Collection[str]) -> list[tuple[str, str]]:
    """Who is compared with whom: the controller with all others, evolution and sharing weights with random search."""
    pairs = [("autoad", name) for name in names if name != "autoad"] + [("evolution", "random"), ("random", SCRATCH)]
    return [pair for pair in pairs if set(pair) <= set(names)]
