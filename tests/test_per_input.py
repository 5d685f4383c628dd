"""Children that see different inputs: dispatch, the loop around it, rewards of maps smaller than the masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from jaxad.metrics.pixel import pixel_auroc
from jaxad.nas import loop, supernet, trial
from jaxad.nas.executors.per_input import PerInput
from jaxad.nas.executors.population import make_executor
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.space import SearchSpace
from jaxad.nas.strategies.random import random_search
from jaxad.nas.trial import Job, Result, Reward, TrialConfig
from jaxad.nn.autoencoder import apply
from jaxad.nn.cost import flops, parameter_count
from jaxad.nn.objectives.child import ChildConfig
from jaxad.nn.objectives.distances import get_distance

SHAPES = {"shallow": (6, 7, 2), "both": (6, 7, 5)}
CHANNELS = {name: shape[-1] for name, shape in SHAPES.items()}
SPACE = SearchSpace(
    num_layers=2, min_layers=1, hypotheses=("centroid",), distances=("l1",), inputs=tuple(SHAPES), channels=(4, 8),
    aggregates=("mean", "top"), kernels=(1,), pools=("max",), pool_kernels=(1,), norms=("none",),
    activations=("relu", "linear"),
)  # fmt: skip


class Pretender:
    """Rewards every child with a number of its own input, and notes who came and whether it was closed."""

    batch_size, compiles = 16, 2

    def __init__(self, name="shallow"):
        self.name, self.trained, self.events = name, [], []

    def __call__(self, jobs):
        try:
            for job in jobs:
                self.trained.append(job.architecture)
                assert job.params["encoder"][0]["kernel"].shape[2] == CHANNELS[self.name]
                params = jax.tree.map(lambda leaf: leaf + np.float32(1), job.params)
                value = {"shallow": 0.25, "both": 0.75}[self.name] + job.architecture.depth / 100
                yield Result(params, Reward(np.float32(value), np.float32(0.5), np.bool_(True)), None, 16, 0.0)
        finally:
            self.events.append("stopped")

    def close(self):
        self.events.append("closed")


def jobs_of(count, seed=0):
    shared = supernet.init(np.random.default_rng(0), SPACE, CHANNELS)
    tokens = np.asarray(SPACE.sample(jax.random.key(seed), count))
    keys = jax.random.split(jax.random.key(1), count)
    children = [SPACE.to_architecture(row) for row in tokens]
    return [Job(child, supernet.take(shared, child), key) for child, key in zip(children, keys)]


# ---- dispatch ----------------------------------------------------------------------------------------------------


def test_every_child_goes_to_the_executor_of_its_input_and_results_keep_their_order():
    own = {name: Pretender(name) for name in SHAPES}
    executor, jobs = PerInput(own), jobs_of(10)
    inputs = [job.architecture.input for job in jobs]
    assert len(set(inputs)) == 2
    results = list(executor(jobs))
    assert [result.reward.value > 0.5 for result in results] == [name == "both" for name in inputs]
    for name, part in own.items():
        assert part.trained == [job.architecture for job in jobs if job.architecture.input == name]
    for job, result in zip(jobs, results):
        jax.tree.map(lambda new, old: np.testing.assert_array_equal(new, old + 1), result.params, job.params)
    assert (executor.batch_size, executor.compiles) == (16, 4)
    assert list(executor([])) == []
    executor.close()
    assert [part.events for part in own.values()] == [["stopped", "closed"]] * 2


def test_a_population_that_is_stopped_stops_all_executors():
    own = {name: Pretender(name) for name in SHAPES}
    results = PerInput(own)(jobs_of(10))
    first = next(results), next(results)
    results.close()
    assert len(first) == 2
    assert sum(len(part.trained) for part in own.values()) == 2
    assert all(part.events == ["stopped"] for part in own.values() if part.trained)


def test_inputs_without_an_executor_are_refused_before_any_child_runs():
    part = Pretender()
    with pytest.raises(ValueError, match="no executor trains children of the input both: there are those of shallow"):
        PerInput({"shallow": part})(jobs_of(10))
    assert not part.trained
    larger = Pretender("both")
    larger.batch_size = 32
    with pytest.raises(ValueError, match=r"executors of 2 inputs have batch sizes \[16, 32\]; give one size"):
        PerInput({"shallow": part, "both": larger})


# ---- the loop ----------------------------------------------------------------------------------------------------


def explore(children, state=None, trials=(), **options):
    search = random_search(SPACE, population=4)
    executor = PerInput({name: Pretender(name) for name in SHAPES})
    state = loop.start(jax.random.key(0), search, SPACE, CHANNELS) if state is None else state
    found = list(trials)
    end = loop.explore(
        search, SPACE, executor, state, key=jax.random.key(1), children=children, image_shape=SHAPES,
        trials=trials, on_trial=found.append, **options,
    )  # fmt: skip
    return end, found


def test_a_search_of_several_inputs_shares_weights_within_each_and_records_its_costs():
    kept = []
    end, trials = explore(12, on_population=lambda state, done, elapsed: kept.append((state, done)))
    assert len({tuple(trial.tokens) for trial in trials}) == 12
    assert set(end.state.shared) == set(SHAPES)
    for record in trials:
        architecture = SPACE.to_architecture(record.tokens)
        assert record.architecture == architecture.to_json()
        shape = SHAPES[architecture.input]
        assert (record.params, record.flops) == (parameter_count(architecture, shape), flops(architecture, shape))
        value = {"shallow": 0.25, "both": 0.75}[architecture.input] + architecture.depth / 100
        np.testing.assert_allclose(record.reward, value, rtol=1e-6)
    moved = jax.tree.map(lambda new, old: bool((new != old).any()), end.state.shared, kept[0][0].shared)
    assert moved["shallow"]["projection"]["bias"]
    assert moved["both"]["projection"]["bias"]
    state, done = kept[0]
    again, rest = explore(12, state, tuple(trials[:done]))
    assert [trial.tokens for trial in rest] == [trial.tokens for trial in trials]
    jax.tree.map(np.testing.assert_array_equal, again.state.shared, end.state.shared)


# A program for each shape takes half a minute to compile; what Vmapped trains is tested in a file of its own.
@pytest.mark.slow
@pytest.mark.parametrize("kind", [Sequential, Vmapped])
def test_real_executors_train_on_the_features_of_the_input(rng, kind):
    labels = np.arange(12) % 3 == 0
    data = {
        name: trial.put(*(rng.standard_normal((count, *shape)).astype(np.float16) for count in (16, 12)), labels)
        for name, shape in SHAPES.items()
    }
    config = TrialConfig(steps=1, batch_size=8, fit_images=8)
    executor, jobs = make_executor(kind.__name__.lower(), data, config), jobs_of(3, seed=3)
    assert {job.architecture.input for job in jobs} == set(SHAPES)
    results = dict(zip((job.architecture for job in jobs), executor(jobs)))
    executor.close()
    for name, own in data.items():
        alone, jobs = kind(own, config), [job for job in jobs_of(3, seed=3) if job.architecture.input == name]
        for job, expected in zip(jobs, alone(jobs)):
            result = results[job.architecture]
            assert result.reward.usable
            np.testing.assert_allclose(result.reward.value, expected.reward.value, atol=1e-6)
            np.testing.assert_allclose(result.reward.loss, expected.reward.loss, rtol=1e-4)
        alone.close()


# ---- maps of features against masks of images --------------------------------------------------------------------


def enlarged(maps, height, width):
    """Bilinear interpolation between the centres of pixels, the border repeated, by SciPy."""
    rows = (np.arange(height) + 0.5) * maps.shape[1] / height - 0.5
    columns = (np.arange(width) + 0.5) * maps.shape[2] / width - 0.5
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([map_coordinates(one.astype(np.float64), places, order=1, mode="nearest") for one in maps])


def masks_of(count, height, width):
    masks = np.zeros((count, height, width), np.uint8)
    masks[::3, height // 4 : height // 2, width // 3 : width // 2 + 1] = 1
    return masks


@pytest.mark.parametrize("criterion", ["pixel_auroc", "rpro"])
def test_small_maps_are_rewarded_at_the_resolution_of_the_masks(rng, criterion):
    maps, masks = rng.random((9, 5, 7), np.float32), masks_of(9, 32, 24)
    truth = trial.put(maps[..., None], maps[..., None], np.arange(9) % 3 == 0, masks).valid_pixels
    run = jax.jit(trial.reward_of, static_argnums=3)
    reward = run(jnp.asarray(maps), truth, jnp.float32(1), criterion)
    large = enlarged(maps, 32, 24).astype(np.float32)
    same = run(jnp.asarray(large), truth, jnp.float32(1), criterion)
    if criterion == "pixel_auroc":
        np.testing.assert_allclose(reward.value, pixel_auroc(large, masks), atol=1e-5)
    np.testing.assert_allclose(reward.value, same.value, atol=1e-3)  # a pixel at the threshold may fall to either side
    assert reward.usable
    flat = run(jnp.ones((9, 5, 7)), truth, jnp.float32(1), criterion)
    assert not flat.usable


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Sequential, Vmapped])
def test_a_child_of_features_is_rewarded_for_the_pixels_of_the_image(rng, kind):
    (job,) = jobs_of(1)
    shape = SHAPES[job.architecture.input]
    masks = masks_of(12, 19, 23)
    valid = rng.standard_normal((12, *shape)).astype(np.float16)
    data = trial.put(rng.standard_normal((16, *shape)).astype(np.float16), valid, masks.any((1, 2)), masks)
    sgd = ChildConfig(optimiser="sgd", learning_rate=0.01)
    executor = kind(data, TrialConfig(steps=1, batch_size=12, reward="pixel_auroc", child=sgd))
    (result,) = executor([job])
    executor.close()
    images = valid.astype(np.float32)
    rebuilt = apply(result.params, job.architecture.layers, images).reconstruction
    maps = np.stack([get_distance("l1").map(*pair) for pair in zip(rebuilt, images)])
    np.testing.assert_allclose(result.reward.value, pixel_auroc(enlarged(maps, 19, 23), masks), atol=2e-5)
