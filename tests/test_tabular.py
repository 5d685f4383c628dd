"""Searching a table against the table itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas import trial
from jaxad.nas.analysis.tabular import Table, explore_table, places, read_table, sequences, train_table, write_table
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.evolution import regularised_evolution
from jaxad.nas.strategies.random import random_search

SPACE = SearchSpace(
    num_layers=1,
    hypotheses=("centroid", "density"),
    distances=("l1",),
    channels=(4, 8, 16),
    kernels=(3,),
    pool_kernels=(1, 3),
    norms=("batch",),
    activations=("relu", "elu"),
)
REWARDS = jnp.asarray(np.random.default_rng(0).random(SPACE.cardinality), jnp.float32)


def explore(search, seed, children, population):
    return explore_table(search, SPACE, REWARDS, jax.random.key(seed), children=children, population=population)


def test_places_are_those_of_the_enumeration():
    tokens = sequences(SPACE)
    np.testing.assert_array_equal(places(SPACE, tokens), np.arange(SPACE.cardinality))
    paper = SearchSpace(num_layers=1)
    some = np.asarray(paper.sample(jax.random.key(0), 50))
    np.testing.assert_array_equal(sequences(paper)[np.asarray(places(paper, some))], some)


@pytest.mark.parametrize("make", [random_search, regularised_evolution])
def test_rewards_are_looked_up_and_no_function_is_seen_twice(make):
    found = explore(make(SPACE, population=2), 1, SPACE.canonical_cardinality, 2)
    np.testing.assert_array_equal(found.rewards, REWARDS[places(SPACE, found.tokens)])
    canonical = SPACE.canonical(np.asarray(found.tokens))
    assert len(np.unique(canonical, axis=0)) == SPACE.canonical_cardinality  # all there are, each once


def test_random_search_draws_uniformly():
    keys = jax.vmap(jax.random.key)(jnp.arange(2000))

    def first(key):
        return explore_table(random_search(SPACE), SPACE, REWARDS, key, children=1, population=1).tokens[0]

    drawn = np.asarray(places(SPACE, jax.vmap(first)(keys)))
    counts = np.bincount(drawn, minlength=SPACE.cardinality)
    assert abs(counts - 2000 / SPACE.cardinality).max() < 5 * np.sqrt(2000 / SPACE.cardinality)


@pytest.mark.slow
def test_compiled_and_vmapped_seeds_equal_separate_ones():
    def run(key):
        return explore_table(regularised_evolution(SPACE), SPACE, REWARDS, key, children=8, population=1)

    together = jax.jit(jax.vmap(run))(jax.vmap(jax.random.key)(jnp.arange(3)))
    for seed in range(3):
        jax.tree.map(
            lambda a, b, seed=seed: np.testing.assert_array_equal(a[seed], b), together, run(jax.random.key(seed))
        )


@pytest.mark.parametrize(
    ("children", "population", "rewards", "message"),
    [
        (5, 2, REWARDS, "children is 5; give a multiple of 2"),
        (1000, 1, REWARDS, "children is 1000"),
        (2, 1, REWARDS[:3], r"the table has shape \(3,\); give the rewards of all 48"),
    ],
)
def test_nonsense_is_refused(children, population, rewards, message):
    with pytest.raises(ValueError, match=message):
        explore_table(random_search(SPACE), SPACE, rewards, jax.random.key(0), children=children, population=population)


def test_a_table_trains_every_function_once_and_nothing_that_is_known():
    trained = []

    def executor(jobs):
        for job in jobs:
            trained.append(job.architecture)
            value = np.float32(len(job.architecture.layers[0].activation) / 10 + job.architecture.layers[0].channels)
            yield trial.Result(job.params, trial.Reward(value, np.float32(0), np.bool_(True)), None, 8, 0.0)

    options = {"seed": 0, "image_channels": 1}
    new = {}
    rewards = train_table(SPACE, executor, known={}, on_child=new.__setitem__, **options)
    assert len(trained) == len(set(trained)) == len(new) == SPACE.canonical_cardinality
    for tokens, reward in zip(sequences(SPACE), rewards):
        layer = SPACE.to_architecture(tokens).layers[0]
        assert reward == np.float32(len(layer.activation) / 10 + layer.channels)
    trained.clear()
    half = dict(list(new.items())[:10])
    np.testing.assert_array_equal(train_table(SPACE, executor, known=half, **options), rewards)
    assert len(trained) == SPACE.canonical_cardinality - 10


def of_functions():
    """A reward for every function, the same for all of its sequences."""
    every = SPACE.canonical(sequences(SPACE))
    known = {tuple(row): reward for row, reward in zip(every.tolist(), np.asarray(REWARDS))}
    return np.array([known[tuple(row)] for row in every.tolist()], np.float32)


def test_a_table_is_read_as_it_was_written_to_the_bit(tmp_path):
    path, rewards = tmp_path / "table.json", of_functions()
    write_table(path, Table(SPACE, rewards, {"task": "noise", "steps": 3}))
    found = read_table(path)
    assert found.space == SPACE
    assert found.about == {"task": "noise", "steps": 3}
    np.testing.assert_array_equal(found.rewards, rewards, strict=True)
    assert len(json.loads(path.read_text())["rewards"]) == SPACE.canonical_cardinality < SPACE.cardinality


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-40], "is it complete"),
        (lambda text: "[1, 2]", "is no table of rewards; give the table.json of a comparison"),
        (lambda text: json.dumps(json.loads(text) | {"rewards": [0.5]}), "has 1 rewards; its space has 36 functions"),
        (lambda text: json.dumps(json.loads(text) | {"rewards": ["high"]}), r"rewards\[0\] is 'high'"),
        (lambda text: text.replace('"batch"', '"batches"'), "norms"),
    ],
)
def test_a_damaged_table_is_refused(damage, message, tmp_path):
    path = tmp_path / "table.json"
    write_table(path, Table(SPACE, of_functions(), {}))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_table(path)
