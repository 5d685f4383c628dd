"""AutoAD behind the contract of all strategies; its libraries are imported when one is made, not before."""

import dataclasses
import functools
from typing import Any

from jaxad._utils.validate import check_counts
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.autoad.config import AutoADConfig
from jaxad.nas.strategies.registry import strategy
from jaxad.types import Search


@strategy("autoad", "The learned controller of AutoAD (Li et al., TNNLS 2022).", config=AutoADConfig)
def autoad(space: SearchSpace, *, population: int = 1, config: AutoADConfig | None = None, **fields: Any) -> Search:
    """AutoAD (Algorithm 1; Li et al., TNNLS 2022) as a strategy; seeds may be vmapped.

    Its state is an `algorithm.AutoADState`, its infos are `algorithm.AutoADInfo`s. `tell` is one program that takes
    seconds to compile, so jit all of it, best with `jaxad.nas.loop.jit`.

    Args:
      space: where architectures come from.
      population: how many architectures each `ask` proposes, n of the paper's losses and M of its Fig. 1.
      config: the settings, or their fields as keywords; keywords replace fields of a given config.

    Returns:
      A `Search`; it has a `revisit` unless `config.revisits` is 0.

    Raises:
      ValueError: settings out of range, fields that do not exist, or a `keep` above `population`.

    >>> import jax
    >>> search = autoad(SearchSpace(num_layers=1), population=4, units=8)
    >>> state = search.init(jax.random.key(0))
    >>> state, tokens = search.ask(jax.random.key(1), state)
    >>> tokens.shape
    (4, 8)
    """
    known = [field.name for field in dataclasses.fields(AutoADConfig)]
    for name in fields:
        if name not in known:
            raise ValueError(f"strategy 'autoad' has no option {name!r}; it has {', '.join(known)}")
    config = AutoADConfig(**fields) if config is None else dataclasses.replace(config, **fields)
    config.check()
    check_counts(population=population)
    if config.keep > population:
        raise ValueError(f"keep is {config.keep}; of a population of {population} at most {population} can be kept")
    return _made(space, space.choices_per_token, population, config)


@functools.lru_cache(maxsize=8)
def _made(space: SearchSpace, choices: tuple[int, ...], population: int, config: AutoADConfig) -> Search:
    """Equal settings share their functions, and with them what is compiled: a second search of a process starts sooner.

    Choices of equal spaces differ where an action has been added in between.
    """
    from jaxad.nas.strategies.autoad.algorithm import make_algorithm  # Flax and distrax take seconds to import

    return make_algorithm(space, population, config)
