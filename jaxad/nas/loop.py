"""The search loop: ask for architectures, evaluate them on shared weights, tell the strategy, remember everything."""

import dataclasses
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad._utils.compile import kernel_options
from jaxad.nas import supernet
from jaxad.nas.executors.population import Begun, Outcome, begin_population, evaluate_population, finish_population
from jaxad.nas.proposals import SpaceExhausted, identities, propose_unique
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture
from jaxad.nn.cost import ImageShape, flops, parameter_count
from jaxad.types import Info, Key, Params, Search, State


class SearchState(NamedTuple):
    """All that the rest of a search depends on; saved after every population."""

    shared: Params  # omega, on the host; of every input by its name, where the space has several
    strategy: State
    populations: Any  # int32, how many have been evaluated


States = SearchState | tuple[SearchState, ...]  # of a search ahead those of the last populations, oldest first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """The record of one child."""

    trial: int
    population: int
    tokens: list[int]
    architecture: dict[str, Any]
    status: str
    reward: float
    reason: str | None
    loss: float | None
    params: int
    flops: int
    seconds: float
    elapsed: float
    """Seconds of searching up to this trial, over all sessions of the run."""


class Costs(NamedTuple):
    """Wall-clock of one population that went into anything but its children, in seconds."""

    strategy: float  # proposing and learning, with waiting for what of it had to be compiled
    revisits: float  # training architectures once more, as the strategy asked


class Exploration(NamedTuple):
    """How a search ended."""

    state: States
    stopped: str | None  # why before its last child: "time budget" or "space exhausted"


