"""The FIFO of loss profiles against a Python deque."""

from collections import deque

import jax
import numpy as np

from jaxad.methods.nbs import buffer as fifo


def test_the_oldest_goes_first_and_unwanted_ones_never_come(rng):
    buffer, kept = fifo.empty(5, (3, 4), 2), deque(maxlen=5)
    push = jax.jit(fifo.push)
    for turn in range(7):
        profiles = rng.random((2, 3, 4, 2), np.float32)
        masks = rng.integers(0, 2, (2, 3, 4)).astype(np.uint8)
        wanted = turn % 3 != 1
        buffer = push(buffer, profiles, masks, wanted)
        if wanted:
            kept.extend(zip(profiles, masks))
        assert int(buffer.pushed) == 2 * (turn + 1) - 2 * ((turn + 2) // 3)
        for place in range(min(len(kept), 5)):
            found = [np.array_equal(buffer.profiles[place], profile) for profile, _ in kept]
            assert sum(found) == 1
            np.testing.assert_array_equal(buffer.masks[place], kept[found.index(True)][1])


def test_draws_come_from_what_is_there(rng):
    buffer = fifo.empty(6, (2, 2), 3)
    draw = jax.jit(fifo.draw, static_argnums=2)
    np.testing.assert_array_equal(draw(buffer, jax.random.key(0), 4)[0], 0)
    profiles, masks = 1 + rng.random((4, 2, 2, 3)).astype(np.float32), np.ones((4, 2, 2), np.uint8)
    buffer = fifo.push(buffer, profiles, masks)
    drawn, drawn_masks = draw(buffer, jax.random.key(1), 64)
    assert {tuple(p.ravel().tolist()) for p in np.asarray(drawn)} == {tuple(p.ravel().tolist()) for p in profiles}
    np.testing.assert_array_equal(drawn_masks, 1)
