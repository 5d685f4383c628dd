"""The training loop sees every image, resumes bit for bit, and trains seeds together as it trains them alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.data.batches import balanced_order, batch_order
from jaxad.training.loop import fit, fit_population
from jaxad.types import Array, Batch, Detector, Key


class Seen(NamedTuple):
    counts: Array  # [256] how often each grey value was seen
    labels: Array  # sum of the labels seen
    noise: Array  # sum of random numbers
    step: Array


class Info(NamedTuple):
    loss: Array
    rows: Array  # [B]


def recorder(break_at: int = -1) -> Detector:
    """A detector that only remembers what it was given; images carry their number as their grey value."""

    def init(key: Key, images: Array) -> Seen:
        return Seen(jnp.zeros(256), jnp.float32(0), jax.random.uniform(key), jnp.int32(0))

    def step(key: Key, state: Seen, batch: Batch) -> tuple[Seen, Info]:
        rows = jnp.rint(batch.images[:, 0, 0, 0] * 255).astype(jnp.int32)
        labels = state.labels if batch.labels is None else state.labels + jnp.sum(batch.labels)
        noise = state.noise + jax.random.uniform(key)
        loss = jnp.where(state.step == break_at, jnp.inf, noise)
        return Seen(state.counts.at[rows].add(1), labels, noise, state.step + 1), Info(loss, rows)

    calibrate, score = (lambda state, images: state), (lambda state, images: images[:, 0, 0, 0])
    return Detector(init, step, calibrate, score, labels="anomalies")


RECORDER = recorder()
IMAGES = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 2, 2, 1))


def run(start_step=0, steps=12, seed=0, state=None, **options):
    options = {"batch_size": 4, "chunk": 5} | options
    return fit(RECORDER, jax.random.key(seed), IMAGES, steps=steps, state=state, start_step=start_step, **options)


def test_the_order_of_images_is_made_of_permutations_and_does_not_depend_on_where_it_starts():
    order = jax.jit(batch_order, static_argnums=(1, 2, 3))
    fixed = jax.jit(batch_order, static_argnums=(1, 2, 3, 4))
    for images, batch_size, steps in ((10, 4, 8), (3, 8, 6)):
        whole = np.asarray(order(jax.random.key(1), images, steps, batch_size))
        epochs = whole.reshape(-1)[: whole.size // images * images].reshape(-1, images)
        assert (np.sort(epochs, axis=1) == np.arange(images)).all()
        for start in range(steps - 2):
            part = order(jax.random.key(1), images, 2, batch_size, start)
            np.testing.assert_array_equal(part, whole[start : start + 2])
        np.testing.assert_array_equal(fixed(jax.random.key(1), images, 2, batch_size, 3), whole[3:5])


def test_balanced_batches_hold_so_many_anomalies_wherever_they_start():
    normal, anomalous = jnp.array([0, 2, 3, 5, 6, 7, 8]), jnp.array([1, 4])
    order = jax.jit(balanced_order, static_argnums=(3, 4, 5))
    whole = np.asarray(order(jax.random.key(1), normal, anomalous, 40, 5, 3))
    is_anomalous = np.isin(whole, anomalous)
    assert (is_anomalous.sum(1) == 3).all()
    # Normal images come in permutations (seven batches are two), anomalous ones at random with replacement.
    assert (np.sort(whole[~is_anomalous][:70].reshape(5, 14), axis=1) == np.repeat(np.asarray(normal), 2)[None]).all()
    assert abs((whole == 1).sum() - 60) < 25
    assert len({tuple(row) for row in is_anomalous}) > 5
    assert not all((row == row[0]).all() for row in whole[is_anomalous].reshape(40, 3))
    for start in (0, 7, 38):
        part = order(jax.random.key(1), normal, anomalous, 2, 5, 3, start)
        np.testing.assert_array_equal(part, whole[start : start + 2])


def test_every_image_is_seen_equally_often_and_with_its_label():
    labels = (np.arange(10) == 7).astype(int)
    state, history = run(steps=10, labels=labels)
    np.testing.assert_array_equal(state.counts[:10], np.full(10, 4))
    assert state.labels == 4
    assert history.info.rows.shape == (10, 4)
    np.testing.assert_array_equal(np.sort(history.info.rows.reshape(-1, 10), axis=1), np.tile(np.arange(10), (4, 1)))


def test_masks_come_with_their_images():
    def step(key, state, batch):
        numbers = jnp.rint(batch.images[:, 0, 0, 0] * 255)
        return state, Info(jnp.max(jnp.abs(batch.masks[:, 1, 0] - numbers % 2)), numbers)

    masks = np.zeros(IMAGES.shape[:3], np.uint8)
    masks[1::2, 1, 0] = 1
    _, history = fit(
        RECORDER._replace(step=step), jax.random.key(0), IMAGES, steps=6, batch_size=4, chunk=5, masks=masks
    )
    assert len(np.unique(history.info.rows)) == 10
    np.testing.assert_array_equal(history.info.loss, 0)


def test_going_on_from_any_step_gives_what_uninterrupted_training_gives():
    whole, history = run()
    for stop in (3, 5, 12):
        part, before = run(steps=stop)
        resumed, after = run(state=part, start_step=stop)
        jax.tree.map(np.testing.assert_array_equal, resumed, whole)
        joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), before.info, after.info)
        jax.tree.map(np.testing.assert_array_equal, joined, history.info)
        assert part.step == stop  # the state given is still there


FEW = {"labels": (np.arange(10) >= 8).astype(int), "anomalies_per_batch": 3}


def test_few_labelled_anomalies_are_in_every_batch():
    state, history = run(steps=10, **FEW)
    assert ((history.info.rows >= 8).sum(1) == 3).all()
    assert state.labels == 30
    np.testing.assert_array_equal(np.sort(state.counts[:8])[[0, -1]], [1, 2])  # ten normal images, eight of them new


def test_training_with_few_labels_goes_on_as_if_it_had_not_stopped():
    whole, history = run(**FEW)
    for stop in (3, 5):
        part, before = run(steps=stop, **FEW)
        resumed, after = run(state=part, start_step=stop, **FEW)
        jax.tree.map(np.testing.assert_array_equal, resumed, whole)
        joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), before.info, after.info)
        jax.tree.map(np.testing.assert_array_equal, joined, history.info)


@pytest.mark.parametrize("vmapped", [False, True])
def test_a_population_with_few_labels_equals_its_members(vmapped):
    keys = jax.vmap(jax.random.key)(np.array([3, 4]))
    states, history = fit_population(RECORDER, keys, IMAGES, steps=6, batch_size=4, chunk=5, vmapped=vmapped, **FEW)
    for member, seed in enumerate((3, 4)):
        state, own = run(steps=6, seed=seed, **FEW)
        np.testing.assert_array_equal(history.info.rows[member], own.info.rows)
        assert states.labels[member] == state.labels == 18


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("vmapped", [False, True])
def test_members_with_sets_of_their_own_equal_detectors_trained_on_these(vmapped, few):
    rows = np.array([[1, 2, 3, 4, 5, 6], [9, 3, 7, 0, 2, 1], [1, 2, 3, 4, 5, 6]])
    labels = np.array([[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0]])
    options = {"steps": 7, "batch_size": 4, "chunk": 5} | ({"anomalies_per_batch": 2} if few else {})
    keys = jax.vmap(jax.random.key)(np.array([3, 4, 3]))
    states, history = fit_population(RECORDER, keys, IMAGES, labels=labels, rows=rows, vmapped=vmapped, **options)
    for member, seed in enumerate((3, 4, 3)):
        own, told = fit(RECORDER, jax.random.key(seed), IMAGES[rows[member]], labels=labels[member], **options)
        np.testing.assert_array_equal(history.info.rows[member], told.info.rows)
        jax.tree.map(lambda a, b, m=member: np.testing.assert_allclose(a[m], b, rtol=1e-6), states, own)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": np.array([[0, 1]])}, r"give whole numbers \[2, n\]"),
        ({"rows": np.array([[0.0, 1.0], [1.0, 2.0]])}, "float64; give whole numbers"),
        ({"rows": np.array([[0, 1], [2, 10]])}, "from 0 to 10; give indices of the 10 images"),
        ({"labels": np.zeros(10, int)}, r"give \(2, 3\)"),
        ({"labels": np.array([[0, 0, 1], [0, 1, 1]]), "anomalies_per_batch": 1}, "different numbers of anomalies"),
        ({"anomalies_per_batch": 1}, "no image is labelled"),
        ({"steps": -3}, "steps is -3; the least is 0"),
    ],
)
def test_sets_that_do_not_fit_are_refused(change, words):
    options = {"rows": np.array([[0, 1, 2], [3, 4, 5]]), "steps": 2, "batch_size": 2} | change
    with pytest.raises(ValueError, match=words):
        fit_population(RECORDER, jax.random.split(jax.random.key(0)), IMAGES, **options)


def test_chunks_and_callbacks_change_nothing():
    said = []
    state, history = run(on_chunk=lambda done, info: said.append((done, float(info.loss))))
    other, other_history = run(chunk=12)
    jax.tree.map(np.testing.assert_array_equal, (state, history), (other, other_history))
    assert said == [(done, float(history.info.loss[done - 1])) for done in (5, 10, 12)]


def test_seeds_differ_and_steps_draw_new_numbers():
    _, a = run()
    _, b = run(seed=1)
    assert not np.array_equal(a.info.rows, b.info.rows)
    assert len(np.unique(np.diff(a.info.loss))) == 11


def test_a_population_equals_its_members_trained_alone():
    alone = [run(seed=seed) for seed in (3, 4)]
    for vmapped, told in ((False, (5, 10, 12, 17, 22, 24)), (True, (10, 20, 24))):
        keys = jax.vmap(jax.random.key)(np.array([3, 4]))
        said = []
        options = {"steps": 12, "batch_size": 4, "chunk": 5, "vmapped": vmapped}
        options["on_chunk"] = lambda done, info, said=said: said.append((done, info.loss.shape))
        states, history = fit_population(RECORDER, keys, IMAGES, **options)
        for member, (state, own) in enumerate(alone):
            jax.tree.map(
                lambda both, one, member=member: np.testing.assert_allclose(both[member], one, rtol=1e-6), states, state
            )
            np.testing.assert_array_equal(history.info.rows[member], own.info.rows)
        assert history.diverged.tolist() == [False, False]
        assert said == [(done, ()) for done in told]


@pytest.mark.parametrize("vmapped", [False, True])
def test_a_population_goes_on_where_it_stopped(vmapped):
    def train(steps, **options):
        options |= {"steps": steps, "batch_size": 4, "chunk": 5, "vmapped": vmapped}
        return fit_population(RECORDER, jax.random.split(jax.random.key(5)), IMAGES, **options)[0]

    resumed = train(12, state=train(4), start_step=4)
    jax.tree.map(np.testing.assert_array_equal, resumed, train(12))


def test_divergence_is_flagged_even_where_it_passes():
    detector = recorder(break_at=2)
    _, history = fit(detector, jax.random.key(0), IMAGES, steps=6, batch_size=4, chunk=2)
    assert history.diverged
    assert np.isfinite(history.info.loss[[0, 1, 3, 4, 5]]).all()
    assert not run()[1].diverged


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator says itself what does not fit")
@pytest.mark.parametrize("vmapped", [True, False])
def test_what_does_not_fit_into_memory_is_refused_before_it_is_compiled(vmapped):
    huge = RECORDER._replace(init=lambda key, images: jnp.zeros((10**9, 10**9, 9)))
    with pytest.raises(ValueError, match=r"weights and all that trains them take at least \d\d,000 PB of memory, and"):
        fit_population(huge, jax.random.split(jax.random.key(0)), IMAGES, steps=1, batch_size=4, vmapped=vmapped)


def test_no_step_is_a_valid_training():
    state, history = run(steps=0)
    assert state.step == 0
    assert history.info.rows.shape == (0, 4)
    assert not history.diverged


def test_further_chunks_seeds_and_calls_compile_nothing():
    traced = []

    def step(key: Key, state: Seen, batch: Batch) -> tuple[Seen, Info]:
        traced.append(1)
        return RECORDER.step(key, state, batch)

    detector = RECORDER._replace(step=step)
    fit(detector, jax.random.key(0), IMAGES, steps=3, batch_size=4, chunk=5)
    count = len(traced)
    fit(detector, jax.random.key(1), IMAGES, steps=13, batch_size=4, chunk=5)
    assert len(traced) == count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": IMAGES[0]}, "4 axes"),
        ({"images": IMAGES.astype(np.float32)}, "divide by 255"),
        ({"images": jnp.zeros((2, 2, 1))}, "at least one image"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 8.0}, "batch_size is 8.0; give a whole number"),
        ({"steps": 1.5}, "steps is 1.5; give a whole number"),
        ({"chunk": 0}, "chunk 0"),
        ({"steps": 4, "start_step": 5}, "start_step is 5 of 4"),
        ({"start_step": 2}, "give the state"),
        ({"steps": 2**30}, "too many"),
        ({"labels": np.zeros(3)}, r"give \(10,\), one for each"),
        ({"masks": np.zeros((10, 2, 3), np.uint8)}, "one mask each"),
        ({"masks": jnp.zeros((9, 2, 2))}, "one for each image"),
        ({"anomalies_per_batch": 2}, "no image is labelled: give labels"),
        (FEW | {"anomalies_per_batch": 4}, "anomalies_per_batch is 4; give 1 to 3"),
        (FEW | {"anomalies_per_batch": 0}, "anomalies_per_batch is 0; give 1 to 3"),
        (FEW | {"labels": np.zeros(10)}, "no training image is labelled anomalous"),
        (FEW | {"labels": np.ones(10)}, "no training image is labelled normal"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, words):
    options = {"images": IMAGES, "steps": 12, "batch_size": 4} | change
    with pytest.raises(ValueError, match=words) as error:
        fit(RECORDER, jax.random.key(0), options.pop("images"), **options)
    assert "\n" not in str(error.value)
