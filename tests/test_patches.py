"""Detectors of patches: the memory bank and the feature dictionary, their features and their maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import OneClass
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxad.data import textures
from jaxad.data.tiles import resize_map
from jaxad.methods.common.patch_features import FeatureConfig, make_features
from jaxad.methods.common.upsample import to_pixels
from jaxad.methods.patch_dictionary import FeatureDictionaryConfig, feature_dictionary
from jaxad.methods.patchcore import MemoryBankConfig, greedy_coreset, memory_bank, some_of
from jaxad.metrics.image import auroc
from jaxad.nn.standard import standard
from jaxad.runs import saving
from jaxad.training.loop import fit
from jaxad.training.scoring import map_images, score_images
from jaxad.training.staged import maps_of

SMALL, LARGER = (FeatureConfig(backbone="random", width=width) for width in (8, 16))
RANDOM = FeatureConfig(backbone="random")
BRICK = textures(32).images[:256]


CALIBRATE = jax.jit(lambda detector, state, images: detector.calibrate(state, images), static_argnums=0)


def fitted(detector, images, seed=0):
    steps = -(-len(images) // 4)
    state, history = fit(detector, jax.random.key(seed), images, steps=steps, batch_size=4, chunk=8)
    assert history.info.remembered[-1] == len(images)
    return CALIBRATE(detector, state, jnp.zeros((1, *images.shape[1:])))


def patches_of(config, state, images):
    """Features of all patches, [N, h, w, F]."""
    return np.asarray(jax.jit(make_features(config).apply)(state.network, images.astype(np.float32) / 255))


def spoilt(images, rng):
    """Images with a square of noise in each, and where it is."""
    images, masks = images.copy(), np.zeros(images.shape[:3], np.uint8)
    for image, mask in zip(images, masks):
        top, left = rng.integers(4, 18, 2)
        image[top : top + 10, left : left + 10, 0] = rng.integers(0, 256, (10, 10))
        mask[top : top + 10, left : left + 10] = 1
    return images, masks


# ---- coreset ---------------------------------------------------------------------------------------------------


def test_a_coreset_adds_the_furthest_row_each_time(rng):
    rows = rng.standard_normal((60, 4)).astype(np.float32)
    valid = np.arange(60) < 50
    chosen = np.asarray(jax.jit(greedy_coreset, static_argnums=3)(jax.random.key(0), rows, valid, 12))
    assert chosen[0] < 50
    for number in range(1, 12):
        distances = np.linalg.norm(rows[:50, None] - rows[chosen[:number]][None], axis=2).min(1)
        assert chosen[number] == distances.argmax()
    few = np.asarray(jax.jit(greedy_coreset, static_argnums=3)(jax.random.key(0), rows, valid & (rows[:, 0] > 1.5), 40))
    assert set(few) == set(np.flatnonzero(valid & (rows[:, 0] > 1.5)))


def test_a_projected_coreset_still_covers_the_rows(rng):
    rows = np.concatenate(
        [centre + 0.01 * rng.standard_normal((20, 300)) for centre in rng.standard_normal((8, 1, 300))]
    )
    chosen = jax.jit(greedy_coreset, static_argnums=3)(
        jax.random.key(1), rows.astype(np.float32), np.ones(160, bool), 8
    )
    assert sorted(np.asarray(chosen) // 20) == list(range(8))


def test_candidates_are_drawn_from_what_counts():
    valid = np.arange(50) < 30
    drawn = np.asarray(jax.jit(some_of, static_argnums=2)(jax.random.key(0), valid, 12))
    assert len(set(drawn)) == 12
    assert (drawn < 30).all()
    assert sorted(drawn) != list(range(12))
    more = np.asarray(jax.jit(some_of, static_argnums=2)(jax.random.key(0), valid, 40))
    assert set(range(30)) < set(more)
    np.testing.assert_array_equal(jax.jit(some_of, static_argnums=2)(jax.random.key(0), valid, 60), np.arange(50))


def test_features_may_be_standardised_channel_by_channel(rng):
    rows = (rng.standard_normal((30, 3)) * [1, 5, 0] + [0, 2, 7]).astype(np.float32)
    centre, scale = jax.jit(standard, static_argnums=1)(rows.reshape(5, 3, 2, 3), "channel")
    np.testing.assert_allclose(centre, rows.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scale, [*rows[:, :2].std(0), 1], rtol=1e-4)


# ---- detectors -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bank():
    config = MemoryBankConfig(features=SMALL, memory=24, bank=100)
    return config, memory_bank(config), fitted(memory_bank(config), BRICK[:24])


def test_the_score_is_the_distance_of_the_worst_patch(bank):
    config, detector, state = bank
    patches = patches_of(config.features, state, BRICK[64:72])
    assert patches.shape == (8, 16, 16, 24)
    standardised = (patches - np.asarray(state.centre)) / np.asarray(state.scale)
    distances = np.linalg.norm(standardised[:, :, :, None] - np.asarray(state.inner.bank), axis=4).min(3)
    np.testing.assert_allclose(score_images(detector, state, BRICK[64:72], 8), distances.max((1, 2)), rtol=1e-3)
    expected = jax.jit(to_pixels, static_argnums=(1, 2))(distances, (32, 32), config.blur)
    np.testing.assert_allclose(map_images(detector, state, BRICK[64:72], 8), expected, rtol=1e-3, atol=1e-4)


def test_the_bank_holds_patches_of_the_images(bank):
    _, detector, state = bank
    patches = maps_of(detector.stage, state, BRICK[:24]).reshape(-1, 24).astype(np.float32)
    for row in np.asarray(state.inner.bank)[::20]:
        assert np.linalg.norm(patches - row, axis=1).min() == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", [memory_bank, feature_dictionary])
def test_defects_are_found_and_located_over_seeds(make, rng):
    detector = make(features=RANDOM, memory=24, **({"bank": 200} if make is memory_bank else {"clusters": 40}))
    bad, masks = spoilt(BRICK[200:240], rng)
    images, labels = np.concatenate([BRICK[100:140], bad]), np.repeat([0, 1], 40)
    found = []
    for seed in range(5):  # of which random features depend
        state = fitted(detector, BRICK[:24], seed)
        found.append(float(auroc(score_images(detector, state, images, 16), labels)))
        assert auroc(map_images(detector, state, bad, 16).ravel(), masks.ravel()) > 0.85
    assert np.mean(found) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("make", [memory_bank, feature_dictionary])
def test_more_images_make_a_better_detector(make):
    task = OneClass(8)
    detector = make(features=LARGER, memory=120, **({"bank": 400} if make is memory_bank else {"clusters": 40}))
    values = []
    for seed in range(3):
        states = [fitted(detector, images, seed) for images in (task.train[:2], task.train)]
        values.append([task.value(detector, state) for state in states])
    few, many = np.array(values).T
    # Features that a seed draws are in both; they differ more between seeds than two images and all of them do.
    assert (many > few).all()
    assert many.min() > max(0.5, few.max())
    assert (many - few).mean() > np.ptp(many)


def test_the_dictionary_is_that_of_scikit_learn():
    config = FeatureDictionaryConfig(features=SMALL, memory=64, clusters=9, neighbours=2)
    detector = feature_dictionary(config)
    state = fitted(detector, BRICK[:40])
    rows = np.asarray(state.inner.buffer.rows)[:40].reshape(-1, 24).astype(np.float64)
    model = PCA(24).fit(rows)
    kept = np.searchsorted(np.cumsum(model.explained_variance_ratio_), 0.95) + 1
    assert 1 < kept < 24
    assert (np.abs(np.asarray(state.inner.fitted.axes)).sum(1) > 0).sum() == kept
    reduced = model.transform(rows)[:, :kept]
    means = KMeans(9, n_init=1, random_state=int(state.inner.seed) % 2**31).fit(reduced).cluster_centers_
    queries = (patches_of(SMALL, state, BRICK[64:68]) - np.asarray(state.centre)) / np.asarray(state.scale)
    queries = model.transform(queries.reshape(-1, 24))[:, :kept]
    distances = np.sort(np.linalg.norm(queries[:, None] - means[None], axis=2), 1)[:, :2].mean(1)
    expected = distances.reshape(4, -1).max(1)
    np.testing.assert_allclose(score_images(detector, state, BRICK[64:68], 4), expected, rtol=2e-3)


@pytest.mark.parametrize("make", [memory_bank, feature_dictionary])
@pytest.mark.parametrize("level", [0, pytest.param(100, marks=pytest.mark.slow)])
def test_what_differs_from_equal_images_scores(make, level):
    same = np.full((4, 8, 8, 1), level, np.uint8)
    detector = make(features=FeatureConfig(backbone="random", width=2 if level == 0 else 8), memory=4)
    state, _ = fit(detector, jax.random.key(0), same, steps=1, batch_size=4)
    state = CALIBRATE(detector, state, jnp.asarray(same))
    scores = score_images(detector, state, np.concatenate([same, BRICK[:2, :8, :8]]), 8)
    assert np.isfinite(scores).all()
    # Around bright images there is black, so that their borders are no words of a dictionary of 95 % of the variance.
    times = 1 if level and make is feature_dictionary else 10
    assert scores[4:].min() > times * scores[:4].max() + 0.01


def test_a_loaded_detector_keeps_what_it_chose(bank, tmp_path):
    config, detector, state = bank
    saving.save(tmp_path, config=config, state=state, image_shape=(32, 32, 1))
    loaded = saving.load(tmp_path)
    again = jax.jit(loaded.detector.calibrate)(loaded.state, jnp.zeros((1, 32, 32, 1)))
    scores = score_images(detector, state, BRICK[:8], 8)
    np.testing.assert_array_equal(score_images(loaded.detector, again, BRICK[:8], 8), scores)


def test_maps_are_enlarged_and_smoothed(rng):
    maps = rng.random((2, 40, 30)).astype(np.float32)
    same = jax.jit(lambda maps: to_pixels(maps, (40, 30), 0.05))(maps)
    expected = np.stack([gaussian_filter(m.astype(np.float64), 2.0, truncate=8) for m in maps])
    np.testing.assert_allclose(same[:, 14:-14, 13:-13], expected[:, 14:-14, 13:-13], rtol=1e-3)
    flat = jax.jit(lambda maps: to_pixels(maps, (50, 70), 0.1))(jnp.ones((1, 5, 7)))
    np.testing.assert_allclose(flat, 1, rtol=1e-5)


def test_a_map_is_enlarged_before_it_is_smoothed(rng):
    """As `jax.image.resize` and a Gaussian one after the other, larger and smaller than it was."""
    maps = rng.random((2, 7, 9)).astype(np.float32)
    for size in ((28, 45), (5, 18)):
        enlarged = np.asarray(jax.image.resize(maps, (2, *size), "linear"), np.float64)
        found = jax.jit(to_pixels, static_argnums=(1, 2))(maps, size, 0.0)
        np.testing.assert_allclose(found, enlarged, atol=1e-6)
        offsets = [np.subtract.outer(np.arange(n), np.arange(n)) / (0.05 * max(size)) for n in size]
        rows, columns = (np.exp(-0.5 * offset**2) / np.exp(-0.5 * offset**2).sum(1)[:, None] for offset in offsets)
        found = jax.jit(to_pixels, static_argnums=(1, 2))(maps, size, 0.05)
        np.testing.assert_allclose(found, rows @ enlarged @ columns.T, atol=1e-6)


@pytest.mark.parametrize("blur", [0.0, 0.05])
def test_an_infinite_patch_is_infinite_where_it_is_and_nothing_else_is_lost(rng, blur):
    maps = rng.random((2, 7, 7)).astype(np.float32)
    maps[0, 2, 3], maps[0, 6, 6] = np.inf, -np.inf
    enlarge = jax.jit(lambda maps: to_pixels(maps, (28, 28), blur))
    found = np.asarray(enlarge(maps))
    assert not np.isnan(found).any()
    np.testing.assert_array_equal(found[1], enlarge(np.where(np.isinf(maps), 0, maps).astype(np.float32))[1])
    rows, columns = np.nonzero(found[0] == np.inf)  # between the centres of the patches around it
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 13, 10, 17)
    assert (found[0] == -np.inf).sum() == 36
    assert np.isfinite(found[0]).sum() == 28 * 28 - 64 - 36
    np.testing.assert_array_equal(found[0] == np.inf, resize_map(maps[0], (28, 28)) == np.inf)  # as pillow has it


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (memory_bank, {"bank": 0}, "bank is 0"),
        (memory_bank, {"memory": 0}, "memory is 0"),
        (memory_bank, {"candidates": 100}, "candidates is 100; give at least bank, which is 2048"),
        (memory_bank, {"blur": 1.0}, "blur is 1.0"),
        (memory_bank, {"features": FeatureConfig(backbone="vgg")}, "backbone is 'vgg'; choose one of random"),
        (memory_bank, {"features": FeatureConfig(backbone="random", levels=0)}, "levels is 0"),
        (
            memory_bank,
            {"features": FeatureConfig(backbone="random", standardise="pixel")},
            "is .pixel.; choose",
        ),
        (feature_dictionary, {"clusters": 0}, "clusters is 0"),
        (feature_dictionary, {"neighbours": 51}, "neighbours is 51; give 1 to clusters, which is 50"),
        (feature_dictionary, {"variance": 0.0}, "variance is 0.0"),
    ],
)
def test_configs_say_what_is_wrong_with_them(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_images_too_small_for_the_features_are_refused():
    detector = memory_bank(features=FeatureConfig(backbone="random", levels=3))
    with pytest.raises(ValueError, match="images are 4x9; 3 levels halve them to nothing: set levels lower"):
        jax.eval_shape(detector.init, jax.random.key(0), jnp.zeros((2, 4, 9, 1)))