@functools.lru_cache(maxsize=8)
def jit(search: Search) -> Search:
    """A strategy of compiled functions; those of equal functions are the same."""
    # A strategy runs a few times for milliseconds: what counts is how long it takes to compile.
    options = kernel_options() | {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    jitted = [function and jax.jit(function, compiler_options=options or None) for function in search]
    return Search(*jitted)


def start(key: Key, search: Search, space: SearchSpace, image_channels: int | Mapping[str, int]) -> SearchState:
    """Fresh shared weights and a strategy that knows nothing.

    `image_channels` are those of what children see, by the name of every input where the space has several.
    """
    weights_key, strategy_key = jax.random.split(key)
    seed = np.asarray(jax.random.key_data(weights_key))
    shared = supernet.init(np.random.default_rng(seed), space, image_channels)
    return SearchState(shared, search.init(strategy_key), jnp.int32(0))


class Pending(NamedTuple):
    """A population whose children are on their way."""

    tokens: np.ndarray
    architectures: list[Architecture]
    begun: Begun
    whole: bool  # not cut short by the number of children
    strategy: State  # after `ask`
    seconds: float  # that asking took


def waiting_for(state: SearchState, ahead: int) -> States:
    """A fresh state for `explore`: populations that begin ahead need those that came before, too."""
    return (state,) * (ahead + 1) if ahead else state


def explore(
    search: Search,
    space: SearchSpace,
    executor: Any,
    state: States,
    *,
    key: Key,
    children: int,
    image_shape: ImageShape,
    ahead: int = 0,
    trials: Sequence[Trial] = (),
    elapsed: float = 0.0,
    time_budget: float | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_info: Callable[[Info, Costs], None] = lambda info, costs: None,
    on_population: Callable[[States, int, float], None] = lambda state, trials, elapsed: None,
) -> Exploration:
    """Search until `children` architectures have been evaluated, time is up or the space is exhausted.

    No two architectures that compute the same function are evaluated. The result depends on key, state and trials
    alone: stopped after any population and continued from its state, a search goes on as if never stopped.

    A population waits for the one before, whose slowest child leaves all other workers without work. With `ahead` it
    need not: so many further ones are proposed and begin meanwhile, by rewards and from weights that miss the last
    `ahead` populations. Which ones they miss depends on their number alone, and so the result on no worker's pace.

    Args:
      search: the strategy, see `jit`.
      executor: from `executors.population.make_executor`, with an executor of every input of the space.
      state: from `start` and `waiting_for`, or as given to `on_population`.
      key: of the search; not consumed. Every population folds its number into it and hands a part of what comes out
        to each of `ask`, its children, `tell`, `revisit` and the children that train once more.
      children: how many architectures in total, those in `trials` included.
      image_shape: (height, width, channels) of what children see, or that of every input by its name.
      ahead: populations that begin while one is waited for; of strategies that `ask` teaches nothing.
      trials: what earlier sessions have evaluated, up to `state`.
      elapsed: seconds that earlier sessions took.
      time_budget: seconds in total after which the running child is the last; its population does not count.
      on_trial: called after every child.
      on_info: called with what the strategy has to show, and what it cost, after every population.
      on_population: called with the state, the number of trials and the seconds after every population.
    """
    started = time.perf_counter() - elapsed
    states: deque[SearchState] = deque(state if ahead else (state,), maxlen=ahead + 1)
    pending: deque[Pending] = deque()
    done, compiling, exhausted = len(trials), None, False
    asked = done  # children that have been proposed
    seen = set(identities(space, np.array([trial.tokens for trial in trials]))) if trials else set()

    def propose(state: SearchState, number: int) -> Pending:
        """Ask for a population and begin it."""
        ask_key, children_key, *_ = _keys(key, number)
        began = time.perf_counter()
        strategy, tokens = propose_unique(search, ask_key, state.strategy, seen, space)
        if ahead and not _same(strategy, state.strategy):
            raise ValueError(
                f"ahead is {ahead}, and this strategy changes its state when it is asked: no other population may be "
                "asked for before it is told; set ahead to 0"
            )
        seconds, whole = time.perf_counter() - began, len(tokens) <= children - asked
        tokens = np.asarray(tokens)[: children - asked]
        seen.update(identities(space, tokens))
        architectures = [space.to_architecture(row) for row in tokens]
        begun = begin_population(executor, state.shared, architectures, children_key)
        return Pending(tokens, architectures, begun, whole, strategy, seconds)

    def report(population: int, first: int, tried: Pending, place: int, outcome: Outcome) -> bool:
        """Show a child as a trial; whether time is up."""
        now = time.perf_counter() - started
        child = tried.tokens[place], tried.architectures[place], outcome
        on_trial(_record(first + place, population, *child, image_shape, now))
        return time_budget is not None and now >= time_budget

    def ended(why: str | None) -> Exploration:
        for tried in pending:
            tried.begun.results.close()
        return Exploration(tuple(states) if ahead else states[-1], why)

    while done < children:
        number = int(states[-1].populations)
        while len(pending) <= ahead and asked < children and not exhausted:
            try:
                pending.append(propose(states[len(pending)], number + len(pending)))
            except SpaceExhausted:
                exhausted = True
            else:
                asked += len(pending[-1].tokens)
        if not pending:
            return ended("space exhausted")
        tried, shared = pending.popleft(), states[-1].shared
        _, _, revisit_key, again_key, tell_key = _keys(key, number)
        strategy = states[-1].strategy if ahead else tried.strategy
        compiling = compiling or _compile_tell(search, tell_key, strategy, tried.tokens)
        outcomes, shared, out_of_time = finish_population(
            executor, shared, tried.begun, on_outcome=functools.partial(report, number, done, tried)
        )
        if out_of_time:
            return ended("time budget")
        done += len(outcomes)
        if tried.whole:  # the rest of a population ends the search; nobody would use what it taught
            learning = time.perf_counter()
            compiling.join()
            told = [outcome.reward if outcome.status == "ok" else float("nan") for outcome in outcomes]
            rewards = jnp.array(told, jnp.float32)
            strategy, info = search.tell(tell_key, strategy, jnp.asarray(tried.tokens), rewards)
            info, learned = jax.block_until_ready(info), time.perf_counter()
            if search.revisit is not None and done < children:
                known = [space.to_architecture(row) for row in np.asarray(search.revisit(revisit_key, strategy))]
                shared = evaluate_population(executor, shared, known, again_key).shared  # their rewards are known
            on_info(info, Costs(tried.seconds + learned - learning, time.perf_counter() - learned))
        states.append(SearchState(shared, strategy, jnp.int32(number + 1)))
        on_population(tuple(states) if ahead else states[-1], done, time.perf_counter() - started)
    return ended(None)


def _keys(key: Key, number: int) -> Key:
    """Keys of a population: to ask, of its children, to revisit, of the revisited, to tell."""
    return jax.random.split(jax.random.fold_in(key, number), 5)


def _same(one: State, other: State) -> bool:
    """Whether two states of a strategy are equal."""
    return all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def _compile_tell(search: Search, key: Key, state: State, tokens: np.ndarray) -> threading.Thread:
    """Compile a strategy's `tell` on a thread while its first children train; where that fails, `tell` itself will."""

    def work() -> None:
        if hasattr(search.tell, "lower"):
            search.tell.lower(key, state, jnp.asarray(tokens), jnp.zeros(len(tokens))).compile()

    thread = threading.Thread(target=work, name="strategy", daemon=True)
    thread.start()
    return thread


def best_trials(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The trials with the highest reward, best first; failed children never count. The earlier wins a tie."""
    usable = [trial for trial in trials if trial.status == "ok"]
    return sorted(usable, key=lambda trial: (-trial.reward, trial.trial))[:count]


def _record(
    number: int,
    population: int,
    tokens: np.ndarray,
    architecture: Architecture,
    outcome: Any,
    image_shape: ImageShape,
    elapsed: float,
) -> Trial:
    return Trial(
        trial=number,
        population=population,
        tokens=[int(token) for token in tokens],
        architecture=architecture.to_json(),
        status=outcome.status,
        reward=outcome.reward,
        reason=outcome.reason,
        loss=outcome.loss,
        params=parameter_count(architecture, image_shape),
        flops=flops(architecture, image_shape),
        seconds=round(outcome.seconds, 4),
        elapsed=round(elapsed, 3),
    )
