"""Scores by other aggregates than the mean, against NumPy on maps: alone, in both executors, in the detector."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxad.methods.autoencoder import autoencoder
from jaxad.nas import supernet, trial
from jaxad.nas.executors import runtime
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, TrialConfig
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.choices import OneOf
from jaxad.nn.objectives import make_hypothesis
from jaxad.nn.objectives.aggregates import AGGREGATES, image_score
from jaxad.nn.objectives.child import ChildConfig, make_child, make_optimiser
from jaxad.nn.objectives.distances import DISTANCES, get_distance


def by_hand(aggregate, maps, scores):
    """[B] of maps [B, H, W] and the distance's own scores [B], in NumPy."""
    flat = np.sort(np.asarray(maps, np.float64).reshape(len(maps), -1), axis=1)
    return {
        "mean": np.asarray(scores),
        "max": flat[:, -1],
        "top": flat[:, -max(1, flat.shape[1] // 100) :].mean(1),
    }[aggregate]


# ---- alone -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 3), (12, 17), (20, 31)])  # one, two and six pixels at the top
@pytest.mark.parametrize("name", [*DISTANCES, "l21+ssim"])
def test_aggregates_equal_numpy(rng, size, name):
    x_hat, x = rng.random((2, 4, *size, 3), np.float32)
    distance = get_distance(name)

    @jax.jit
    def computed(x_hat, x):
        scores = {aggregate: jax.vmap(image_score(distance, aggregate))(x_hat, x) for aggregate in AGGREGATES}
        return jax.vmap(distance.map)(x_hat, x), jax.vmap(distance.score)(x_hat, x), scores

    maps, scores, found = computed(x_hat, x)
    for aggregate in AGGREGATES:
        np.testing.assert_allclose(found[aggregate], by_hand(aggregate, maps, scores), rtol=1e-5)
    np.testing.assert_array_equal(found["mean"], scores)  # the paper's, and nothing like it
    assert (found["max"] > found["mean"]).all() or size == (3, 3)  # of which one window of SSIM may be all there is


def test_run_time_aggregates_equal_named_ones(rng):
    x_hat, x = rng.random((2, 12, 17, 3), np.float32)
    names = tuple(AGGREGATES)
    run = jax.jit(jax.vmap(lambda index: image_score(get_distance("l2"), OneOf(names, index))(x_hat, x)))
    expected = [image_score(get_distance("l2"), name)(x_hat, x) for name in names]
    np.testing.assert_allclose(run(jnp.arange(3)), np.stack(expected), rtol=1e-6)


def test_an_aggregate_can_be_added():
    x_hat, x = np.zeros((4, 4, 1), np.float32), np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    with AGGREGATES.temporarily("median", jnp.median):
        assert float(image_score(get_distance("l1"), "median")(x_hat, x)) == 7.5
        assert SearchSpace(aggregates=("mean", "median")).position_names[2] == "aggregate"
        assert runtime.options_of([child("median")]).aggregate == ("mean", "max", "top", "median")
    with pytest.raises(ValueError, match="aggregate 'max' is known already"):
        AGGREGATES.add("max", jnp.median, replace=True)
    assert runtime.options_of([child("mean")]).aggregate == ("mean",)  # what was: no other is computed


# ---- in executors ------------------------------------------------------------------------------------------------

SHAPE = (11, 13, 2)
CONFIG = TrialConfig(
    steps=2, batch_size=8, fit_images=16, child=ChildConfig(optimiser="sgd", learning_rate=0.01, regulariser=0.5)
)


def child(aggregate, distance="l2", depth=1, hypothesis="density"):
    layer = Layer(channels=3, kernel=3, pool="max", pool_kernel=3, norm="instance", activation="elu")
    return Architecture(hypothesis=hypothesis, distance=distance, layers=(layer,) * depth, aggregate=aggregate)


CHILDREN = [
    child("max"),
    child("top", "l1", 2, "centroid"),
    child("mean", "ssim"),
    child("top", "l21+ssim", 2, "cluster"),
    child("max", "l21", 1, "reconstruction"),
]


@functools.cache
def make_data():
    """Feature maps, of any range and in half precision; labels that say nothing, so that rewards tell scores apart."""
    rng = np.random.default_rng(3)
    train, valid = (5 * rng.standard_normal((count, *SHAPE)).astype(np.float16) for count in (24, 20))
    return trial.put(train, valid, rng.random(20) < 0.4)


def make_jobs():
    space = SearchSpace(num_layers=2, min_layers=1, channels=(3,), kernels=(3,))
    shared = supernet.init(np.random.default_rng(1), space, SHAPE[2])
    keys = jax.random.split(jax.random.key(0), len(CHILDREN))
    return [Job(a, supernet.take(shared, a), key) for a, key in zip(CHILDREN, keys)]


@pytest.fixture(scope="module")
def results():
    """Of both executors; the scores that the sequential one was rewarded for, child by child."""
    seen, reward_of = [], trial.reward_of

    def watched(outputs, *rest):
        jax.debug.callback(lambda scores: seen.append(np.asarray(scores)), outputs, ordered=True)
        return reward_of(outputs, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "reward_of", watched)
        sequential = Sequential(make_data(), CONFIG)
        one = list(sequential(make_jobs()))
        jax.effects_barrier()
        sequential.close()
    vmapped = Vmapped(make_data(), CONFIG, jax.devices()[:1])
    other = list(vmapped(make_jobs()))
    programs = vmapped.compiles
    vmapped.close()
    return one, other, seen, programs


@functools.cache
def parts_of(index):
    """(maps, distances, regularisers) of images by the trained child, from its network, distance and hypothesis."""
    architecture = dataclasses.replace(CHILDREN[index], aggregate="mean")
    whole, distance = make_child(architecture, CONFIG.child), get_distance(architecture.distance)

    @jax.jit
    def run(params, stats, images, moments):
        output = whole.apply(params, images, moments)
        terms = whole.parts(params, stats, images, moments)
        return jax.vmap(distance.map)(output.reconstruction, images), terms.distance, terms.regulariser

    return run


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CHILDREN)))
def test_both_executors_score_by_the_aggregate(results, index):
    """Distances by the aggregate, in NumPy, plus lambda times the hypothesis, from the weights that came out."""
    data, job = make_data(), make_jobs()[index]
    one, other, seen, _ = results
    beliefs = trained_beliefs(index)
    params = one[index].params | {"hypothesis": beliefs}
    fitting, rows = trial.to_float(data.train[np.arange(16)]), np.arange(24) % 20
    whole = make_child(job.architecture, CONFIG.child)
    first = trial.batch_order(trial.trial_keys(job.key).order, 24, CONFIG.steps, CONFIG.batch_size)[0]
    moments = jax.jit(whole.apply)(params, trial.to_float(data.train[first])).moments
    latents = [jax.jit(whole.apply)(params, half, moments).latent for half in (fitting[:8], fitting[8:])]
    stats = make_hypothesis(job.architecture.hypothesis).fit(beliefs, jnp.concatenate(latents))
    found = [parts_of(index)(params, stats, trial.to_float(data.valid[rows[i : i + 8]]), moments) for i in (0, 8, 16)]
    maps, distances, regularisers = (np.concatenate(part)[:20] for part in zip(*found))
    scores = by_hand(job.architecture.aggregate, maps, distances) + 0.5 * regularisers
    np.testing.assert_allclose(seen[index], scores, rtol=1e-3, atol=3e-4)  # energies are differences of logarithms
    expected = roc_auc_score(np.asarray(data.valid_labels), scores)
    np.testing.assert_allclose(one[index].reward.value, expected, atol=1e-6)
    np.testing.assert_allclose(other[index].reward.value, expected, atol=1e-6)
    if job.architecture.aggregate != "mean":
        plain = distances + 0.5 * regularisers
        assert abs(roc_auc_score(np.asarray(data.valid_labels), plain) - expected) > 1e-3


