"""Strategies against a literal queue, statistics on a known reward, and the promise of no repetition."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import outside
import pytest
from scipy import stats

from jaxad.nas.proposals import SpaceExhausted, identities, propose_unique
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.evolution import regularised_evolution
from jaxad.nas.strategies.random import random_search
from jaxad.nas.strategies.registry import STRATEGIES, make_strategy
from jaxad.types import Search

SPACE = SearchSpace(num_layers=2)
UNLEARNED = ("random", "evolution")  # the controller has tests of its own
assert STRATEGIES["walk"].build is outside.walk  # among them one that is not the library's
EVERY = [name for name in STRATEGIES if name != "autoad"]
ONE_LIST_EACH = {
    "num_layers": 1,
    "hypotheses": ("centroid",),
    "distances": ("l1",),
    "kernels": (3,),
    "norms": ("batch",),
}
TINY = SearchSpace(channels=(4, 8), pool_kernels=(1, 3), activations=("relu", "elu"), **ONE_LIST_EACH)


@functools.cache
def jitted(name: str, population: int, space: SearchSpace = SPACE, **options) -> Search:
    search = make_strategy(name, space, population=population, **options)
    return Search(search.init, jax.jit(search.ask), jax.jit(search.tell))


def additive(tokens):
    """Reward 1 for the last choice everywhere, 0 for the first: every token counts alike."""
    return jnp.mean(tokens / (jnp.asarray(SPACE.choices_per_token)[None] - 1), axis=1)


def run(search: Search, seed: int, rounds: int, reward=additive, state=None, first: int = 0):
    """The driver's loop; the key of a round depends on its number alone."""
    history = []
    state = search.init(jax.random.key(seed)) if state is None else state
    for n in range(first, rounds):
        ask_key, tell_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), n))
        state, tokens = search.ask(ask_key, state)
        state, info = search.tell(tell_key, state, tokens, reward(tokens))
        history.append((np.asarray(tokens), info))
    return state, history


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_jit_equals_eager_and_shapes_are_fixed(name):
    options = {"population_size": 3, "sample_size": 2} if name == "evolution" else {}
    search, compiled = make_strategy(name, SPACE, population=3, **options), jitted(name, 3, **options)
    for_eager, eager = run(search, 0, 2)
    for_jit, fast = run(compiled, 0, 2)
    chex.assert_trees_all_close((for_eager, eager), (for_jit, fast), rtol=1e-6)
    chex.assert_trees_all_equal_shapes_and_dtypes(search.init(jax.random.key(0)), for_jit)
    assert fast[0][0].shape == (3, SPACE.num_tokens)
    assert fast[0][0].dtype == np.int32
    assert (np.stack([tokens for tokens, _ in fast]) < np.asarray(SPACE.choices_per_token)[None, None]).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_saved_search_goes_on_as_if_never_stopped(name):
    search = jitted(name, 2, **({"population_size": 6} if name == "evolution" else {}))
    whole, history = run(search, 1, 10)
    halfway, _ = run(search, 1, 5)
    leaves, structure = jax.tree.flatten(halfway)
    restored = structure.unflatten([jnp.asarray(np.array(leaf)) for leaf in leaves])
    rest, continued = run(search, 1, 10, state=restored, first=5)
    chex.assert_trees_all_equal(whole, rest)
    chex.assert_trees_all_equal(history[5:], continued)


