"""The sampler's environment: positions, windows and visits against a plain Python loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.methods.nbs import environment as env

CONFIG = env.EnvironmentConfig(patch=4, shift=3, window=8)
STEPS = 30


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    return rng.random((5, 11, 14, 2), np.float32), rng.random((5, 11, 14), np.float32)


@functools.cache
def player(steps, choice):
    def run(key, images, losses, actions):
        scene = env.make_scene(CONFIG, images, losses, choice)
        return env.rollout(CONFIG, key, scene, lambda key, t, seen: actions[t], steps)

    return jax.jit(run), jax.jit(jax.vmap(run, (0, None, None, 0)))


def actions_of(seed, steps=STEPS):
    return np.random.default_rng(seed).integers(0, env.ACTIONS, steps).astype(np.int32)


@pytest.mark.parametrize("choice", [5, 2])
def test_an_episode_equals_a_loop(world, choice):
    images, losses = world
    actions = actions_of(choice)
    got = jax.device_get(player(STEPS, choice)[0](jax.random.key(choice), images, losses, actions))
    # Where jumps lead is random: a jump is checked for being possible, everything else for being right.
    corner = image = None
    visited = np.zeros(losses.shape, bool)
    last = np.array([11 - 4, 14 - 4])
    jumps = []
    for t, action in enumerate(actions):
        assert got.actions[t] == action
        if corner is not None:
            np.testing.assert_array_equal(got.observations[t], plain_window(images, losses, visited, image, corner))
        if action == env.CHANGE_IMAGE:
            image, corner = got.images[t], got.corners[t]
            jumps.append((int(image), *map(int, corner)))
            assert 0 <= image < choice
            assert (corner >= 0).all()
            assert (corner <= last).all()
        elif corner is not None:
            corner = np.clip(corner + 3 * np.array(env.DIRECTIONS[action]), 0, last)
            assert got.images[t] == image
            np.testing.assert_array_equal(got.corners[t], corner)
        else:  # the beginning is random, too
            image, corner = got.images[t], got.corners[t]
        patch = visited[image, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4]
        np.testing.assert_allclose(got.news[t], 1 - patch.mean(), atol=1e-6)
        patch[:] = True
    assert len(set(jumps)) > 1


def plain_window(images, losses, visited, image, corner):
    everything = np.concatenate([images, losses[..., None], visited[..., None]], -1)[image]
    window = np.zeros((8, 8, everything.shape[-1]), np.float32)
    for i in range(8):
        for j in range(8):
            row, column = corner[0] - 2 + i, corner[1] - 2 + j
            if 0 <= row < 11 and 0 <= column < 14:
                window[i, j] = everything[row, column]
    return window


def test_several_episodes_at_once_are_those_one_by_one(world):
    keys = lambda: jax.random.split(jax.random.key(0), 3)  # noqa: E731
    actions = np.stack([actions_of(seed) for seed in range(3)])
    one, several = player(STEPS, 5)
    together = several(keys(), *world, actions)
    for k in range(3):
        alone = one(keys()[k], *world, actions[k])
        jax.tree.map(lambda a, b, k=k: np.testing.assert_array_equal(a, b[k]), alone, together)


def test_an_episode_is_decided_by_key_and_actions_and_starts_vary(world):
    run = player(1, 5)[0]
    stay = np.zeros(1, np.int32)
    places = [
        tuple(np.r_[episode.images, episode.corners[0]].tolist())
        for episode in (run(jax.random.key(seed), *world, stay) for seed in (0, 0, 1, 2, 3))
    ]
    assert places[0] == places[1]
    assert len(set(places)) > 2


def test_patches_and_visits(world, rng):
    images, losses = world
    where = rng.integers(0, 5, 6), np.stack([rng.integers(0, 8, 6), rng.integers(0, 11, 6)], 1)
    cut = env.patches(jnp.asarray(images), *map(jnp.asarray, where), 4)
    flat = env.patches(jnp.asarray(losses), *map(jnp.asarray, where), 4)
    counts = np.zeros(losses.shape, int)
    for t, (image, (top, left)) in enumerate(zip(*where)):
        np.testing.assert_array_equal(cut[t], images[image, top : top + 4, left : left + 4])
        np.testing.assert_array_equal(flat[t], losses[image, top : top + 4, left : left + 4])
        counts[image, top : top + 4, left : left + 4] += 1
    np.testing.assert_array_equal(env.visits(losses.shape, *map(jnp.asarray, where), 4), counts)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"patch": 0}, "the least is 1"), ({"window": 3}, "equal margin"), ({"window": 9}, "equal margin")],
)
def test_sizes_that_do_not_fit_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        env.EnvironmentConfig(**{"patch": 4, "shift": 3, "window": 8} | fields).check()


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match="images are 3x9, patches 4"):
        env.make_scene(CONFIG, jnp.zeros((2, 3, 9, 1)), jnp.zeros((2, 3, 9)))
