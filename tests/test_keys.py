"""No two draws of a step are of one key, whichever way it was derived: `fold_in(key, i)` is `split(key, n)[i]`."""

import collections
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import define_prng_impl, threefry_prng_impl

from jaxad.data import digits
from jaxad.methods import DETECTORS
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.registry import STRATEGIES, make_strategy
from jaxad.training import loop
from jaxad.types import Batch, Detector

IMAGES = digits().images[:64]
drawn = collections.Counter()  # keys that numbers were drawn with

# The usual generator under another name: what is compiled for these keys is not what other tests have compiled.
NOTED = define_prng_impl(
    key_shape=threefry_prng_impl.key_shape, seed=threefry_prng_impl.seed, split=threefry_prng_impl.split,
    random_bits=threefry_prng_impl.random_bits, fold_in=threefry_prng_impl.fold_in, name="noted", tag="noted",
)  # fmt: skip


@pytest.fixture(autouse=True)
def noting(monkeypatch):
    """Whoever draws with such a key, in compiled code or not, leaves a note that no compiler drops."""
    internals = inspect.unwrap(jax.random.bits).__globals__  # wherever this version of JAX has them
    bits = internals["_random_bits"]

    def noted(key, bit_width, shape):
        if "noted" in str(key.dtype):
            data = jax.random.key_data(jax.random.clone(key)).reshape(-1, 2)
            jax.debug.callback(lambda data: drawn.update(map(tuple, np.asarray(data).reshape(-1, 2).tolist())), data)
        return bits(key, bit_width, shape)

    monkeypatch.setitem(internals, "_random_bits", noted)


def draws(function, *arguments):
    """How often each key draws in a function of a key, of which nothing but that is computed."""
    drawn.clear()
    key = jax.random.key(0, impl=NOTED)
    jax.jit(lambda key, *rest: (function(key, *rest), 0)[1])(key, *arguments)
    jax.effects_barrier()
    return dict(drawn)


def test_equal_keys_are_found():
    def twice(key):
        return jax.random.normal(jax.random.split(key, 3)[1]), jax.random.uniform(jax.random.fold_in(key, 1))

    def looped(key):
        return jax.lax.fori_loop(0, 3, lambda i, x: x + jax.random.normal(jax.random.fold_in(key, i // 2)), 0.0)

    def once(key):
        keys = jax.random.split(key, 4)
        return jax.vmap(jax.random.normal)(keys), jax.random.uniform(jax.random.fold_in(key, 4))

    assert [sorted(draws(function).values()) for function in (twice, looped, once)] == [[2], [1, 2], [1] * 5]


RELATIVES = {"deep_sad", "ganomaly", "nbs", "skip_ganomaly"}  # whose draws are those of others, or take a minute


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in RELATIVES)) for n in DETECTORS])
def test_no_two_draws_of_a_detector_are_of_one_key(name):
    """In making a state, in a step and in fitting what was seen, from keys as the training loop has them."""
    entry = DETECTORS[name]
    detector = entry.build(list(entry.tiny.values())[-1])
    images = IMAGES if entry.whole else IMAGES[:16]
    masks = np.zeros(images.shape[:3], np.float32)
    masks[::2, :, 4:] = 1

    def whole(key, images, masks, labels):
        init_key, _, step_key = loop._split(key)
        state = detector.init(init_key, images)
        told = getattr(entry.config, "labels", None)
        batch = Batch(images, labels if told else None, masks if told == "masks" or entry.whole else None)
        return detector.step(jax.random.fold_in(step_key, 0), state, batch)

    labels = np.arange(len(images), dtype=np.int32) % 2
    found = draws(whole, images.astype(np.float32) / 255, masks[:32] if entry.whole else masks, labels)
    assert max(found.values(), default=1) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_two_draws_of_a_strategy_are_of_one_key(name):
    search = make_strategy(name, SearchSpace(num_layers=1), population=3)

    def whole(key):
        start, ask, tell, again = jax.random.split(key, 4)
        state, tokens = search.ask(ask, search.init(start))
        state, _ = search.tell(tell, state, tokens, jnp.linspace(0, 1, 3))
        return state if search.revisit is None else search.revisit(again, state)

    assert max(draws(whole).values()) == 1


def test_no_two_draws_of_a_training_are_of_one_key():
    """Weights, the order of the images and every step, over two chunks and into a second epoch."""

    def init(key, images):
        return jax.random.normal(key, (3,))

    def step(key, state, batch):
        state = state + jax.random.normal(key, (3,)) + batch.images.mean()
        return state, Order(state.sum())

    Order = collections.namedtuple("Order", "total")
    detector = Detector(init, step, lambda state, images: state, lambda state, images: images.mean((1, 2, 3)))
    drawn.clear()
    loop.fit(detector, jax.random.key(0, impl=NOTED), IMAGES, steps=6, batch_size=20, chunk=3)
    jax.effects_barrier()
    again = {key: count for key, count in drawn.items() if count > 1}
    assert len(drawn) > 6
    # The order of an epoch is drawn anew in each program that shows some of it: for the first batch, and by chunks.
    orders = {tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in _epochs(3)}
    assert set(again) <= orders


def _epochs(count):
    order = jax.random.split(jax.random.key(0), 3)[1]
    for epoch in range(count):
        key = jax.random.fold_in(jax.random.clone(order), epoch)
        for _ in range(3):
            key, part = jax.random.split(key)
            yield jax.random.clone(part)
