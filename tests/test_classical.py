"""scikit-learn's estimators as detectors: the numbers are scikit-learn's, the functions are pure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from jaxad.data import digits, textures
from jaxad.methods.classical.forest import IsolationForestConfig, grown, isolation_forest
from jaxad.methods.classical.neighbours import local_outlier_factor, nearest_neighbours
from jaxad.methods.classical.pca import pca
from jaxad.methods.classical.svm import one_class_svm
from jaxad.methods.common import nearest as module
from jaxad.methods.common.host import ClassicalState
from jaxad.methods.common.image_buffer import empty, remember
from jaxad.methods.common.nearest import index, index_on_host, nearest
from jaxad.metrics.image import auroc
from jaxad.runs import saving
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images

IMAGES, LABELS = digits().images, digits().labels
ZEROS, EIGHTS = IMAGES[LABELS == 0], IMAGES[LABELS == 8]
TEST = np.concatenate([ZEROS[120:], IMAGES[LABELS != 0][:80]])


CALIBRATE = jax.jit(lambda detector, state, images: detector.calibrate(state, images), static_argnums=0)


def rows_of(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255


def fitted(detector, images=ZEROS[:120], seed=0, batch_size=20):
    """A detector's state after one pass over the images, and the rows it remembers: each image once."""
    steps = -(-len(images) // batch_size)
    state, history = fit(detector, jax.random.key(seed), images, steps=steps, batch_size=batch_size, chunk=8)
    assert history.info.remembered[-1] == min(len(np.unique(images, axis=0)), len(state.buffer.rows))
    state = CALIBRATE(detector, state, jnp.zeros((1, *images.shape[1:])))
    return state, np.asarray(state.buffer.rows)[: int(state.buffer.count)]


ORACLES = {
    "lof": (
        local_outlier_factor(memory=150, neighbours=3),
        lambda rows, seed: LocalOutlierFactor(3, novelty=True).fit(rows),
    ),
    "svm": (
        one_class_svm(memory=150, nu=0.2),
        lambda rows, seed: OneClassSVM(nu=0.2).fit(rows.astype(np.float64)),
    ),
    "svm with a kernel of its own": (
        one_class_svm(memory=150, gamma=0.3),
        lambda rows, seed: OneClassSVM(gamma=0.3).fit(rows.astype(np.float64)),
    ),
    "pca": (
        pca(memory=150, components=5, score="likelihood"),
        lambda rows, seed: PCA(5).fit(rows.astype(np.float64)),
    ),
}


NEIGHBOURS, PCA_ERROR = nearest_neighbours(memory=150, neighbours=4), pca(memory=150, components=5)
METHODS = {
    "isolation_forest": isolation_forest(memory=150, trees=40, samples=64),
    "local_outlier_factor": ORACLES["lof"][0],
    "nearest_neighbours": NEIGHBOURS,
    "one_class_svm": ORACLES["svm"][0],
    "pca": PCA_ERROR,
}  # compiled once for all tests, which fit them to equally many images


@pytest.mark.parametrize("name", ORACLES)
def test_scores_are_those_of_scikit_learn(name):
    detector, oracle = ORACLES[name]
    state, rows = fitted(detector)
    assert rows.shape == (120, 64)
    expected = -oracle(rows, int(state.seed)).score_samples(rows_of(TEST))
    np.testing.assert_allclose(score_images(detector, state, TEST, 64), expected, rtol=2e-5, atol=1e-5)


def average_path(images):
    """c(n) of the paper."""
    return {1: 0.0, 2: 1.0}.get(images) or 2 * (np.log(images - 1) + np.euler_gamma) - 2 * (images - 1) / images


def test_the_trees_of_a_forest_isolate_what_they_were_grown_on():
    """Each on all images: every cut parts some, until they are alone, equal or at the depth limit; scores by hand."""
    state, rows = fitted(isolation_forest(memory=150, trees=20))
    forest, asked = jax.tree.map(np.asarray, state.fitted), rows_of(TEST)
    lengths = np.zeros((20, len(asked)))

    def descend(tree, node, held, reached, depth):
        left, right = forest.left[tree, node], forest.right[tree, node]
        if left == right == node:
            assert len(held) == 1 or depth == 7 or np.ptp(held, 0).max() == 0
            lengths[tree, reached] = depth + average_path(len(held)) if len(held) > 1 else depth
            return
        pixel, threshold = forest.feature[tree, node], forest.threshold[tree, node]
        ways = held[:, pixel] > threshold
        assert 0 < ways.sum() < len(ways)
        for child, way in ((left, False), (right, True)):
            follows = reached[(asked[reached, pixel] > threshold) == way]
            descend(tree, child, held[ways == way], follows, depth + 1)

    for tree in range(20):
        descend(tree, 0, rows, np.arange(len(asked)), 0)
    expected = 2 ** (-lengths.mean(0) / average_path(len(rows)))
    np.testing.assert_allclose(score_images(isolation_forest(memory=150, trees=20), state, TEST), expected, rtol=1e-6)


def test_forests_differ_from_those_of_scikit_learn_by_chance_alone():
    rows, asked, trees = rows_of(ZEROS[:120]), rows_of(TEST), 300
    theirs = [IsolationForest(n_estimators=trees, max_samples=64, random_state=seed).fit(rows) for seed in (0, 1)]
    scores, others = (-forest.score_samples(asked) for forest in theirs)
    forest = jax.tree.map(jnp.asarray, grown(rows, trees, 64, 127, np.random.default_rng(0)))
    detector = isolation_forest(memory=64, trees=trees, samples=64)
    ours = detector.score(ClassicalState(forest, None, None), TEST / np.float32(255))
    chance = np.sqrt(np.mean((others - scores) ** 2))
    assert 0.5 * chance < np.sqrt(np.mean((ours - scores) ** 2)) < 1.3 * chance < 0.02


@pytest.mark.parametrize(
    ("detector", "column"),
    [
        (NEIGHBOURS, lambda d: d[:, -1]),
        (nearest_neighbours(memory=150, neighbours=4, reduce="mean"), lambda d: d.mean(1)),
    ],
    ids=["largest", "mean"],
)
def test_neighbour_distances_are_those_of_scikit_learn(detector, column):
    state, rows = fitted(detector)
    distances, _ = NearestNeighbors(n_neighbors=4).fit(rows).kneighbors(rows_of(TEST))
    np.testing.assert_allclose(score_images(detector, state, TEST, 64), column(distances), rtol=1e-5)


def test_reconstruction_errors_are_those_of_scikit_learn_and_maps_their_pixels():
    detector = PCA_ERROR
    state, rows = fitted(detector)
    model, test = PCA(5).fit(rows), rows_of(TEST)
    squared = np.square(model.inverse_transform(model.transform(test)) - test)
    np.testing.assert_allclose(score_images(detector, state, TEST, 64), squared.mean(1), rtol=1e-4)
    maps = map_images(detector, state, TEST, 64)
    np.testing.assert_allclose(maps, squared.reshape(-1, 8, 8), rtol=1e-3, atol=1e-6)


def test_large_images_are_reduced_and_maps_have_their_size():
    images = textures(size=48).images[:30]
    detector = pca(memory=30, components=3, side=12)
    state, rows = fitted(detector, images, batch_size=10)
    assert rows.shape == (30, 144)
    assert map_images(detector, state, images[:3], 3).shape == (3, 48, 48)
    wide = jax.jit(detector.init)(jax.random.key(0), jnp.zeros((2, 24, 48, 1)) + 0.5)
    assert wide.fitted.mean.shape == (6 * 12,)
    np.testing.assert_allclose(wide.fitted.mean, 0.5, rtol=1e-5)


@pytest.mark.parametrize("detector", METHODS.values(), ids=METHODS)
def test_more_images_make_a_better_detector(detector):
    """Fitted to 120 eights instead of four, every method tells other digits from eights better, for every seed."""
    test = np.concatenate([EIGHTS[120:], IMAGES[LABELS != 8][:120]])
    labels = np.repeat([0, 1], [len(EIGHTS) - 120, 120])
    values = []
    for seed in range(3):
        four = np.tile(EIGHTS[4 * seed : 4 * seed + 4], (30, 1, 1, 1))
        states = [fitted(detector, images, seed)[0] for images in (four, EIGHTS[:120])]
        assert [int(state.buffer.count) for state in states] == [4, 120]
        values.append([float(auroc(score_images(detector, state, test, 64), labels)) for state in states])
    few, many = np.array(values).T
    assert many.min() > max(few.max(), 0.5) + np.ptp(many)


def test_a_loaded_detector_keeps_its_fit_when_calibrated_again(tmp_path):
    detector = isolation_forest(memory=40, trees=10)
    state, _ = fitted(detector, ZEROS[:40])
    config = IsolationForestConfig(memory=40, trees=10)
    saving.save(tmp_path, config=config, state=state, image_shape=(8, 8, 1))
    loaded = saving.load(tmp_path)
    assert loaded.state.buffer.count == 0
    again = jax.jit(loaded.detector.calibrate)(loaded.state, jnp.zeros((4, 8, 8, 1)))
    scores = [score_images(loaded.detector, s, TEST, 64) for s in (state, loaded.state, again)]
    np.testing.assert_array_equal(scores[1], scores[0])
    np.testing.assert_array_equal(scores[2], scores[0])


@pytest.mark.parametrize("detector", METHODS.values(), ids=METHODS)
def test_equal_images_are_no_reason_to_fail(detector):
    same = np.full((120, 8, 8, 1), 100, np.uint8)
    state, _ = fitted(detector, same)
    assert state.buffer.count == 1
    scores = score_images(detector, state, np.concatenate([same[:2], ZEROS[:2]]), 64)
    assert np.isfinite(scores).all()
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (isolation_forest, {"trees": 0}, "trees is 0"),
        (isolation_forest, {"samples": 1}, "samples is 1"),
        (isolation_forest, {"memory": 0}, "memory is 0"),
        (local_outlier_factor, {"neighbours": 11, "memory": 10}, "neighbours is 11; give 1 to memory, which is 10"),
        (nearest_neighbours, {"neighbours": 0}, "neighbours is 0"),
        (nearest_neighbours, {"reduce": "median"}, "reduce is 'median'"),
        (one_class_svm, {"nu": 0.0}, "nu is 0.0"),
        (one_class_svm, {"gamma": -1.0}, "gamma is -1.0"),
        (pca, {"components": 0}, "components is 0"),
        (pca, {"score": "rank"}, "score is 'rank'"),
        (pca, {"side": 0}, "side is 0"),
    ],
)
def test_configs_say_what_is_wrong_with_them(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


# ---- memory and neighbours -------------------------------------------------------------------------------------


def test_a_memory_keeps_each_of_the_first_images_once(rng):
    images = rng.random((9, 3, 2), np.float32)
    memory = empty(6, (3, 2))
    add = jax.jit(remember)
    memory = add(memory, images[[0, 1, 0, 2]])
    assert memory.count == 3
    np.testing.assert_array_equal(memory.rows[:3], images[:3])
    memory = add(memory, images[[2, 1, 3, 3]])
    np.testing.assert_array_equal(memory.rows[:4], images[:4])
    assert not memory.rows[4:].any()
    memory = add(memory, images[5:9])
    assert memory.count == 6
    np.testing.assert_array_equal(memory.rows, images[[0, 1, 2, 3, 5, 6]])
    after = add(memory, images[[8, 4, 0, 7]])
    jax.tree.map(np.testing.assert_array_equal, after, memory)


def test_a_memory_that_cannot_be_meant_is_refused_before_it_is_allocated():
    with pytest.raises(
        ValueError, match=r"an image buffer of 100000 images of 150528 numbers takes 56.1 GiB; the limit is 8"
    ):
        empty(100_000, (224, 224, 3))


def test_images_of_zeros_and_swapped_pixels_are_different_images():
    images = np.zeros((4, 6), np.float32)
    images[1, 0] = images[2, 1] = images[3, [0, 1]] = 0.5
    assert jax.jit(remember)(empty(5, (6,)), images).count == 4


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_rows_are_exact_in_chunks_of_any_size(k, rng, monkeypatch):
    rows, queries = (100 + rng.standard_normal((n, 5)).astype(np.float32) for n in (40, 23))
    distances, indices = NearestNeighbors(n_neighbors=k).fit(rows[:30].astype(np.float64)).kneighbors(queries)
    stored = jax.tree.map(jnp.asarray, index_on_host(rows[:30], 40))
    ways = [  # traced anew: an index made within, one that is known, two that are not
        lambda: jax.jit(lambda count: nearest(index(rows, count), queries, k))(jnp.int32(30)),
        lambda: jax.jit(lambda queries: nearest(stored, queries, k))(queries),
        lambda: jax.jit(lambda stored: nearest(stored, queries, k))(stored),
        lambda: jax.jit(lambda stored, queries: nearest(stored, queries, k))(stored, queries),
    ]
    for chunk, block, group in ((2**22, 512, 16), (40 * 7, 7, 4), (2**22, 2, 3), (1, 16, 2)):
        for name, value in (("CHUNK", chunk), ("BLOCK", block), ("GROUP", group)):
            monkeypatch.setattr(module, name, value)
        found = ways.pop()()
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    with pytest.raises(ValueError, match="k is 41"):
        nearest(index(rows), queries, 41)
    few = jax.jit(nearest, static_argnums=2)(index(rows, 2), queries, 3), nearest(index(rows, 2), queries, 3)
    for distances in (found.distances for found in few):
        assert np.isinf(distances[:, 2]).all()
        assert np.isfinite(distances[:, :2]).all()