@pytest.mark.parametrize("name", UNLEARNED)
def test_books_equal_a_plain_count(name, rng):
    """Best, failures and mean over a stream with failed children of all three kinds."""
    search = jitted(name, 2, **({"population_size": 6} if name != "random" else {}))
    rewards = rng.normal(size=(8, 2)).astype(np.float32)
    rewards[0] = [np.nan, -np.inf]
    rewards[3, 1], rewards[5, 0] = np.inf, np.nan
    asked, told, state = [], [], search.init(jax.random.key(2))
    for n, pair in enumerate(rewards):
        state, tokens = search.ask(jax.random.fold_in(jax.random.key(2), n), state)
        state, info = search.tell(jax.random.key(n), state, tokens, jnp.asarray(pair))
        asked.extend(np.asarray(tokens))
        told.extend(np.where(np.isfinite(pair), pair, np.nan))
        assert int(info.num_evaluated) == len(told)
        assert int(info.failed) == np.isnan(told).sum()
        if n == 0:
            assert float(info.best_reward) == float(info.mean_reward) == -np.inf
            continue
        assert float(info.best_reward) == np.nanmax(told)
        np.testing.assert_array_equal(info.best_tokens, asked[int(np.nanargmax(told))])
        living = told if name == "random" else told[-6:]
        np.testing.assert_allclose(info.mean_reward, np.nanmean(living), rtol=1e-5)


def test_of_equally_good_children_the_earliest_stays_best():
    search = jitted("random", 2)
    state, history = run(search, 3, 3, reward=lambda tokens: jnp.ones(2))
    np.testing.assert_array_equal(state.best.tokens, history[0][0][0])


def test_evolution_is_a_queue_of_mutated_winners():
    """The living are the last S told; every child is one mutation from one of them, good or not."""
    size = 6
    search = jitted("evolution", 2, population_size=size)
    state, queue = search.init(jax.random.key(4)), []
    for n in range(12):
        state, tokens = search.ask(jax.random.fold_in(jax.random.key(4), n), state)
        tokens = np.asarray(tokens)
        if len(queue) == size:
            distances = (tokens[:, None] != np.stack(queue)[None]).sum(axis=2)
            assert (distances.min(axis=1) == 1).all()
        # The first child of all is by far the best; age must take it all the same.
        rewards = jnp.asarray([100.0 if n == 0 else 1.0, 0.5])
        queue = [*queue, *tokens][-size:]
        state, info = search.tell(jax.random.key(n), state, jnp.asarray(tokens), rewards)
        assert {tuple(row) for row in np.asarray(state.tokens)[: len(queue)].tolist()} == {
            tuple(row) for row in np.stack(queue).tolist()
        }
    assert float(info.best_reward) == 100.0
    assert float(state.rewards.max()) == 1.0


FAR_APART = np.asarray([[0] * 14, [1] * 14, [2, 2, 2, 2] + [0] * 10, [3, 3, 3, 3] + [1] * 10], np.int32)
FAR_APART = np.minimum(FAR_APART, np.asarray(SPACE.choices_per_token)[None] - 1)
PAIRS_OF_FOUR = {"population": 4, "population_size": 4, "sample_size": 2}


@functools.cache
def many_asks():
    search = regularised_evolution(SPACE, **PAIRS_OF_FOUR)
    return jax.jit(jax.vmap(lambda key, state: search.ask(key, state)[1], in_axes=(0, None)))


def children_of(rewards, seed):
    """Children [asks, 4, T] after the first parents got these rewards."""
    search = regularised_evolution(SPACE, **PAIRS_OF_FOUR)
    parents = jnp.asarray(FAR_APART[: len(rewards)])
    state, info = search.tell(jax.random.key(1), search.init(jax.random.key(0)), parents, jnp.asarray(rewards))
    return np.asarray(many_asks()(jax.random.split(jax.random.key(seed), 2_000), state)), info


def parents_of(children):
    """Index [asks, 4] of the parent, and how many tokens differ from it."""
    gaps = (children[:, :, None] != FAR_APART[None, None]).sum(axis=-1)
    return gaps.argmin(axis=-1), gaps.min(axis=-1)


def test_the_first_generation_is_uniform():
    """Until the population is full there is no trace of selection, not even one place short of it."""
    children, _ = children_of([0.1, 0.4, 0.2], 6)
    for column, count in zip(children.reshape(-1, 14).T, SPACE.choices_per_token):
        assert stats.chisquare(np.bincount(column, minlength=count)).pvalue > 0.01 / 14


