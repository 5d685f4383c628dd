"""The search space against enumeration, statistics and arithmetic done by hand."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxad.nas import loop
from jaxad.nas.analysis.render import render, summary
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.random import random_search
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.cost import feature_sizes, flops, parameter_count
from spaces import TINY as SMALLEST

PAPER = SearchSpace(num_layers=6)
TINY = SearchSpace(
    num_layers=2,
    hypotheses=("centroid",),
    distances=("l1", "ssim"),
    channels=(8, 4),
    kernels=(3,),
    pools=("average", "max"),
    pool_kernels=(3, 1),
    norms=("batch",),
    activations=("relu", "elu"),
)

# The architectures Table IV reports for MNIST ("mean" read as "max") and a small one with uneven pooling.
MNIST = Architecture(
    hypothesis="reconstruction",
    distance="l1",
    layers=(
        Layer(channels=32, kernel=5, pool="max", pool_kernel=1, norm="none", activation="relu"),
        Layer(channels=8, kernel=3, pool="average", pool_kernel=1, norm="none", activation="elu"),
        Layer(channels=8, kernel=7, pool="average", pool_kernel=5, norm="none", activation="relu6"),
    ),
)
SMALL = Architecture(
    hypothesis="centroid",
    distance="l2",
    layers=(
        Layer(channels=4, kernel=3, pool="max", pool_kernel=3, norm="batch", activation="relu"),
        Layer(channels=2, kernel=1, pool="average", pool_kernel=5, norm="instance", activation="tanh"),
    ),
)


def test_defaults_are_the_papers_lists():
    assert SearchSpace().num_tokens == 20
    assert SearchSpace().choices_per_token == (4, 4) + (7, 4, 2, 4, 3, 8) * 3
    assert PAPER.num_tokens == 38
    assert PAPER.position_names[:4] == ("hypothesis", "distance", "layer1.channels", "layer1.kernel")
    assert PAPER.position_names[-1] == "layer6.activation"
    assert len(PAPER.position_names) == len(PAPER.choices_per_token) == 38


def test_tokens_of_a_seed_are_what_they_always_were():
    """Literals of version 0.2.0: seeds, checkpoints and files of the paper's space keep their meaning."""
    space = SearchSpace()
    tokens = space.sample(jax.random.key(7), 2)
    first = [3, 0, 2, 0, 0, 3, 0, 2, 1, 2, 1, 2, 1, 3, 1, 2, 1, 0, 1, 7]
    second = [1, 3, 5, 1, 0, 3, 0, 3, 5, 1, 0, 0, 0, 3, 5, 0, 0, 3, 0, 5]
    assert tokens.tolist() == [first, second]
    mutants = jax.vmap(space.mutate)(jax.random.split(jax.random.key(8), 2), tokens)
    assert mutants.tolist() == [[*first[:15], 3, *first[16:]], [*second[:3], 0, *second[4:]]]
    assert space.canonical(np.asarray(tokens)).tolist() == [[*first[:16], 0, *first[17:]], second]
    assert (space.cardinality, space.canonical_cardinality) == (2485980758016, 1665412890624)
    listed = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 0, 0), (0, 1, 0, 1), (1, 1, 0, 0), (1, 1, 0, 1)]
    assert list(SMALLEST.enumerate(canonical=True))[:6] == [(0, 0, 0, 0, *rest) for rest in listed]
    assert SMALLEST.canonical_cardinality == 36
    drawn = [[2, 0, 0, 0, 0, 0, 0, 0], [2, 0, 1, 0, 1, 0, 0, 0], [2, 0, 1, 0, 1, 1, 0, 1]]
    assert SMALLEST.sample(jax.random.key(1), 3).tolist() == drawn
    state = loop.start(jax.random.key(3), search := random_search(SMALLEST, population=2), SMALLEST, 2)
    assert set(state.shared) == {"encoder", "decoder", "projection"}
    kernel = state.shared["encoder"][0]["kernel"].ravel()[:3]
    np.testing.assert_array_equal(kernel, np.float32([0.22781060636043549, -0.25026237964630127, -0.06507541984319687]))
    assert search.ask(jax.random.key(5), state.strategy)[1].tolist() == SMALLEST.sample(jax.random.key(5), 2).tolist()


