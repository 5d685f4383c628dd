"""Algorithm 1 of neural batch sampling: what each step changes, inference both ways, where patches come from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_nbs import SMALL, parts, pool, same  # noqa: F401

from jaxad.methods.nbs import known_logits, losses, nbs, sampling, segment, train_nbs, without_images
from jaxad.methods.nbs.config import STRATEGIES
from jaxad.methods.nbs.networks import make_networks
from jaxad.methods.nbs.profiles import append, loss_maps
from jaxad.runs import saving
from jaxad.types import Batch

STEPS = 14


@pytest.fixture(scope="module")
def journey(pool):  # noqa: F811
    """The states before and after each of the first steps, and their infos."""
    batch = Batch(pool.images / 255.0, None, pool.masks)
    first = jax.jit(nbs(SMALL).init)(jax.random.split(jax.random.key(1))[0], batch.images)
    states, infos = [jax.tree.map(np.array, first)], []

    def on_chunk(done, state, info):
        states.append(jax.tree.map(np.array, state))
        infos.append(jax.tree.map(lambda leaf: leaf[0], info))

    train_nbs(SMALL, jax.random.key(1), pool, steps=STEPS, chunk=1, on_chunk=on_chunk)
    return batch, states, infos


# ---- a step ----------------------------------------------------------------------------------------------------


def test_what_changes_when(journey):
    """Autoencoder: every step, anew after 6. Predictor and buffer: from the third loss. Sampler: after the fourth."""
    _, states, infos = journey
    pushed = 0
    for k in range(STEPS):
        before, after, phase = states[k].opt_state, states[k + 1].opt_state, k % 6 + 1
        assert int(after.step) == k + 1
        assert int(after.filled) == phase % 6
        assert not same(before.autoencoder, after.autoencoder)
        assert same(before.predictor, after.predictor) == (phase < 3)
        assert np.isnan(infos[k].prediction) == (phase < 3)
        pushed += 3 * (phase >= 3)
        assert int(after.buffer.pushed) == pushed
        assert same(before.sampler, after.sampler) == (phase not in (4, 5))
        assert infos[k].clone_weight == pytest.approx(max(0, 1 - (k + 1) / 20))
        ends = phase == 6
        assert bool((np.asarray(after.profiles) == 0).all()) == ends
        count = after.optimisers["autoencoder"][0].count
        assert int(count) == (0 if ends else 2 * phase)


def test_profiles_hold_the_losses_of_the_last_autoencoders(journey):
    batch, states, _ = journey
    maps = jax.jit(lambda autoencoder, images: loss_maps(SMALL, autoencoder, images))
    for k in (0, 3, 4):
        before, after = states[k].opt_state, states[k + 1].opt_state
        newest = maps(after.autoencoder, batch.images)
        # Squared errors are as exact as the errors are: by their roots, of pixels in [0, 1].
        np.testing.assert_allclose(np.sqrt(after.profiles[..., -1]), np.sqrt(newest), rtol=0, atol=5e-5)
        np.testing.assert_array_equal(after.profiles[..., :-1], before.profiles[..., 1:])
        for kept, now in zip(jax.tree.leaves(after.snapshots), jax.tree.leaves(after.autoencoder)):
            np.testing.assert_array_equal(kept[-1], now)


def test_the_best_step_is_the_one_with_the_lowest_loss(journey):
    _, states, infos = journey
    seen = np.array([info.prediction for info in infos])
    best = int(np.nanargmin(seen))
    kept = states[-1].best
    assert int(kept.step) == best + 1
    assert float(kept.loss) == seen[best]
    lowest = np.fmin.accumulate(np.where(np.isnan(seen), np.inf, seen))
    before = np.append(np.inf, lowest[:-1])
    np.testing.assert_array_equal([bool(info.improved) for info in infos], seen < before)
    assert same(kept.predictor, states[best + 1].opt_state.predictor)
    assert same(kept.snapshots, states[best + 1].opt_state.snapshots)
    assert same(kept.sampler, states[best].opt_state.sampler)  # the one that acted
    if (best + 1) % 6:
        assert same(states[-1].opt_state.best_profiles, states[best + 1].opt_state.profiles)


def test_new_images_are_treated_as_those_of_the_training(journey):
    """The same images, by the profiles that training kept and by the autoencoders behind them."""
    batch, states, _ = journey
    detector = nbs(SMALL)
    by_profiles = jax.jit(known_logits, static_argnums=0)(SMALL, states[-1])
    by_snapshots = jax.jit(detector.score_map)(states[-1], batch.images)
    np.testing.assert_allclose(by_snapshots, by_profiles, rtol=1e-3, atol=1e-3)
    # And an image's map is its own: it does not depend on the others.
    alone = jax.jit(detector.score_map)(states[-1], batch.images[2:3])
    np.testing.assert_allclose(alone[0], by_snapshots[2], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        jax.jit(detector.score)(states[-1], batch.images), np.max(by_snapshots, (1, 2)), rtol=1e-3, atol=1e-3
    )
    refined = jax.jit(lambda s, x: segment(SMALL, s, x))(by_snapshots, batch.images)
    assert refined.shape == by_snapshots.shape
    assert ((refined >= 0) & (refined <= 1)).all()


def test_losses_of_an_image_are_those_of_its_patches_side_by_side(journey):
    batch, states, _ = journey
    autoencoder, image = states[2].opt_state.autoencoder, np.asarray(batch.images[1])
    tiles = np.stack([image[i : i + 8, j : j + 8] for i in (0, 8) for j in (0, 8)])
    rebuilt = jax.jit(make_networks(SMALL).autoencoder.apply)(autoencoder, tiles)
    expected = np.mean((tiles - rebuilt) ** 2, -1)
    got = jax.jit(lambda a, x: loss_maps(SMALL, a, x))(autoencoder, batch.images[1:2])[0]
    np.testing.assert_allclose(got[8:, :8], expected[2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got[:8, 8:], expected[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(
        append(jnp.arange(3.0).reshape(1, 1, 1, 3), jnp.full((1, 1, 1), 9.0))[0, 0, 0], [1, 2, 9]
    )


# ---- where patches come from -----------------------------------------------------------------------------------


def test_normal_patches_hold_no_anomaly_and_are_all_of_them(rng):
    masks = np.zeros((2, 9, 10), np.uint8)
    masks[0, 4, 4], masks[1, :, 3:] = 1, 1
    sums = np.asarray(sampling.patch_sums(jnp.asarray(masks), 3))
    for n in range(2):
        for i in range(7):
            for j in range(8):
                assert sums[n, i, j] == masks[n, i : i + 3, j : j + 3].sum()
    drawn = sampling.normal(jax.random.key(0), jnp.asarray(masks), 3, 2000)
    found = {(int(n), int(i), int(j)) for n, (i, j) in zip(*map(np.asarray, drawn))}
    assert found == {tuple(map(int, place)) for place in np.argwhere(sums == 0)}


def test_uniform_patches_are_everywhere():
    drawn = sampling.uniform(jax.random.key(0), (3, 9, 10), 4, 3000)
    assert set(np.asarray(drawn.images)) == {0, 1, 2}
    rows, columns = np.asarray(drawn.corners).T
    assert (set(rows), set(columns)) == (set(range(6)), set(range(7)))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["normal", "uniform"])
def test_other_patches_need_no_sampler(journey, pool, strategy):  # noqa: F811
    _, states, _ = journey
    before = of_strategy(states[3], strategy)  # profiles are full after the next step; then the sampler would learn
    after, info = train_nbs(SMALL, jax.random.key(1), pool, steps=5, state=before, start_step=3)
    assert same(after.opt_state.sampler, before.opt_state.sampler)
    assert np.isnan([info.entropy, info.clone, info.cover, info.jumps]).all()
    assert np.isfinite([info.reconstruction, info.prediction, info.normal_loss, info.anomalous_loss]).all()
    assert strategy != "normal" or (info.anomalous_pixels == 0).all()


def test_the_strategy_of_a_config_is_in_the_state(pool):  # noqa: F811
    start = jax.jit(nbs(SMALL, strategy="normal").init)(jax.random.key(0), pool.images[:1] / 255.0)
    assert int(start.opt_state.strategy) == STRATEGIES.index("normal")


@pytest.mark.slow  # a program of its own
def test_the_current_profiles_can_be_the_judge(journey):
    batch, states, _ = journey
    config = dataclasses.replace(SMALL, augment=False, judge="current")
    before = of_strategy(states[3], "normal")
    before = before._replace(best=before.best._replace(loss=jnp.float32(jnp.inf)))
    after, info = jax.jit(nbs(config).step)(jax.random.key(2), before, batch)
    assert info.anomalous_patches == 0
    assert bool(info.improved)
    logits = jax.jit(nbs(SMALL).score_map)(after, batch.images)[:3]
    expected = losses.weighted_cross_entropy(logits, batch.masks, losses.anomalous_ratio(batch.masks))
    np.testing.assert_allclose(info.prediction, expected, rtol=1e-3)


@pytest.mark.slow  # a program of its own
def test_the_best_step_can_be_found_on_the_same_images_every_time(journey):
    batch, states, _ = journey
    before = jax.tree.map(jnp.asarray, states[3])
    before = before._replace(best=before.best._replace(loss=jnp.float32(jnp.inf)))
    steps = {
        by: jax.jit(nbs(SMALL, best_by=by).step)(jax.random.key(2), before, batch) for by in ("reward", "labelled")
    }
    (by_reward, told), (by_labelled, again) = steps["reward"], steps["labelled"]
    assert same(by_reward.opt_state, by_labelled.opt_state)  # training is the same: what differs is which step is best
    np.testing.assert_array_equal(told.prediction, again.prediction)
    assert float(by_reward.best.loss) == told.prediction
    logits = jax.jit(nbs(SMALL).score_map)(by_labelled, batch.images)[:3]
    expected = losses.weighted_cross_entropy(logits, batch.masks, losses.anomalous_ratio(batch.masks))
    np.testing.assert_allclose(by_labelled.best.loss, expected, rtol=1e-3)
    assert float(by_labelled.best.loss) != float(told.prediction)


def of_strategy(state, strategy):
    state = jax.tree.map(jnp.asarray, state)
    return state._replace(opt_state=state.opt_state._replace(strategy=jnp.int32(STRATEGIES.index(strategy))))


def test_what_is_saved_knows_all_that_new_images_need(journey, tmp_path):
    batch, states, _ = journey
    form = {"config": SMALL, "image_shape": batch.images.shape[1:]}
    saving.save(tmp_path, state=without_images(SMALL, states[-1]), **form)
    loaded = saving.load(tmp_path)
    assert loaded.config == SMALL
    assert same(loaded.state.best, states[-1].best)  # all that maps of new images depend on
    assert len(loaded.state.opt_state.profiles) == 1


def test_a_step_without_masks_is_refused(journey):
    batch, states, _ = journey
    with pytest.raises(ValueError, match="masks is None"):
        jax.eval_shape(nbs(SMALL).step, jax.random.key(0), states[0], Batch(batch.images))
