"""The search strategies by name: `@strategy` on a constructor is all that adds one.

    @strategy("mine", "What it is, in a sentence.")
    def mine(space: SearchSpace, *, population: int = 1, greed: float = 0.5) -> Search: ...

A file in this package is found there; one elsewhere counts once it has been imported.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from jaxad._utils.registry import Registry
from jaxad.nas.space import SearchSpace
from jaxad.types import Search

Build = TypeVar("Build", bound=Callable[..., Search])


class StrategyEntry(NamedTuple):
    """A strategy that proposes architectures."""

    name: str
    summary: str  # what it is, in one sentence with its source
    build: Callable[..., Search]  # (space, *, population, ...) -> search
    uniform: float  # so many first proposals are uniform, whatever their rewards; those of the first `ask` always are
    config: type | None  # of its options, where a search has a field of them

    @property
    def usage(self) -> str:
        """How it is written on a command line."""
        return self.name

    def num_uniform(self, children: int, population: int) -> int:
        """How many of all children were proposed before the strategy had anything to learn from."""
        return int(min(children, max(self.uniform, population)))


STRATEGIES: Registry[StrategyEntry] = Registry("strategy", "jaxad.nas.strategies")
"""Every strategy by name; asking for one imports that one alone."""


def strategy(name: str, summary: str, *, uniform: float = 0, config: type | None = None) -> Callable[[Build], Build]:
    """Register a constructor of strategies: a decorator that leaves it as it is.

    Args:
      name: by which the command line and `jaxad.search` know it; a Python name, best that of its module.
      summary: what it is, in one sentence with its source.
      uniform: how many of the first proposals are uniform draws, where these are more than those of the first `ask`.
      config: dataclass of its options; a field of that class in `jaxad.runs.search_config.SearchConfig` holds them.

    Raises:
      ValueError: a name that something else has.
    """

    def register(build: Build) -> Build:
        STRATEGIES.add(name, StrategyEntry(name, summary, build, uniform, config), build)
        return build

    return register


def make_strategy(name: str, space: SearchSpace, *, population: int = 1, **options: Any) -> Search:
    """Build the strategy of that name.

    Args:
      space: whose architectures it proposes.
      population: proposals of an `ask`, P.
      options: the strategy's own, see its constructor.

    Raises:
      ValueError: an unknown name or option, listing what there is; values out of range.
    """
    build = STRATEGIES.named(name).build
    parameters = inspect.signature(build).parameters
    known = [option for option in parameters if option != "space"]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            raise ValueError(f"strategy {name!r} has no option {option!r}; it has {', '.join(known)}")
    return build(space, population=population, **options)
