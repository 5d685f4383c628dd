"""Detectors with a fixed first part: what is kept of it, PaDiM and the linear autoencoder on features."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.decomposition import PCA

from jaxad.data import digits, textures
from jaxad.methods.common.image_buffer import places_of
from jaxad.methods.common.on_features import after_stage
from jaxad.methods.common.patch_features import FeatureConfig, make_feature_stage, make_features
from jaxad.methods.linear_patches import linear_patches
from jaxad.methods.padim import padim
from jaxad.methods.patchcore import memory_bank
from jaxad.metrics.image import auroc
from jaxad.nn import pretrained
from jaxad.nn.standard import standard
from jaxad.training import staged
from jaxad.training.calibration import calibrate
from jaxad.training.loop import fit, fit_population
from jaxad.training.scoring import map_images, score_images
from jaxad.types import Batch, Stage

BRICK = textures(32).images[:96]
SMALL = FeatureConfig(backbone="random", width=4)


def fitted(detector, images=BRICK[:40], seed=0, steps=5):
    state, _ = fit(detector, jax.random.key(seed), images, steps=steps, batch_size=8, chunk=steps)
    return calibrate(detector, state, images)


def standardised(state, images, config=SMALL):
    """Features [N, h, w, F] by another way than the kept ones."""
    maps = np.asarray(jax.jit(make_features(config).apply)(state.network, images.astype(np.float32) / 255))
    return (maps - np.asarray(state.centre)) / np.asarray(state.scale)


@pytest.fixture
def counted(monkeypatch):
    """How many images pass a stage, and a stage that counts them."""
    stage, passed = make_feature_stage(SMALL, memory_bank(features=SMALL, memory=8, bank=20).stage.inner), []

    def outputs(network, images):
        jax.debug.callback(lambda images: passed.append(len(images)), images)
        return stage.outputs(network, images)

    monkeypatch.setattr(staged, "_default", staged.OutputCache(staged.DEFAULT_LIMIT))
    monkeypatch.setattr(staged, "stage_batch", lambda: 1)
    return passed, after_stage(stage._replace(outputs=outputs))


# ---- the stage -----------------------------------------------------------------------------------------------------


def test_an_image_passes_the_stage_once(counted, tmp_path):
    passed, detector = counted
    state = fitted(detector, BRICK[:8])
    assert sum(passed) == 8  # trained on several times, and calibrated
    with staged.remembering(folder=tmp_path):
        for _ in range(2):
            score_images(detector, state, BRICK[4:12], 4)
            map_images(detector, state, BRICK[4:12], 4)
        assert sum(passed) == 16
    with staged.remembering(folder=tmp_path):  # as in another process
        score_images(detector, state, BRICK[4:12][::-1], 4)
        assert sum(passed) == 16
        score_images(detector, state, BRICK[12:13], 4)
        assert sum(passed) == 17


def test_what_is_torn_or_too_much_is_computed_again(counted, tmp_path):
    passed, detector = counted
    state = fitted(detector, BRICK[:2])
    with staged.remembering(folder=tmp_path):
        whole = score_images(detector, state, BRICK[:4], 4)
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    before = sum(passed)
    with staged.remembering(limit=1, folder=tmp_path):
        np.testing.assert_array_equal(score_images(detector, state, BRICK[:4], 4), whole)
    assert sum(passed) == before + 4
    cache = staged.OutputCache(limit=100)
    cache.add([b"a", b"b", b"c"], (np.zeros((3, 20), np.float16),))
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [True, False, False]


def test_what_passes_the_stage_is_counted(counted):
    _, detector = counted
    (before, spent), state = staged.outputs_computed(), fitted(detector, BRICK[:5])
    after, more = staged.outputs_computed()
    assert (after - before, more > spent) == (5, True)
    calibrate(detector, state, BRICK[:5])
    assert staged.outputs_computed() == (after, more)


def test_other_weights_and_other_pixels_are_something_else(counted):
    passed, detector = counted
    states = [fitted(detector, BRICK[:3], seed) for seed in (0, 1)]
    assert sum(passed) == 6
    assert not np.allclose(*(score_images(detector, state, BRICK[20:22], 2) for state in states))
    changed = BRICK[:3].copy()
    changed[1, 5, 5] ^= 1
    staged.maps_of(detector.stage, states[0], changed)
    assert sum(passed) == 6 + 4 + 1  # scored images are padded to a batch of two


def test_kept_scores_and_maps_are_those_of_the_pure_functions():
    detector = memory_bank(features=SMALL, memory=40, bank=64)
    state = fitted(detector)
    images = BRICK[60:70]
    pure = jax.jit(detector.score)(state, images.astype(np.float32) / 255)
    maps = jax.jit(detector.score_map)(state, images.astype(np.float32) / 255)
    scores = score_images(detector, state, images)
    np.testing.assert_allclose(scores, pure, rtol=1e-5)
    with staged.remembering():
        for _ in range(2):
            np.testing.assert_array_equal(score_images(detector, state, images), scores)
            np.testing.assert_allclose(map_images(detector, state, images), maps, rtol=1e-5, atol=1e-5)


def test_features_are_standardised_over_all_training_images():
    channel = dataclasses.replace(SMALL, standardise="channel")
    state = fitted(padim(features=channel, dimensions=3), BRICK[:40])
    maps = standardised(state, BRICK[:40], channel)
    np.testing.assert_allclose(maps.mean((0, 1, 2)), 0, atol=2e-3)
    np.testing.assert_allclose(maps.std((0, 1, 2)), 1, rtol=2e-3)


def test_places_are_standardised_by_what_is_usual_there():
    """By NumPy: the mean of each place, and its variance with the mean variance of all places, eight images' worth."""
    detector, images = padim(features=SMALL, dimensions=3), BRICK[:40].astype(np.float32) / 255
    state = fitted(detector, BRICK[:40])
    raw = np.asarray(jax.jit(make_features(SMALL).apply)(state.network, images))
    variance = raw.var(0, dtype=np.float64)
    scale = np.sqrt((40 * variance + 8 * variance.mean((0, 1))) / 48)
    for centre, deviation in ((state.centre, state.scale), jax.jit(standard, static_argnums=1)(raw, "place")):
        np.testing.assert_allclose(centre, raw.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(deviation, np.where(scale > 1e-6, scale, 1), rtol=1e-3)


def test_what_always_lies_at_a_place_is_nothing_odd_there(rng):
    """A bright square in all training images: by channel it is odder than its absence, by place only its absence is."""
    images = rng.integers(100, 110, (24, 16, 16, 1)).astype(np.uint8)
    images[:, 4:8, 4:8] = 250
    absent = np.full_like(images[:1], 105)
    oddest = {}
    for way in ("place", "channel"):
        features = dataclasses.replace(SMALL, standardise=way, use="shallow")
        state = fitted(padim(features=features, dimensions=3), images[1:])
        for name, image in (("present", images[:1]), ("absent", absent)):
            maps = np.abs(standardised(state, image, features)).mean(3)[0]
            oddest[way, name] = maps[2:4, 2:4].max() / maps.mean()
            if (way, name) == ("place", "present"):
                assert maps.max() < 2
    assert oddest["place", "absent"] > 5
    assert oddest["channel", "absent"] < 1 < oddest["channel", "present"]


def test_training_goes_on_from_a_state_and_populations_are_single_trainings():
    detector = linear_patches(features=SMALL, components=3)
    options = {"batch_size": 8, "chunk": 2}
    whole, history = fit(detector, jax.random.key(3), BRICK[:24], steps=4, **options)
    half, _ = fit(detector, jax.random.key(3), BRICK[:24], steps=2, **options)
    again, rest = fit(detector, jax.random.key(3), BRICK[:24], steps=4, state=half, start_step=2, **options)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    np.testing.assert_array_equal(rest.info.patches, history.info.patches[2:])
    keys = jnp.stack([jax.random.key(3), jax.random.key(4)])
    states, _ = fit_population(detector, keys, BRICK[:24], steps=4, **options)
    jax.tree.map(lambda all, one: np.testing.assert_array_equal(all[0], one), states, whole)


def test_levels_share_what_the_network_makes():
    stages = [
        make_feature_stage(FeatureConfig(backbone="random", width=4, use=use), None)
        for use in ("shallow", "deep", "both")
    ]
    assert len({stage.name for stage in stages}) == 1
    network = jax.jit(stages[0].init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    shallow, deep, both = (jax.jit(lambda x, s=s: s.assemble(s.outputs(network, x)))(images) for s in stages)
    assert (shallow.shape, deep.shape, both.shape) == ((2, 8, 8, 4), (2, 4, 4, 8), (2, 8, 8, 12))
    np.testing.assert_array_equal(both[..., :4], shallow)
    with pytest.raises(ValueError, match="use is 'middle'; choose one of both, shallow, deep"):
        make_features(FeatureConfig(backbone="random", use="middle"))


def test_features_are_the_best_that_are_there_and_say_which(monkeypatch):
    for there, name in ((True, "efficientnet_lite0"), (False, "random")):
        monkeypatch.setattr(pretrained, "is_there", lambda network, there=there: there)
        assert FeatureConfig().backbone == name
        assert FeatureConfig(backbone="random").backbone == "random"


def test_a_stage_that_is_not_standardised_hands_on_what_it_makes():
    inner = memory_bank(features=SMALL, memory=8, bank=20, patches=1024).stage.inner
    halves = Stage(
        "halves", lambda key, images: (), lambda params, images: (images / 2,), lambda outputs: outputs[0], inner
    )
    state, _ = fit(after_stage(halves._replace(standardise=None)), jax.random.key(0), BRICK[:4], steps=1, batch_size=4)
    np.testing.assert_allclose(
        np.sort(np.asarray(state.inner.buffer.rows)[:4, 0, 0]), np.sort(BRICK[:4, 0, 0, 0] / 510.0), atol=1e-3
    )


# ---- PaDiM -----------------------------------------------------------------------------------------------------------


def test_padim_is_scipys_mahalanobis_distance_at_each_place():
    detector = padim(features=SMALL, dimensions=5, epsilon=0.1)
    state = fitted(detector)
    chosen = np.asarray(state.inner.chosen)
    assert len(set(chosen)) == 5
    train, test = (standardised(state, images)[..., chosen].astype(np.float64) for images in (BRICK[:40], BRICK[60:63]))
    distances = np.zeros(test.shape[:3])
    for row, column in np.ndindex(*test.shape[1:3]):
        seen = train[:, row, column]
        precision = np.linalg.inv(np.cov(seen.T) + 0.1 * np.eye(5))
        distances[:, row, column] = [mahalanobis(f, seen.mean(0), precision) for f in test[:, row, column]]
    np.testing.assert_allclose(score_images(detector, state, BRICK[60:63]), distances.max((1, 2)), rtol=5e-3)


def test_padim_knows_places():
    """A bright square is ordinary where all images have one, and nowhere else."""
    rng = np.random.default_rng(0)

    def image(top, left):
        pixels = rng.normal(100, 5, (16, 16, 1))
        pixels[top : top + 4, left : left + 4] += 100
        return pixels.astype(np.uint8)

    train, same, moved = (
        np.stack([image(*place) for _ in range(n)]) for place, n in (((2, 2), 40), ((2, 2), 10), ((10, 10), 10))
    )
    detector = padim(features=SMALL, dimensions=8, epsilon=0.1)
    state = fitted(detector, train)
    assert score_images(detector, state, same).max() < score_images(detector, state, moved).min()


# ---- the linear autoencoder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["mean", "max", "top"])
def test_linear_patches_leave_what_scikit_learns_components_leave(aggregate):
    detector = linear_patches(features=SMALL, components=4, aggregate=aggregate, blur=0.0)
    state = fitted(detector)
    train, test = (standardised(state, images).astype(np.float64) for images in (BRICK[:40], BRICK[60:64]))
    model = PCA(4).fit(train.reshape(-1, 12))
    rows = test.reshape(-1, 12)
    left = np.square(rows - model.inverse_transform(model.transform(rows))).mean(1).reshape(4, -1)
    top = np.sort(left, 1)[:, ::-1][:, : max(1, left.shape[1] // 100)]
    expected = {"mean": left.mean(1), "max": left.max(1), "top": top.mean(1)}[aggregate]
    np.testing.assert_allclose(score_images(detector, state, BRICK[60:64]), expected, rtol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("make", [padim, linear_patches])
def test_noise_in_a_square_is_found_over_seeds(make, rng):
    bad = BRICK[70:90].copy()
    for image in bad:
        top, left = rng.integers(4, 18, 2)
        image[top : top + 10, left : left + 10, 0] = rng.integers(0, 256, (10, 10))
    images, labels = np.concatenate([BRICK[50:70], bad]), np.repeat([0, 1], 20)
    detector = make(features=FeatureConfig(backbone="random", width=16))
    values = [auroc(score_images(detector, fitted(detector, seed=seed), images), labels) for seed in range(3)]
    assert np.mean(values) > 0.9


def test_a_loaded_state_stays_as_it_was():
    for make in (padim, linear_patches):
        detector = make(features=SMALL)
        state = fitted(detector)
        fresh = jax.jit(detector.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
        fields = {name: getattr(fresh.inner, name) for name in ("count", "total", "squares")}
        loaded = state._replace(inner=state.inner._replace(**fields))
        jax.tree.map(np.testing.assert_array_equal, calibrate(detector, loaded, BRICK[:4]), loaded)


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (padim, {"dimensions": 0}, "dimensions is 0"),
        (padim, {"epsilon": 0.0}, "epsilon is 0.0"),
        (padim, {"blur": -1.0}, "blur is -1.0"),
        (linear_patches, {"components": 0}, "components is 0"),
        (linear_patches, {"aggregate": "sum"}, "aggregate is 'sum'; choose one of mean, max, top"),
    ],
)
def test_settings_out_of_range_are_refused(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(features=SMALL, **fields)


def test_one_step_sees_one_batch():
    """The pure step: the sums after two batches are those of both."""
    detector, images = linear_patches(features=SMALL), digits().images[:8].astype(np.float32) / 255
    state = jax.jit(detector.init)(jax.random.key(0), images)
    for half in (images[:4], images[4:]):
        state, info = jax.jit(detector.step)(jax.random.key(0), state, Batch(jnp.asarray(half)))
    maps = np.asarray(jax.jit(make_features(SMALL).apply)(state.network, images))
    rows = ((maps - np.asarray(state.centre)) / np.asarray(state.scale)).reshape(-1, 12)
    assert int(info.patches) == len(rows)
    np.testing.assert_allclose(state.inner.squares, rows.T @ rows, rtol=1e-4, atol=1e-3)


def test_the_same_places_of_a_map_are_kept_whenever_it_is_seen(rng):
    maps = rng.random((3, 6, 5, 2)).astype(np.float32)
    kept = jax.jit(places_of, static_argnums=2)
    some = np.asarray(kept(maps, jnp.uint32(1), 7))
    assert some.shape == (3, 7, 2)
    for rows, image in zip(some, maps.reshape(3, 30, 2)):
        found = [int(np.flatnonzero((image == row).all(1))[0]) for row in rows]
        assert len(set(found)) == 7
    np.testing.assert_array_equal(kept(maps[::-1].copy(), jnp.uint32(1), 7)[::-1], some)
    assert not np.array_equal(kept(maps, jnp.uint32(2), 7), some)
    np.testing.assert_array_equal(kept(maps, jnp.uint32(1), 30), maps.reshape(3, 30, 2))