def test_cardinality_is_exact():
    assert PAPER.cardinality == 16 * (7 * 4 * 2 * 4 * 3 * 8) ** 6
    assert f"{PAPER.cardinality:.2e}" == "3.86e+23"
    assert TINY.cardinality == len(set(TINY.enumerate())) == 2 * (2 * 2 * 2 * 2) ** 2


def test_tokens_and_architectures_are_in_bijection():
    every = list(TINY.enumerate())
    architectures = [TINY.to_architecture(tokens) for tokens in every]
    assert len(set(architectures)) == TINY.cardinality
    assert [tuple(TINY.to_tokens(a).tolist()) for a in architectures] == every
    for tokens in np.asarray(PAPER.sample(jax.random.key(0), 50)):
        back = PAPER.to_tokens(PAPER.to_architecture(tokens))
        np.testing.assert_array_equal(back, tokens)
        assert back.dtype == np.int32


def test_every_token_names_the_right_choice():
    space = SearchSpace(num_layers=1)
    expected = Architecture(
        hypothesis="cluster",
        distance="l21",
        layers=(Layer(channels=64, kernel=7, pool="average", pool_kernel=5, norm="batch", activation="elu"),),
    )
    assert space.to_architecture([1, 2, 4, 3, 1, 2, 1, 7]) == expected
    tokens = space.to_tokens(MNIST_ONE := dataclasses.replace(MNIST, layers=MNIST.layers[:1]))
    assert tokens.tolist() == [3, 0, 3, 2, 0, 0, 0, 2]
    assert space.to_architecture(tokens) == MNIST_ONE


def test_sampling_is_uniform_over_a_small_space():
    tokens = np.asarray(jax.jit(TINY.sample, static_argnums=1)(jax.random.key(3), 20_000))
    index = np.ravel_multi_index(tokens.T, TINY.choices_per_token)
    counts = np.bincount(index, minlength=TINY.cardinality)
    assert stats.chisquare(counts).pvalue > 0.01


def test_sampling_is_uniform_at_every_position_of_the_papers_space():
    tokens = PAPER.sample(jax.random.key(4), 5_000)
    chex.assert_shape(tokens, (5_000, 38))
    chex.assert_type(tokens, jnp.int32)
    columns = zip(np.asarray(tokens).T, PAPER.choices_per_token)
    pvalues = [stats.chisquare(np.bincount(column, minlength=count)).pvalue for column, count in columns]
    assert min(pvalues) > 0.05 / len(pvalues)  # Bonferroni
    np.testing.assert_array_equal(tokens, PAPER.sample(jax.random.key(4), 5_000))


def test_mutation_reaches_every_neighbour_equally_within_a_position():
    space = dataclasses.replace(TINY, num_layers=1, channels=(1, 2, 3, 4))
    start = jnp.asarray([0, 1, 2, 0, 1, 0, 0, 1], jnp.int32)
    draws = 6_000
    keys = jax.random.split(jax.random.key(5), draws)
    mutants = np.asarray(jax.jit(jax.vmap(space.mutate, in_axes=(0, None)))(keys, start))
    assert ((mutants != np.asarray(start)).sum(axis=1) == 1).all()
    # Free positions: distance, channels (3 other values), pool, pool_kernel, activation.
    neighbours, counts = np.unique(mutants, axis=0, return_counts=True)
    shares = [1 / 5 / (3 if row[2] != start[2] else 1) for row in neighbours]
    assert len(neighbours) == 1 + 3 + 1 + 1 + 1
    assert stats.chisquare(counts, np.asarray(shares) * draws).pvalue > 0.01
    first_key = jax.random.split(jax.random.key(5), draws)[0]
    np.testing.assert_array_equal(mutants[0], space.mutate(first_key, start))


def test_mutation_stays_inside_the_papers_space():
    tokens = PAPER.sample(jax.random.key(6), 2_000)
    mutants = jax.jit(jax.vmap(PAPER.mutate))(jax.random.split(jax.random.key(7), 2_000), tokens)
    changed = np.asarray(mutants != tokens)
    assert (changed.sum(axis=1) == 1).all()
    assert changed.any(axis=0).all()
    assert (np.asarray(mutants) >= 0).all()
    assert (np.asarray(mutants) < np.asarray(PAPER.choices_per_token)[None]).all()


