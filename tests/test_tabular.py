"""Searching a table against the table itself."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas import trial
from jaxad.nas.analysis.benchmark import rewards_from_scratch
from jaxad.nas.analysis.tabular import (
    Table,
    explore_table,
    places,
    read_table,
    sequences,
    tokens_at,
    train_table,
    write_table,
)
from jaxad.nas.executors.population import make_executor
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.evolution import regularised_evolution
from jaxad.nas.strategies.random import random_search
from jaxad.runs.search_comparison import ComparisonConfig

TABLES = sorted((Path(__file__).parents[1] / "benchmarks" / "tables").glob("*.json"))
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
    np.testing.assert_array_equal(tokens_at(SPACE, jnp.arange(SPACE.cardinality)), tokens)
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
        (lambda text: json.dumps(json.loads(text) | {"rewards": [float("nan")] * 36}), "rewards that are not finite"),
    ],
)
def test_a_damaged_table_is_refused(damage, message, tmp_path):
    path = tmp_path / "table.json"
    write_table(path, Table(SPACE, of_functions(), {}))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_table(path)


# ---- the tables that are there ------------------------------------------------------------------------------------


def test_tables_are_of_thousands_of_functions_that_differ():
    assert TABLES
    for path in TABLES:
        table = read_table(path)
        assert table.space.canonical_cardinality > 2000
        assert len(np.unique(table.rewards)) > 500
        assert 0 <= table.rewards.min() < 0.45 < 0.8 < table.rewards.max() <= 1


def test_evolution_finds_better_children_than_chance():
    table, means = read_table(TABLES[0]), {}
    for name, search in (("evolution", regularised_evolution(table.space)), ("chance", random_search(table.space))):

        def explore_one(key, search=search):
            return explore_table(search, table.space, jnp.asarray(table.rewards), key, children=60, population=1)

        found = jax.jit(jax.vmap(explore_one))(jax.vmap(jax.random.key)(jnp.arange(20)))
        means[name] = np.asarray(found.rewards)[:, 20:].mean()
    assert means["evolution"] > means["chance"] + 0.02  # of a standard deviation of some 0.1


@pytest.mark.slow
def test_rewards_are_those_of_children_that_are_trained():
    (path,) = (path for path in TABLES if path.stem == "digits-two-layer")
    table = read_table(path)
    config = ComparisonConfig(dataset="digits", anomaly_ratio=0.2)
    task, rng = config.load_task(table.about["seed"]), np.random.default_rng(0)
    child = trial.TrialConfig(steps=table.about["steps"], batch_size=table.about["batch_size"])
    executor = make_executor("auto", trial.put(task.train.images, task.valid.images, task.valid.labels), child)
    drawn = rng.choice(np.unique(places(table.space, table.space.canonical(sequences(table.space)))), 12)
    tokens = sequences(table.space)[drawn]
    found = list(rewards_from_scratch(table.space, tokens, executor, seed=table.about["seed"], image_channels=1))
    executor.close()
    # Other processors round otherwise; a reward is a share of 8,100 pairs.
    np.testing.assert_allclose(found, table.rewards[drawn], atol=0.02)