def test_tournaments_are_independent_and_won_by_the_better():
    """With S = 4 and two drawn with replacement, the r-th best wins with chance (9 - 2 r) / 16."""
    winners, gaps = parents_of(children_of([0.1, 0.4, 0.2, 0.3], 8)[0])
    assert (gaps == 1).all()
    shares = np.bincount(winners.ravel(), minlength=4) / winners.size
    np.testing.assert_allclose(shares, np.asarray([1, 7, 3, 5]) / 16, atol=0.025)
    # Two children of one ask share the parent as often as independent tournaments would.
    together = np.mean([winners[:, i] == winners[:, j] for i, j in itertools.combinations(range(4), 2)])
    assert abs(together - (1 + 49 + 9 + 25) / 256) < 0.025


def test_failed_children_lose_every_tournament_they_share_with_others():
    children, info = children_of([np.nan, -50.0, np.inf, -np.inf], 10)
    assert int(info.failed) == 3
    assert float(info.mean_reward) == float(info.best_reward) == -50.0
    # The only success wins whenever it is drawn at all.
    winners, _ = parents_of(children)
    assert abs((winners == 1).mean() - (1 - (3 / 4) ** 2)) < 0.025


def test_evolution_beats_random_search_on_an_additive_reward():
    """300 children each, 16 seeds: the best of evolution is better on every seed but rare ones."""

    def final_best(search, keys):
        def step(key, state):
            ask_key, tell_key = jax.random.split(key)
            state, tokens = search.ask(ask_key, state)
            return search.tell(tell_key, state, tokens, additive(tokens))[0]

        def all_seeds(states, step_keys):
            return jax.vmap(step)(step_keys, states), None

        states = jax.vmap(search.init)(jax.random.split(jax.random.key(0), keys.shape[1]))
        return jax.lax.scan(all_seeds, states, keys)[0].best.reward

    best = {}
    for number, name in enumerate(UNLEARNED):
        run_all = jax.jit(functools.partial(final_best, make_strategy(name, SPACE, population=4)))
        best[name] = np.asarray(run_all(jax.random.split(jax.random.key(number), (75, 16))))
    gain = best["evolution"] - best["random"]
    assert gain.mean() > 0.08
    assert gain.mean() / (gain.std(ddof=1) / 4) > 6  # t statistic
    assert best["random"].mean() < 0.85 < 0.9 < best["evolution"].mean()


def scripted(*answers) -> Search:
    """A strategy that proposes what it is told to, whatever the key."""
    remaining = iter(answers)

    def ask(key, state):
        return state + 1, next(remaining)

    return Search(lambda key: 0, ask, lambda key, state, *_: (state, None))


def test_proposals_without_collision_are_the_strategys_own():
    search = jitted("random", 4)
    state, tokens = propose_unique(search, jax.random.key(11), search.init(jax.random.key(0)), set(), SPACE)
    again = propose_unique(search, jax.random.key(11), search.init(jax.random.key(0)), {}, SPACE)
    chex.assert_trees_all_equal((state, tokens), again)
    own = np.asarray([[1, 2, 1, 3, 1, 0, 0, 0] + [1] * 6], np.int32)  # not canonical: average pooling by 1
    state, tokens = propose_unique(scripted(own), jax.random.key(0), 5, set(), SPACE)
    np.testing.assert_array_equal(tokens, own)
    assert state == 6


def test_a_colliding_proposal_is_asked_again_and_only_that():
    zeros, ones, other = np.zeros(14, np.int32), np.ones(14, np.int32), np.eye(14, dtype=np.int32)[0]
    search = scripted(np.stack([zeros, ones, ones]), np.stack([ones, zeros, other]))
    state, tokens = propose_unique(search, jax.random.key(0), 5, set(), SPACE)
    np.testing.assert_array_equal(tokens, np.stack([zeros, ones, other]))
    assert state == 6  # as after one ask


