"""Training neural batch sampling: in chunks, resumed, in one program; that it learns; what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_nbs import SMALL, parts, pool, same  # noqa: F401

from jaxad.methods.nbs import (
    EnvironmentConfig,
    NBSInfo,
    current_visits,
    known_logits,
    labelled_visits,
    loss_lives,
    make_image_pool,
    nbs,
    pixel_profiles,
    train_nbs,
    train_nbs_saved,
    training,
    visit_counts,
)
from jaxad.methods.nbs.profiles import loss_maps
from jaxad.metrics.pixel import pixel_auroc

# ---- training --------------------------------------------------------------------------------------------------


def test_training_in_chunks_and_resumed_is_the_same_bit_for_bit_and_one_program(pool):  # noqa: F811
    saved = {}

    def on_chunk(done, state, info):
        saved[done] = jax.tree.map(np.array, state)

    options = {"steps": 9, "chunk": 4}
    whole, told = train_nbs(SMALL, jax.random.key(4), pool, on_chunk=on_chunk, **options)
    assert sorted(saved) == [4, 8, 9]
    assert told.reconstruction.shape == (9,)
    train_nbs(dataclasses.replace(SMALL, strategy="uniform"), jax.random.key(4), pool, steps=3)
    assert training._program(SMALL, training.ROOM)._cache_size() == 1
    resumed, rest = train_nbs(SMALL, jax.random.key(4), pool, state=saved[4], start_step=4, **options)
    assert same(whole, resumed)
    np.testing.assert_array_equal(rest.reconstruction, told.reconstruction[4:])
    counts = visit_counts(
        SMALL, jax.random.key(0), whole.best.sampler, pool.images / 255.0, whole.opt_state.profiles[..., -1], 3
    )
    assert int(counts.sum()) == 3 * 4 * 64


@pytest.mark.slow
def test_a_training_goes_on_from_its_file_bit_for_bit(pool, tmp_path):  # noqa: F811
    """Stopped between training to a checkpoint and saving it: those steps are repeated."""
    done = []

    def stop(step, state, info):
        done.append(step)
        if step == 6:
            raise KeyboardInterrupt

    options = {"steps": 9, "checkpoints": 3, "on_chunk": lambda step, state, info: done.append(step)}
    whole = train_nbs_saved(SMALL, jax.random.key(4), pool, path=tmp_path / "whole", **options)
    assert whole.curves["prediction"].shape == (1, 9)
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        train_nbs_saved(SMALL, jax.random.key(4), pool, path=tmp_path / "parts", **options | {"on_chunk": stop})
    resumed = train_nbs_saved(SMALL, jax.random.key(4), pool, path=tmp_path / "parts", **options)
    assert done == [3, 6, 6, 9]
    finished = train_nbs_saved(SMALL, jax.random.key(4), pool, path=tmp_path / "parts", **options)
    for again in (resumed, finished):
        assert same(whole.state, again.state)
        jax.tree.map(np.testing.assert_array_equal, whole.curves, again.curves)


def test_inspection_counts_and_normalises(pool):  # noqa: F811
    state, _ = train_nbs(SMALL, jax.random.key(4), pool, steps=9)
    images = pool.images / 255.0
    visits = labelled_visits(SMALL, state, images[:3], episodes=2)
    assert visits.shape == (3, 16, 16)
    assert visits.sum() == 2 * 4 * 64
    now = current_visits(SMALL, state, images[:3], episodes=2)
    assert (now.shape, now.sum()) == (visits.shape, visits.sum())
    last = jax.tree.map(lambda leaf: leaf[-1], state.opt_state.snapshots)
    maps = jax.jit(lambda params, images: loss_maps(SMALL, params, images))(last, images[:3])
    count = jax.jit(lambda *arguments: visit_counts(SMALL, *arguments, 2))
    np.testing.assert_array_equal(now, count(jax.random.key(0), state.opt_state.sampler, images[:3], maps))
    masks = np.zeros((5, 16, 16), np.uint8)
    masks[:, :4] = 1
    found = pixel_profiles(state, masks, limit=100)
    assert {name: values.shape for name, values in found.items()} == {"normal": (100, 3), "anomalous": (100, 3)}
    everything = pixel_profiles(state, masks, limit=10**6)
    means = [(len(v), v.mean()) for v in everything.values()]
    assert sum(n * mean for n, mean in means) / (5 * 256) == pytest.approx(1, rel=1e-5)


def test_losses_are_told_by_lives():
    info = NBSInfo(*np.zeros((len(NBSInfo._fields), 2, 7)))
    info = info._replace(normal_loss=np.arange(14.0).reshape(2, 7), anomalous_loss=np.ones((2, 7)))
    lives = loss_lives(info, 3)
    nan = np.nan
    expected = [[0, 1, 2], [3, 4, 5], [6, nan, nan], [7, 8, 9], [10, 11, 12], [13, nan, nan]]
    np.testing.assert_array_equal(lives["normal"], expected)
    np.testing.assert_array_equal(np.isnan(lives["anomalous"]), np.isnan(expected))
    assert loss_lives(info, 7)["normal"].shape == (2, 7)


def test_the_predictor_learns(rng):
    """Anomalies that the autoencoder cannot rebuild: after a few rounds their profiles are told apart."""
    images = np.clip(0.3 + 0.02 * rng.standard_normal((8, 16, 16, 1)), 0, 1)
    masks = np.zeros((8, 16, 16), np.uint8)
    for image, mask in zip(images, masks):
        i, j = rng.integers(1, 10, 2)
        image[i : i + 5, j : j + 5] = rng.random((5, 5, 1))
        mask[i : i + 5, j : j + 5] = 1
    images = np.rint(255 * images).astype(np.uint8)
    own = make_image_pool(SMALL, images[:3], masks[:3], images[3:])
    state, _ = train_nbs(SMALL, jax.random.key(0), own, steps=60)
    assert pixel_auroc(jax.jit(known_logits, static_argnums=0)(SMALL, state)[3:], masks[3:]) > 0.8


# ---- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "greedy"}, "choose one of learned"),
        ({"judge": "all"}, "choose one of buffer"),
        ({"best_by": "luck"}, "best_by is 'luck'; choose one of reward, labelled"),
        ({"batch": 3}, "divides the episode"),
        ({"width": 0.0}, "above 0"),
        ({"discount": 1.5}, "up to 1"),
        ({"memory": 0}, "the least is 1"),
        ({"period": 2, "skip": 1}, "no profile would be full"),
        ({"skip": 5}, r"give profile 3 to 4 \(period - 2\)"),
        ({"skip": 2}, r"give profile 3 to 4"),
        ({"environment": EnvironmentConfig(patch=8, window=9)}, "equal margin"),
    ],
)
def test_settings_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        nbs(SMALL, **fields)


def test_images_and_masks_that_do_not_fit_are_refused(parts):  # noqa: F811
    images, masks = parts
    constant = images.copy()
    constant[5] = 3
    twelve = EnvironmentConfig(patch=12, shift=3, window=16)
    for config, arguments, words in [
        (SMALL, (images[:3, :12], masks[:3, :12], images[3:, :12]), "no whole number of patches of 8: resize to 16x16"),
        (dataclasses.replace(SMALL, environment=twelve), (images[:3], masks[:3], images[3:]), "a multiple of 8"),
        (SMALL, (images[:3], masks[:3], images[3:, :8]), "resize or convert"),
        (SMALL, (images[:3], masks[:3, :8], images[3:]), "one mask each"),
        (SMALL, (images[:3], 0 * masks[:3], images[3:]), "no anomalous pixel"),
        (SMALL, (images[:3], 0 * masks[:3] + 1, images[3:]), "no normal pixel"),
        (SMALL, (images[:3], masks[:3], constant[3:]), "1 of 8 images are constant, first number 5"),
    ]:
        with pytest.raises(ValueError, match=words):
            make_image_pool(config, *arguments)
    with pytest.raises(ValueError, match="the least of both is 1"):
        train_nbs(SMALL, jax.random.key(0), None, steps=0)
    with pytest.raises(ValueError, match="give the state after"):
        train_nbs(SMALL, jax.random.key(0), None, steps=5, start_step=2)