def test_canonical_merges_exactly_what_pooling_by_one_makes_equal():
    def meaning(tokens):
        architecture = TINY.to_architecture(tokens)
        layers = (
            dataclasses.replace(layer, pool="max") if layer.pool_kernel == 1 else layer for layer in architecture.layers
        )
        return dataclasses.replace(architecture, layers=tuple(layers))

    every = np.asarray(list(TINY.enumerate()), np.int32)
    canonical = TINY.canonical(every)
    meanings = [meaning(tokens) for tokens in every]
    for before, after in zip(meanings, canonical):
        assert meaning(after) == before
    distinct = set(map(tuple, canonical.tolist()))
    assert len(distinct) == len(set(meanings)) == TINY.canonical_cardinality < TINY.cardinality
    assert distinct == set(TINY.enumerate(canonical=True))
    np.testing.assert_array_equal(TINY.canonical(canonical), canonical)
    np.testing.assert_array_equal(jax.jit(TINY.canonical)(jnp.asarray(every)), canonical)
    assert isinstance(canonical, np.ndarray)


def test_canonical_is_the_identity_where_pooling_never_idles():
    space = dataclasses.replace(TINY, pool_kernels=(3, 5))
    every = np.asarray(list(space.enumerate()))
    np.testing.assert_array_equal(space.canonical(every), every)
    assert space.canonical_cardinality == space.cardinality == len(list(space.enumerate(canonical=True)))


def test_feature_sizes_round_up():
    sevens = dataclasses.replace(
        MNIST, layers=tuple(dataclasses.replace(layer, pool_kernel=7) for layer in MNIST.layers)
    )
    assert feature_sizes(sevens, (28, 28, 1)) == [(28, 28, 1), (4, 4, 32), (1, 1, 8), (1, 1, 8)]
    assert feature_sizes(SMALL, (10, 7, 3)) == [(10, 7, 3), (4, 3, 4), (1, 1, 2)]
    assert feature_sizes(MNIST, (28, 28, 1))[-1] == (6, 6, 8)


def test_parameters_and_flops_of_a_small_child_by_hand():
    # Encoder: 3x3x3x4 weights, 4 scales and offsets; 1x1x4x2, 2.  Decoder: 1x1x2x4, 4; 3x3x4x3, 3.
    encoder, decoder, projection = (108 + 8) + (8 + 4), (8 + 8) + (108 + 6), 2 * 10 + 10
    assert parameter_count(SMALL, (10, 7, 3)) == encoder + decoder + projection == 288
    # Encoder at 10x7 and 4x3; decoder at 1x1 and 4x3, before each upsampling.
    multiply_adds = 70 * 108 + 12 * 8 + 1 * 8 + 12 * 108 + 2 * 10
    assert flops(SMALL, (10, 7, 3)) == 2 * multiply_adds == 17_960


def test_parameters_and_flops_of_the_papers_mnist_child_by_hand():
    # Weights 5x5x1x32 = 800, 3x3x32x8 = 2304, 7x7x8x8 = 3136, mirrored; biases 32 + 8 + 8 and 8 + 32 + 1.
    assert parameter_count(MNIST, (28, 28, 1)) == 2 * (800 + 2304 + 3136) + 48 + 41 + 90
    # Only layer 3 reduces, 28 -> 6; its decoder convolution sees 6x6.
    multiply_adds = 784 * (800 + 2304 + 3136) + 36 * 3136 + 784 * (2304 + 800) + 80
    assert flops(MNIST, (28, 28, 1)) == 2 * multiply_adds


def test_json_round_trip_survives_a_file():
    record = MNIST.to_json()
    assert type(record["layers"]) is list
    assert Architecture.from_json(json.loads(json.dumps(record))) == MNIST
    assert hash(Architecture.from_json(record)) == hash(MNIST)