def test_a_strategy_that_repeats_itself_gets_near_mutations():
    stuck = np.ones((3, 14), np.int32)
    search = Search(lambda key: 0, lambda key, state: (state, stuck), lambda key, state, *_: (state, None))
    seen = set(identities(SPACE, stuck))
    _, tokens = propose_unique(search, jax.random.key(12), 0, seen, SPACE)
    assert len({*identities(SPACE, tokens), *seen}) == 4
    assert ((tokens != stuck).sum(axis=1) <= 3).all()
    np.testing.assert_array_equal(tokens, propose_unique(search, jax.random.key(12), 0, seen, SPACE)[1])
    assert (tokens != propose_unique(search, jax.random.key(13), 0, seen, SPACE)[1]).any()


def test_pooling_by_one_is_seen_through():
    tokens = np.asarray([[0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1, 0, 0]])
    same, twin, other = identities(TINY, tokens)
    assert same == twin != other
    search = scripted(*[tokens[1:2].astype(np.int32)] * 2)
    _, proposed = propose_unique(search, jax.random.key(0), 0, {same}, TINY, tries=2)
    assert identities(TINY, proposed)[0] != same


@pytest.mark.parametrize("name", UNLEARNED)
def test_a_tiny_space_is_searched_to_its_end_without_repetition(name):
    """12 functions in populations of 5: 5, 5, the last 2, then the end."""
    assert (TINY.cardinality, TINY.canonical_cardinality) == (16, 12)
    search = jitted(name, 5, TINY)
    state, seen, sizes = search.init(jax.random.key(0)), set(), []
    for n in range(3):
        key = jax.random.fold_in(jax.random.key(14), n)
        state, tokens = propose_unique(search, key, state, seen, TINY, tries=2)
        sizes.append(len(tokens))
        seen.update(identities(TINY, tokens))
        state, _ = search.tell(jax.random.key(n), state, jnp.asarray(tokens), jnp.ones(len(tokens)))
    with pytest.raises(SpaceExhausted, match="all 12 different architectures"):
        propose_unique(search, jax.random.key(0), state, seen, TINY)
    assert sizes == [5, 5, 2]
    assert seen == set(TINY.enumerate(canonical=True))


def test_the_last_architecture_of_a_larger_space_is_found():
    space = SearchSpace(num_layers=1, distances=("l1", "l2"))
    every = list(space.enumerate(canonical=True))
    assert len(every) == space.canonical_cardinality == 8 * 7 * 4 * 7 * 3 * 8
    search = jitted("random", 2, space)
    state, seen = search.init(jax.random.key(0)), set(every[:-1])
    _, tokens = propose_unique(search, jax.random.key(0), state, seen, space)
    assert [tuple(row) for row in tokens.tolist()] == [every[-1]]


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match="there is no strategy 'annealing'; choose one of autoad, evolution, random"):
        make_strategy("annealing", SPACE)
    with pytest.raises(ValueError, match="'random' has no option 'sample_size'; it has population"):
        make_strategy("random", SPACE, sample_size=3)
    with pytest.raises(ValueError, match="population is 0"):
        random_search(SPACE, population=0)
    with pytest.raises(ValueError, match="sample_size is 9; give at most population_size, which is 8"):
        make_strategy("evolution", SPACE, population_size=8, sample_size=9)
    with pytest.raises(ValueError, match="population is 21"):
        regularised_evolution(SPACE, population=21)
    one = SearchSpace(channels=(4,), pools=("max",), pool_kernels=(1,), activations=("elu",), **ONE_LIST_EACH)
    with pytest.raises(ValueError, match="holds 1 architecture"):
        regularised_evolution(one)
    search = regularised_evolution(SPACE, population_size=5)
    with pytest.raises(ValueError, match="6 rewards at once; tell at most 5"):
        search.tell(jax.random.key(1), search.init(jax.random.key(0)), jnp.zeros((6, 14), jnp.int32), jnp.zeros(6))
    with pytest.raises(ValueError, match="tries is 0"):
        propose_unique(search, jax.random.key(0), None, set(), SPACE, tries=0)
