"""Shared weights: which part a child takes, that its training finds back there, and that a share is a whole child."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxad.nas import supernet
from jaxad.nas.space import SearchSpace
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig, make_child

SPACE = SearchSpace(num_layers=2, channels=(3, 8), kernels=(1, 3, 5, 7))
SMALL = Architecture(
    hypothesis="centroid",
    distance="l1",
    layers=(
        Layer(channels=3, kernel=5, pool="max", pool_kernel=3, norm="batch", activation="sigmoid"),
        Layer(channels=8, kernel=3, pool="average", pool_kernel=1, norm="none", activation="elu"),
    ),
)
LARGE = dataclasses.replace(
    SMALL, layers=tuple(dataclasses.replace(layer, channels=8, kernel=7, norm="instance") for layer in SMALL.layers)
)
# Shapes [k, k, in, out] of every kernel of SMALL for images of two channels, and where it lies in the shared one.
CORNERS = {"encoder": [(5, 2, 3), (3, 3, 8)], "decoder": [(5, 3, 2), (3, 8, 3)]}


@pytest.fixture
def shared(rng):
    """Shared weights without a zero or a one that could hide an error."""
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), supernet.init(rng, SPACE, 2)
    )


def moved(params, rng):
    return jax.tree.map(lambda leaf: leaf + rng.standard_normal(leaf.shape).astype(np.float32), params)


def assert_equal_trees(got, expected, **tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), got, expected)


def test_fresh_weights_are_as_large_as_the_largest_choices(rng):
    shared = supernet.init(rng, SPACE, 2)
    assert [layer["kernel"].shape for layer in shared["encoder"]] == [(7, 7, 2, 8), (7, 7, 8, 8)]
    assert [layer["kernel"].shape for layer in shared["decoder"]] == [(7, 7, 8, 2), (7, 7, 8, 8)]
    assert [layer["offset"].shape for layer in shared["decoder"]] == [(2,), (8,)]
    assert shared["projection"]["kernel"].shape == (8, 10)
    assert {leaf.dtype for leaf in jax.tree.leaves(shared)} == {np.dtype(np.float32)}
    kernel = shared["encoder"][1]["kernel"]
    assert abs(kernel.std() - 1) < 0.05
    again = supernet.init(np.random.default_rng(0), SPACE, 2)
    assert_equal_trees(again, supernet.init(np.random.default_rng(0), SPACE, 2), rtol=0)


def test_a_child_takes_centre_taps_and_leading_channels(shared):
    params = supernet.take(shared, SMALL)
    for role, corners in CORNERS.items():
        for weights, whole, (size, inner, outer) in zip(params[role], shared[role], corners, strict=True):
            start = (7 - size) // 2
            taps = whole["kernel"][start : start + size, start : start + size, :inner, :outer]
            np.testing.assert_allclose(weights["kernel"], taps / np.sqrt(size * size * inner), rtol=1e-6)
            np.testing.assert_array_equal(weights["offset"], whole["offset"][:outer])
    np.testing.assert_array_equal(params["encoder"][0]["scale"], shared["encoder"][0]["scale"][:3])
    assert "scale" not in params["encoder"][1]
    np.testing.assert_allclose(params["projection"]["kernel"], shared["projection"]["kernel"] / np.sqrt(8), rtol=1e-6)
    np.testing.assert_array_equal(params["projection"]["bias"], shared["projection"]["bias"])


def test_what_is_taken_is_a_copy(shared):
    before = jax.tree.map(np.copy, shared)
    for leaf in jax.tree.leaves(supernet.take(shared, SMALL)):
        leaf[...] = 77
    assert_equal_trees(shared, before, rtol=0)


def test_merging_one_child_restores_its_training_and_touches_nothing_else(shared, rng):
    original = jax.tree.map(np.copy, shared)
    before = supernet.take(shared, SMALL)
    after = moved(before, rng)
    merged = supernet.merge(shared, [(SMALL, before, after)])
    assert_equal_trees(supernet.take(merged, SMALL), after, rtol=1e-5, atol=1e-6)
    assert_equal_trees(shared, original, rtol=0)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {np.dtype(np.float32)}

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    changed = jax.tree.map(lambda new, old: new != old, merged, original)
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(changed)) == count(before) < count(shared)


def test_merging_none_changes_nothing(shared):
    assert_equal_trees(supernet.merge(shared, []), shared, rtol=0)


def test_each_weight_moves_by_the_mean_of_the_children_that_used_it(shared, rng):
    """Three children, of which two are small: outside their part the large one moves the weights alone."""
    children = []
    for architecture in (SMALL, LARGE, SMALL):
        before = supernet.take(shared, architecture)
        children.append((architecture, before, moved(before, rng)))
    merged = supernet.merge(shared, children)

    # In units of omega a change of a kernel is its change in the child times sqrt(fan-in).
    changes = [
        (after["encoder"][0]["kernel"] - before["encoder"][0]["kernel"]) * np.sqrt(size * size * 2)
        for size, (_, before, after) in zip((5, 7, 5), children)
    ]
    total, users = np.zeros((7, 7, 2, 8)), np.ones((7, 7, 2, 8))
    total += changes[1]
    for change in (changes[0], changes[2]):
        total[1:6, 1:6, :, :3] += change
        users[1:6, 1:6, :, :3] += 1
    expected = shared["encoder"][0]["kernel"] + total / users
    np.testing.assert_allclose(merged["encoder"][0]["kernel"], expected, rtol=1e-4, atol=1e-4)

    # Scales of the second layer belong to the only child that normalises there.
    _, before, after = children[1]
    expected = shared["encoder"][1]["scale"] + after["encoder"][1]["scale"] - before["encoder"][1]["scale"]
    np.testing.assert_allclose(merged["encoder"][1]["scale"], expected, rtol=1e-5, atol=1e-6)

    assert_equal_trees(supernet.merge(shared, children[::-1]), merged, rtol=1e-5, atol=1e-5)


# ---- a share is a whole child ------------------------------------------------------------------------------------


def masked(shared, architecture):
    """The whole of omega with zeros wherever a child has no weights, as a masked supernet would compute with."""
    share = supernet.take(shared, architecture)
    whole = jax.tree.map(np.zeros_like, shared)
    for role, corners in CORNERS.items():
        for to, weights, (size, inner, outer) in zip(whole[role], share[role], corners):
            start = (7 - size) // 2
            to["kernel"][start : start + size, start : start + size, :inner, :outer] = weights["kernel"]
            to["offset"][:outer] = weights["offset"]
            if "scale" in weights:
                to["scale"][:outer] = weights["scale"]
            else:
                del to["scale"]
    whole["projection"]["kernel"][:8] = share["projection"]["kernel"]
    whole["projection"]["bias"][:] = share["projection"]["bias"]
    return whole


@pytest.mark.parametrize("hypothesis", ["centroid", "cluster"])
def test_a_share_computes_what_masked_shared_weights_compute(shared, rng, hypothesis):
    """Output, latent, loss and scores of the stand-alone child and of the child inside omega are the same."""
    small = dataclasses.replace(SMALL, hypothesis=hypothesis)
    wide = dataclasses.replace(
        small, layers=tuple(dataclasses.replace(layer, channels=8, kernel=7) for layer in small.layers)
    )
    images = rng.random((6, 9, 7, 2), dtype=np.float32)

    def evaluate(architecture, network):
        child = make_child(architecture, ChildConfig())
        own = jax.eval_shape(child.init, jax.random.key(0), images)
        assert jax.tree.map(np.shape, network) == jax.tree.map(np.shape, {k: own[k] for k in network})
        beliefs = jax.tree.map(lambda leaf: np.cos(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape), own)

        @jax.jit
        def run(params, images):
            output, stats = child.apply(params, images), child.fit(params, images)
            loss, terms = child.loss(params, images, 0)
            return output.reconstruction, output.latent, loss, terms, child.score(params, stats, images)

        return run(network | {"hypothesis": beliefs["hypothesis"]}, images)

    alone = evaluate(small, supernet.take(shared, small))
    inside = evaluate(wide, masked(shared, small))
    assert_equal_trees(alone, inside, rtol=1e-4, atol=1e-5)
