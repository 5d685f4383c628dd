"""The buffer against a plain list, and what it may never lose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas.strategies.autoad import replay
from jaxad.nas.strategies.autoad.replay import init_buffer

CARRY = np.zeros((1, 2))
insert, draw = jax.jit(replay.insert), jax.jit(replay.draw, static_argnums=2)


def rows(*numbers):
    return np.array([[n, n % 3] for n in numbers], np.int32)


def listed(buffer):
    tokens, rewards = np.asarray(buffer.tokens), np.asarray(buffer.rewards)
    return [(int(t[0]), round(float(r), 4)) for t, r in zip(tokens, rewards) if np.isfinite(r)]


def add(buffer, numbers, rewards):
    carries = np.asarray(numbers, np.float32)[:, None, None] * np.ones((1, 1, 2), np.float32)
    return insert(buffer, rows(*numbers), np.array(rewards, np.float32), carries)


def test_it_keeps_the_best_of_all(rng):
    buffer, best = init_buffer(4, 2, CARRY), {}
    for _ in range(12):
        numbers = [int(n) for n in rng.integers(0, 12, 3)]
        rewards = [round(float(r), 4) for r in rng.random(3)]
        for n, r in zip(numbers, rewards):
            best[n] = max(best.get(n, 0.0), r)
        before = dict(listed(buffer))
        buffer = add(buffer, numbers, rewards)
        # An entry that was pushed out is forgotten, so compare with the buffer before and what is new.
        known = dict(before)
        for n, r in zip(numbers, rewards):
            known[n] = max(known.get(n, 0.0), r)
        expected = sorted(known.items(), key=lambda item: -item[1])[:4]
        np.testing.assert_allclose([r for _, r in listed(buffer)], [r for _, r in expected], atol=1e-4)
        assert {n for n, _ in listed(buffer)} == {n for n, _ in expected}
    assert [r for _, r in listed(buffer)] == sorted((r for _, r in listed(buffer)), reverse=True)


def test_an_architecture_is_there_once_with_its_better_reward():
    buffer = add(init_buffer(3, 2, CARRY), [5, 5, 7], [0.2, 0.6, 0.4])
    assert listed(buffer) == [(5, 0.6), (7, 0.4)]
    assert listed(add(buffer, [5], [0.3])) == [(5, 0.6), (7, 0.4)]


def test_entries_stay_together():
    buffer = add(init_buffer(3, 2, CARRY), [1, 2, 3, 4], [0.1, 0.4, 0.2, 0.3])
    np.testing.assert_array_equal(buffer.tokens, rows(2, 4, 3))
    np.testing.assert_array_equal(np.asarray(buffer.carries)[:, 0, 0], [2, 4, 3])


def test_failed_children_stay_out_and_a_buffer_of_nothing_holds_nothing():
    assert listed(add(init_buffer(2, 2, CARRY), [1, 2, 3], [np.nan, np.inf, 0.0])) == [(3, 0.0)]
    assert add(init_buffer(0, 2, CARRY), [1], [0.5]).rewards.shape == (0,)


def test_draws_are_uniform_among_what_is_there():
    buffer = add(init_buffer(5, 2, CARRY), [1, 2, 3], [0.3, 0.2, 0.1])
    drawn = draw(jax.random.key(0), buffer, 6000)
    numbers, counts = np.unique(np.asarray(drawn.tokens)[:, 0], return_counts=True)
    assert list(numbers) == [1, 2, 3]
    assert np.abs(counts / 6000 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 6000)
    assert np.isfinite(np.asarray(drawn.rewards)).all()


def test_an_empty_buffer_gives_nothing_to_imitate():
    assert (np.asarray(draw(jax.random.key(0), init_buffer(3, 2, CARRY), 2).rewards) == -np.inf).all()


@pytest.mark.slow
def test_jit_equals_eager():
    arguments = init_buffer(3, 2, CARRY), rows(1, 2), jnp.array([0.4, 0.5]), jnp.zeros((2, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, insert(*arguments), replay.insert(*arguments))
