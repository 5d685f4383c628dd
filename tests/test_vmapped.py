"""Children side by side: each must end as if it had trained alone, whatever its neighbours are and do."""

import re
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.nas import supernet, trial
from jaxad.nas.executors import runtime, vmapped
from jaxad.nas.executors.sequential import Sequential
from jaxad.nas.executors.vmapped import Vmapped
from jaxad.nas.space import SearchSpace
from jaxad.nas.trial import Job, Reward, TrialConfig, TrialData
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig
from jaxad.nn.objectives.distances import get_distance

SPACE = SearchSpace(num_layers=1, channels=(3, 4), kernels=(1, 3))
HYPOTHESES, DISTANCES = SPACE.hypotheses, SPACE.distances
POOLS, NORMS, ACTIVATIONS = SPACE.pools, SPACE.norms, SPACE.activations


@pytest.fixture
def data(rng) -> TrialData:
    labels = (np.arange(21) % 3 == 0).astype(np.int32)
    train = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)  # stored as bytes, neither size a multiple of 16
    return trial.put(train, rng.random((21, 8, 8, 1), np.float32), labels)


def architecture(number: int, channels: int = 3, kernel: int = 3) -> Architecture:
    """Of one shape; eight in a row have all hypotheses, distances and a sum, pools, norms and activations."""
    layer = Layer(
        channels=channels,
        kernel=kernel,
        pool=POOLS[number % 2],
        pool_kernel=3,
        norm=NORMS[number % 3],
        activation=ACTIVATIONS[number % 8],
    )
    distance = [*DISTANCES, "l21+ssim"][number % 5]
    return Architecture(hypothesis=HYPOTHESES[number % 4], distance=distance, layers=(layer,))


def make_jobs(architectures: list[Architecture]) -> list[Job]:
    """Called anew for every executor, which consumes the keys."""
    shared = supernet.init(np.random.default_rng(1), SPACE, 1)
    keys = jax.random.split(jax.random.key(0), len(architectures))
    return [Job(a, supernet.take(shared, a), key) for a, key in zip(architectures, keys)]


def distance_of(params, others) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), params, others)))


# ---- against the other executor -----------------------------------------------------------------------------------


def test_a_mixed_group_equals_children_one_by_one_and_a_failing_child_fails_alone(data):
    """Few small steps of gradient descent: Adam divides by the size of a gradient, so that where the true gradient is
    zero, as before a normalisation, it would make a full step out of the sign of a rounding error."""
    child = ChildConfig(optimiser="sgd", learning_rate=1e-3)
    config = TrialConfig(steps=4, batch_size=16, fit_images=20, child=child)
    architectures = [architecture(number) for number in range(4)]
    expected = list(Sequential(data, config)(make_jobs(architectures)))

    jobs = make_jobs(architectures)
    broken = jax.tree.map(lambda weights: np.full_like(weights, np.nan), jobs[0].params)
    jobs.insert(3, Job(jobs[0].architecture, broken, jax.random.key(7)))
    executor = Vmapped(data, config, jax.devices()[:2])  # eight places on each of two devices
    before = jax.tree.map(np.copy, [job.params for job in jobs])
    results = list(executor(jobs))

    failed = results.pop(3)
    assert (bool(failed.reward.usable), float(failed.reward.value), failed.reason) == (False, 0.0, None)
    for job, result, alone in zip(jobs[:3] + jobs[4:], results, expected):
        assert result.reward.usable
        np.testing.assert_allclose(result.reward.value, alone.reward.value, atol=1e-6)
        np.testing.assert_allclose(result.reward.loss, alone.reward.loss, rtol=5e-4)  # energies nearly cancel
        assert jax.tree.structure(result.params) == jax.tree.structure(job.params)
        moved = distance_of(alone.params, job.params)
        assert moved > 1e-4
        assert distance_of(result.params, alone.params) < 1e-4 * moved + 1e-7
    jax.tree.map(np.testing.assert_array_equal, before, [job.params for job in jobs])  # the caller's are untouched

    (program,) = [future.result() for future in executor._programs.values()]
    assert not re.search("all-|collective-|reduce-scatter", program.as_text())  # nothing is communicated
    assert executor.compiles == 1
    executor.close()


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["rpro"])
def test_maps_are_rewarded_as_one_by_one(data, reward):
    masks = np.zeros((21, 8, 8), np.uint8)
    masks[::3, 2:6, 3:5] = 1
    data = trial.put(data.train, data.valid, data.valid_labels, masks)
    config = TrialConfig(steps=1, batch_size=16, reward=reward, child=ChildConfig(optimiser="sgd", learning_rate=1e-3))
    chosen = [architecture(3), architecture(4)]  # SSIM, and a sum with it
    expected = [float(result.reward.value) for result in Sequential(data, config)(make_jobs(chosen))]
    executor = Vmapped(data, config, jax.devices()[:1])
    found = [float(result.reward.value) for result in executor(make_jobs(chosen))]
    executor.close()
    np.testing.assert_allclose(found, expected, atol=0.01)  # a pixel at the threshold may fall to either side


def test_run_time_distances_equal_named_ones_and_do_not_meet(rng):
    names = [*DISTANCES, "l21+ssim", "l1+l1"]  # all in one batch
    counts = np.stack([runtime.choices_of(replace_distance(name)).distance for name in names])
    x_hat, x = rng.random((2, 8, 8, 1), np.float32)

    def value_and_gradient(counts, x_hat):
        return jax.value_and_grad(runtime.distance_of(counts).score)(x_hat, x)

    run = jax.jit(jax.vmap(value_and_gradient, in_axes=(0, None)))
    values, _ = run(counts, x_hat)
    expected = [sum(get_distance(part).score(x_hat, x) for part in name.split("+")) for name in names]
    np.testing.assert_allclose(values, np.stack(expected), rtol=1e-5)
    values, gradients = run(counts, x_hat + np.float32(1e30))  # squares overflow, absolute values do not
    assert np.isfinite(values[0])
    assert np.all(np.isfinite(gradients[0]))
    assert not np.isfinite(values[1])