@functools.cache
def trained_beliefs(index):
    """What the hypothesis of a child believes after training: by a plain loop with the same images."""
    job, data = make_jobs()[index], make_data()
    whole = make_child(job.architecture, CONFIG.child)
    keys = trial.trial_keys(job.key)
    order = trial.batch_order(keys.order, 24, CONFIG.steps, CONFIG.batch_size)
    images = trial.to_float(data.train[order])
    params = jax.tree.map(jnp.asarray, job.params)
    params |= {"hypothesis": whole.start(keys.hypothesis, params, images[0])}
    transformation = make_optimiser(CONFIG.child, CONFIG.steps)
    state = transformation.init(params)
    gradient = jax.jit(jax.grad(whole.loss, has_aux=True))
    for step in range(CONFIG.steps):
        gradients, _ = gradient(params, images[step], step)
        updates, state = transformation.update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params["hypothesis"]


@pytest.mark.slow
def test_training_does_not_see_the_aggregate(results):
    one, other, _, programs = results
    assert programs == 2  # one for each depth, whatever the aggregates
    for job, sequential, vmapped in zip(make_jobs(), one, other):
        plain = dataclasses.replace(job.architecture, aggregate="mean")
        images = trial.to_float(make_data().train[:8])
        losses = []
        for architecture in (plain, job.architecture):
            whole = make_child(architecture, CONFIG.child)
            params = job.params | {"hypothesis": whole.start(jax.random.key(0), job.params, images)}
            losses.append(float(jax.jit(whole.loss)(params, images, 0)[0]))
        assert losses[0] == losses[1]
        np.testing.assert_allclose(vmapped.reward.loss, sequential.reward.loss, rtol=5e-4)


# ---- in the detector ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["max", "top"])
def test_the_detector_scores_by_the_aggregate(rng, aggregate):
    images = rng.random((10, 12, 17, 2), np.float32)
    found = autoencoder(architecture=child(aggregate, "l1"), child=CONFIG.child)
    plain = autoencoder(architecture=child("mean", "l1"), child=CONFIG.child)

    @jax.jit
    def run(key, images):
        state = found.init(key, images)
        return [f(state, images) for f in (found.score, plain.score, found.score_map, plain.score_map)]

    scores, by_mean, maps, same_maps = map(np.asarray, run(jax.random.key(0), images))
    np.testing.assert_array_equal(maps, same_maps)
    expected = by_mean - maps.mean((1, 2)) + by_hand(aggregate, maps, None)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