def test_rendering_shows_every_choice():
    assert summary(SMALL) == "centroid/l2 | 4 k3 max3 batch relu | 2 k1 average5 instance tanh"
    lines = render(SMALL).splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["Actions", "Value"],
        ["-" * len(lines[1])],
        ["Definition", "hypothesis", "centroid"],
        ["Distance", "measurement", "l2"],
        ["Layer-1"],
    ]
    assert [line.split()[-1] for line in lines[5:11]] == ["4", "3x3", "max", "3x3", "batch", "relu"]
    assert [line.split()[-1] for line in lines[12:]] == ["2", "1x1", "average", "5x5", "instance", "tanh"]


def test_fixed_architectures_may_sum_distances():
    summed = dataclasses.replace(SMALL, distance="l21+ssim")
    with pytest.raises(ValueError, match=r"distance is 'l21\+ssim'; this space holds only l1, l2, l21, ssim"):
        SearchSpace(num_layers=2, channels=(2, 4)).to_tokens(summed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_layers": 10**9}, "num_layers is 1000000000; the most is 1000"),
        ({"channels": ()}, "at least one choice"),
        ({"channels": (8, 8)}, "each only once"),
        ({"channels": (8, 0)}, "entry of channels is 0"),
        ({"channels": (8.0,)}, "entry of channels is 8.0"),
        ({"kernels": (3, 4)}, "entry of kernels is 4; give an odd"),
        ({"pool_kernels": (2,)}, "entry of pool_kernels is 2; give an odd"),
        ({"norms": ("layer",)}, "entry of norms is 'layer'; choose one of none, batch, instance"),
        ({"activations": "relu"}, "activations is 'relu'; give a tuple"),
    ],
)
def test_bad_spaces_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**options)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0] * 19, r"shape \(19,\).*give 20 integers for 3 layers"),
        ([0.0] * 20, "type float64; give 20 integers"),
        ([4] + [0] * 19, "token hypothesis is 4; give an integer from 0 to 3"),
        ([0] * 8 + [7] + [0] * 11, "token layer2.channels is 7; give an integer from 0 to 6"),
        ([0] * 19 + [-1], "token layer3.activation is -1; give an integer from 0 to 7"),
    ],
)
def test_bad_tokens_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace().to_architecture(tokens)


def test_architectures_outside_the_space_are_refused():
    with pytest.raises(ValueError, match="has 2 layers; this space holds only 3"):
        SearchSpace().to_tokens(SMALL)
    with pytest.raises(ValueError, match=r"layer1.channels is 4; this space holds only 3, 8, 16"):
        SearchSpace(num_layers=2).to_tokens(SMALL)


def test_bad_records_and_values_are_refused():
    record = SMALL.to_json()
    with pytest.raises(ValueError, match="give exactly hypothesis, distance, layers"):
        Architecture.from_json({"hypothesis": "centroid"})
    with pytest.raises(ValueError, match=r"layers\[1\] has fields int"):
        Architecture.from_json({**record, "layers": [record["layers"][0], 3]})
    with pytest.raises(ValueError, match="layers is 'none'; give a list"):
        Architecture.from_json({**record, "layers": "none"})
    with pytest.raises(ValueError, match="hypothesis is 'magic'; choose one of density"):
        Architecture.from_json({**record, "hypothesis": "magic"})
    with pytest.raises(ValueError, match="give at least one Layer"):
        dataclasses.replace(SMALL, layers=())
    with pytest.raises(ValueError, match=r"image_shape is .*all positive integers"):
        feature_sizes(SMALL, (8, 28, 28, 1))
    with pytest.raises(ValueError, match="at most 1000000 can be listed"):
        PAPER.enumerate()
    with pytest.raises(ValueError, match="the last axis must hold 38"):
        PAPER.canonical(np.zeros((2, 20), np.int32))


def test_a_space_of_one_cannot_mutate():
    one = SearchSpace(
        num_layers=1,
        hypotheses=("centroid",),
        distances=("l1",),
        channels=(8,),
        kernels=(3,),
        pools=("max",),
        pool_kernels=(1,),
        norms=("none",),
        activations=("relu",),
    )
    assert one.cardinality == 1
    with pytest.raises(ValueError, match="holds 1 architecture"):
        one.mutate(jax.random.key(0), jnp.zeros(8, jnp.int32))