def replace_distance(name: str) -> Architecture:
    return Architecture(hypothesis="centroid", distance=name, layers=architecture(0).layers)


# ---- grouping, with a trial that costs nothing --------------------------------------------------------------------


def cheap_trial(shape, options, config, batch_size, network, chosen, key, data):
    """One more on every weight; the reward is the child's own random number, the loss tells its activation."""
    trained = jax.tree.map(lambda weights: weights + 1, network)
    loss = chosen.activation[0].astype(jnp.float32)
    return trained, Reward(jax.random.uniform(key) * data.train.shape[0], loss, jnp.bool_(True))


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(vmapped, "train_and_evaluate", cheap_trial)


def check_cheap(jobs: list[Job], results: list[trial.Result], images: int) -> None:
    assert len(jobs) == len(results)
    for job, result in zip(jobs, results):
        np.testing.assert_allclose(result.reward.value, images * jax.random.uniform(jax.random.clone(job.key)))
        assert ACTIVATIONS[int(result.reward.loss)] == job.architecture.layers[0].activation
        jax.tree.map(lambda new, old: np.testing.assert_array_equal(new, old + 1), result.params, job.params)


def test_results_come_in_the_order_of_the_jobs_from_one_program_per_shape_and_size(data, cheap):
    executor = Vmapped(data, TrialConfig(), jax.devices()[:2])
    mixed = [architecture(number, channels=3 + number % 2) for number in range(7)]  # four of one shape, three of other
    for _ in range(2):
        jobs = make_jobs(mixed)
        check_cheap(jobs, list(executor(jobs)), 40)
        assert executor.compiles == 2  # three are padded to four
    jobs = make_jobs([architecture(number) for number in range(5)])
    check_cheap(jobs, list(executor(jobs)), 40)
    assert executor.compiles == 3  # eight places
    assert list(executor([])) == []
    executor.close()


def test_whoever_watches_knows_when_programs_are_compiled_and_when_children_train(data, cheap, monkeypatch):
    executor, compile_program = Vmapped(data, TrialConfig(), jax.devices()[:1]), Vmapped._compile
    told, release = [], threading.Event()

    def compile_when_told(*args):
        assert release.wait(60)
        return compile_program(*args)

    def on_wait(left):
        told.append(left)
        release.set()

    monkeypatch.setattr(Vmapped, "_compile", compile_when_told)
    executor.watch(on_wait)
    jobs = make_jobs([architecture(0, channels=3), architecture(1, channels=4)])
    check_cheap(jobs, list(executor(jobs)), 40)
    assert told[0] == 2  # both programs are to come, and the first of them is waited for
    assert told[1:] in ([0, 0], [0, 1, 0])  # the second may be there when the first group has trained
    told.clear()
    jobs = make_jobs([architecture(2, channels=3), architecture(3, channels=4)])
    check_cheap(jobs, list(executor(jobs)), 40)
    assert told == [0, 0]
    executor.close()


def test_seconds_are_shared_among_the_members(data, cheap):
    executor = Vmapped(data, TrialConfig())
    started = time.perf_counter()
    results = list(executor(make_jobs([architecture(number) for number in range(3)])))
    elapsed = time.perf_counter() - started
    assert len({result.seconds for result in results}) == 1
    assert 0 < sum(result.seconds for result in results) < elapsed  # compilation is not counted
    executor.close()


def test_the_number_of_live_programs_is_bounded(data, cheap, monkeypatch):
    monkeypatch.setattr(vmapped, "LIVE_PROGRAMS", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    executor = Vmapped(data, TrialConfig(), jax.devices()[:1])
    shapes = [architecture(0, channels, kernel) for channels in (3, 4) for kernel in (1, 3)]
    jobs = make_jobs(shapes)
    check_cheap(jobs, list(executor(jobs)), 40)
    assert executor.compiles == 4
    assert len(executor._programs) == 2
    executor.close()


@pytest.mark.parametrize(("fits", "batch_size"), [(16, 16), (0, 8)])
def test_a_group_that_does_not_fit_halves_its_batch_and_then_fails_alone(data, cheap, monkeypatch, fits, batch_size):
    def raise_out_of_memory(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")

    compile_program = Vmapped._compile

    def compile_small_memory(self, shape, options, impl, size, members):
        if shape[0][0] == 3 and size > fits:
            return raise_out_of_memory
        return compile_program(self, shape, options, impl, size, members)

    monkeypatch.setattr(Vmapped, "_compile", compile_small_memory)
    executor = Vmapped(data, TrialConfig(batch_size=64), jax.devices()[:1])
    jobs = make_jobs([architecture(number, channels=3 + number % 2) for number in range(4)])
    results = list(executor(jobs))
    assert [result.batch_size for result in results] == [batch_size, 64, batch_size, 64]
    check_cheap(jobs[1::2], results[1::2], 40)
    if fits:
        check_cheap(jobs[::2], results[::2], 40)
    else:
        assert {result.reason for result in results[::2]} == {"out of memory at batch sizes 64 down to 8"}
        assert {result.params for result in results[::2]} == {None}
    executor.close()
