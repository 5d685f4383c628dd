"""One suite for every registered detector: what the rest of the library, and users, rely on."""

import jax
import jax.numpy as jnp
import numpy as np
import outside
import pytest
from PIL import Image

from jaxad._utils.tree import with_fields
from jaxad.data import digits
from jaxad.data.batches import as_float, to_float
from jaxad.data.lazy import find_images
from jaxad.methods import DETECTORS
from jaxad.metrics.image import auroc
from jaxad.runs import saving
from jaxad.runs.detection import score_stream
from jaxad.training import calibration, checkpoint
from jaxad.training.loop import fit, fit_population
from jaxad.training.scoring import LOOP, map_images, score_images
from jaxad.training.staged import remembering
from jaxad.types import Batch

IMAGES = digits().images[:64]
GARBAGE = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
CLASSES = digits().labels[:64]
# For those that learn from defects, every other image has its right half replaced by garbage.
MASKS = np.zeros(IMAGES.shape[:3], np.uint8)
MASKS[::2, :, 4:] = 1
DEFECTIVE = np.where(MASKS[..., None] == 1, np.tile(GARBAGE, (4, 1, 1, 1)), IMAGES)
STEPS = {"steps": 30, "batch_size": 16, "chunk": 30}


# Every registered method, with the tiny settings it is registered with; among them one that is not the library's.
assert outside.OutsideMeanConfig in {entry.config for entry in DETECTORS.values()}
# Relatives of others, those whose program takes half a minute to compile, and settings beyond the first; losses and
# steps of all these have tests of their own.
SLOW = {"alad", "ama", "dagmm", "deep_sad", "ganomaly", "nbs", "skip_ganomaly", "unet_segmenter"}
CASES = [
    pytest.param((name, case), marks=[pytest.mark.slow] if place or name in SLOW else [], id=f"{name}-{case}")
    for name, entry in DETECTORS.items()
    for place, case in enumerate(entry.tiny)
]

# Compiling these once more takes a minute on two cores; their own tests compare their steps with restatements.
LARGE = {
    "agad", "alad", "ama", "anogan", "autoencoder", "classifier", "conv_autoencoder", "dagmm", "deep_sad", "deep_svdd",
    "devnet", "feature_dictionary", "ganomaly", "linear_patches", "local_outlier_factor", "memory_bank", "nbs", "padim",
    "skip_ganomaly", "unet_segmenter",
}  # fmt: skip


def cases_of(index):
    """One case of every method, by its place."""
    return [
        pytest.param((name, list(entry.tiny)[index]), marks=[pytest.mark.slow] if name in LARGE else [], id=name)
        for name, entry in DETECTORS.items()
    ]


FIRST = cases_of(0)  # the same objects in both tests: what is trained for one serves the other


READ: set[str] = set()  # of batches, since it was emptied


class Watched(Batch):
    """A batch that notes what is looked at beside its images."""

    __slots__ = ()

    @property
    def labels(self):
        READ.add("labels")
        return self[1]

    @property
    def masks(self):
        READ.add("masks")
        return self[2]

    def __iter__(self):  # whoever unpacks it and names one of the two
        return iter((self[0], self.labels if self[1] is not None else None, self.masks))


class Trained:
    """A detector after training and calibration, which all tests of a case share."""

    def __init__(self, name, case):
        self.traces = []
        self.name, self.entry = name, DETECTORS[name]
        self.config = self.entry.tiny[case]
        detector = self.entry.build(self.config)

        def step(key, state, batch):
            self.traces.append(batch.images.shape)
            return detector.step(key, state, Watched(*batch))

        self.detector = detector._replace(step=step)
        told = self.detector.labels  # of every training image
        if getattr(self.config, "needs_anomalies", False):
            told = "defects"
        self.images = DEFECTIVE if told in ("masks", "defects") else IMAGES
        known = {"classes": {"labels": CLASSES}, "masks": {"masks": MASKS}, "defects": {"labels": MASKS.any((1, 2))}}
        self.options = STEPS | known.get(told, {})
        self.first = scaled(self.images if self.entry.whole else self.images[:16])  # what `init` sees
        self.compiled = jax.jit(self.detector.init), jax.jit(self.detector.step)
        READ.clear()
        self.fresh, _ = self.train(0, 0)
        self.raw, self.info = self.train(0)
        self.read = set(READ)
        self.calibrate = jax.jit(self.detector.calibrate)
        self.state = self.calibrate(self.raw, scaled(IMAGES))

    def train(self, seed, steps=STEPS["steps"]):
        """The state, and the infos of all steps."""
        key = jax.random.key(seed)
        if not self.entry.whole:
            state, history = fit(self.detector, key, self.images, **self.options | {"steps": steps})
            assert not history.diverged
            return state, history.info
        init, step = self.compiled
        state, infos = init(key, self.first), []
        if not steps:
            return state, None
        for number in range(steps):
            state, info = step(jax.random.fold_in(key, number), state, Batch(self.first, None, jnp.asarray(MASKS[:32])))
            infos.append(info)
        return state, jax.tree.map(lambda *leaves: np.stack(leaves), *infos)


def scaled(images):
    return jnp.asarray(images, jnp.float32) / 255


@pytest.fixture(scope="module", params=CASES)
def trained(request):
    yield Trained(*request.param)
    jax.clear_caches()  # of which the next case has no use


def member_of(states, index):
    return jax.tree.map(lambda leaf: leaf[index], states)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_states_scores_and_maps_have_the_promised_forms(trained):
    for leaf in jax.tree.leaves(trained.state):
        assert isinstance(leaf, jax.Array | np.ndarray)
        assert np.isfinite(leaf).all()
    for leaf in jax.tree.leaves(trained.info):
        assert leaf.shape[0] == STEPS["steps"]
        assert np.isfinite(leaf).any(axis=0).all()  # all of them where `fit` trains, which calls others diverged
    scores = score_images(trained.detector, trained.state, GARBAGE, 16)
    assert (scores.shape, scores.dtype) == ((16,), np.float32)
    assert np.isfinite(scores).all()
    if trained.detector.score_map is not None:
        maps = map_images(trained.detector, trained.state, GARBAGE, 16)
        assert (maps.shape, maps.dtype) == ((16, 8, 8), np.float32)
        assert np.isfinite(maps).all()


def test_it_looks_at_what_it_says_it_learns_from(trained):
    assert trained.detector.labels == trained.entry.labels
    where = {None: set(), "anomalies": {"labels"}, "classes": {"labels"}, "masks": {"masks"}}
    assert trained.read == where[trained.detector.labels]


@pytest.mark.parametrize("name", list(DETECTORS))
def test_known_anomalies_are_refused_by_what_would_learn_that_they_are_normal(name):
    entry = DETECTORS[name]
    detector = entry.build(next(iter(entry.tiny.values())))
    options = {"steps": 0, "batch_size": 4}
    if detector.labels not in ("anomalies", "classes"):
        with pytest.raises(
            ValueError, match=r"^2 images are labelled anomalous, .* cannot learn: leave these images out"
        ):
            fit(detector, jax.random.key(0), IMAGES[:8], labels=np.repeat([0, 1], [6, 2]), **options)
    if detector.labels not in ("anomalies", "masks"):
        with pytest.raises(ValueError, match=f"^masks have {MASKS[:8].sum()} anomalous pixels, .* is masks$"):
            fit_population(detector, jax.random.key(0)[None], IMAGES[:8], masks=MASKS[:8], **options)


@pytest.mark.parametrize("name", [name for name, entry in DETECTORS.items() if hasattr(entry.config, "steps")])
def test_steps_below_none_end_in_one_line(name):
    config = next(iter(DETECTORS[name].tiny.values()))
    with pytest.raises(ValueError, match=r"^steps is -1; the least is 1$"):
        DETECTORS[name].build(config, steps=-1)


def test_a_fresh_state_can_score(trained):
    assert np.isfinite(score_images(trained.detector, trained.fresh, IMAGES, 16)).all()


def test_garbage_scores_higher_than_training_images_and_nothing_is_clamped(trained):
    normal = score_images(trained.detector, trained.state, IMAGES, 16)
    garbage = score_images(trained.detector, trained.state, GARBAGE, 16)
    labels = np.repeat([0, 1], [len(normal), len(garbage)])
    assert auroc(np.concatenate([normal, garbage]), labels) > 0.9
    assert len(np.unique(np.concatenate([normal, garbage]))) > 0.9 * len(labels)


@pytest.mark.parametrize("trained", cases_of(-1), indirect=True)
def test_jit_changes_nothing(trained):  # for one case each: without jit every operation is compiled by itself
    images, detector = scaled(GARBAGE), trained.detector
    compiled = score_images(detector, trained.state, GARBAGE)
    np.testing.assert_allclose(compiled, detector.score(trained.state, images), rtol=1e-4, atol=1e-4)
    if detector.score_map is not None:
        maps = detector.score_map(trained.state, images)
        np.testing.assert_allclose(map_images(detector, trained.state, GARBAGE), maps, rtol=1e-3, atol=1e-5)


def test_a_score_is_the_same_to_the_bit_alone_and_in_any_batch_and_order(trained):
    images = np.concatenate([GARBAGE[:8], IMAGES, IMAGES[:8, ::-1]])
    images = np.resize(images, (max(trained.detector.together, LOOP) + 13, *images.shape[1:]))  # over again, where few
    mixed = np.random.default_rng(1).permutation(len(images))
    for function in (score_images, map_images)[: 1 + (trained.detector.score_map is not None)]:
        every = function(trained.detector, trained.state, images)
        some = every[mixed[:14]]
        for size in (1, 7):
            for start in range(0, len(some), size):
                found = function(trained.detector, trained.state, images[mixed[start : start + size]], size)
                np.testing.assert_array_equal(found, some[start : start + size])
        np.testing.assert_array_equal(function(trained.detector, trained.state, images[mixed]), every[mixed])
        floats = as_float(images[mixed[:7]])
        np.testing.assert_array_equal(function(trained.detector, trained.state, floats), some[:7])
        if trained.detector.stage is not None:
            with remembering():
                np.testing.assert_array_equal(function(trained.detector, trained.state, images[mixed[:14]]), some)


def test_stored_images_are_the_same_numbers_on_the_host():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(as_float(levels), jax.jit(to_float)(levels))
    np.testing.assert_allclose(as_float(levels), levels / 255, rtol=1e-7)


def test_training_and_calibration_are_deterministic(trained):
    equal(trained.train(0)[0], trained.raw)
    equal(trained.calibrate(trained.raw, scaled(IMAGES)), trained.state)


def test_a_second_step_and_a_second_training_compile_nothing(trained):
    start = jax.eval_shape(trained.detector.init, jax.random.key(0), trained.first)
    assert jax.tree.map(described, start) == jax.tree.map(described, trained.raw)
    before = len(trained.traces)
    trained.train(1, STEPS["steps"] + 1)  # two calls of the program
    assert len(trained.traces) == before


def described(leaf):
    return leaf.shape, leaf.dtype, leaf.weak_type


def test_calibration_may_be_repeated(trained):
    again = trained.calibrate(trained.state, scaled(IMAGES))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), again, trained.state)


@pytest.mark.parametrize("trained", FIRST, indirect=True)
def test_images_are_the_same_as_bytes_and_as_numbers(trained):
    """What is fitted to 0 to 255 and scores 0 to 1 would train without complaint."""
    stored, numbers = (calibration.calibrate(trained.detector, trained.raw, i) for i in (IMAGES, scaled(IMAGES)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), stored, numbers)
    scores = [score_images(trained.detector, trained.state, images, 16) for images in (GARBAGE, scaled(GARBAGE))]
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_gives_back_every_bit(trained, tmp_path):
    checkpoint.save(tmp_path / "state.safetensors", trained.state)
    like = jax.eval_shape(trained.detector.init, jax.random.key(0), trained.first)
    restored = checkpoint.restore(tmp_path / "state.safetensors", like)
    equal(restored, trained.state)
    equal(
        score_images(trained.detector, restored, GARBAGE, 16),
        score_images(trained.detector, trained.state, GARBAGE, 16),
    )


def test_a_saved_detector_scores_the_same(trained, tmp_path):
    options = {"config": trained.config, "image_shape": IMAGES.shape[1:]}
    saving.save(tmp_path, state=trained.state, **options)
    loaded = saving.load(tmp_path)
    assert (loaded.name, loaded.config) == (trained.name, trained.config)
    if not trained.entry.whole:  # whose state is as large as its images are many
        assert jax.tree.map(described, loaded.state) == jax.tree.map(described, trained.state)
    scores = score_images(trained.detector, trained.state, GARBAGE, 16)
    equal(score_images(loaded.detector, loaded.state, GARBAGE, 16), scores)
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(GARBAGE):
        Image.fromarray(image[..., 0]).save(tmp_path / "photos" / f"{number:02d}.png")
    found = [score_stream(loaded, find_images([tmp_path / "photos"]), None, batch_size=size) for size in (64, 5)]
    for stream in found:  # as detect.py does
        equal(np.float32([outcome.score for outcomes in stream for outcome in outcomes]), scores)


@pytest.mark.parametrize("trained", FIRST, indirect=True)
def test_two_seeds_under_vmap_equal_two_separate_runs(trained):
    if trained.entry.whole:
        pytest.skip("it is trained by a loop of its own")
    # Where a unit of AMA's critic is switched on by rounding, its gradient's penalty jumps, and the next steps with it.
    options = trained.options | {"steps": 1 if trained.name == "ama" else 3}
    results, both = [], []
    for vmapped in (True, False):
        keys = jax.vmap(jax.random.key)(np.array([0, 1]))
        states, history = fit_population(trained.detector, keys, trained.images, vmapped=vmapped, **options)
        both = [member_of(states, i) for i in range(2)]
        scores = [score_images(trained.detector, state, GARBAGE, 16) for state in both]
        results.append((history.info, np.stack(scores)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *results)
    told_apart = numbers_for_scoring(trained.detector, both[0]) != numbers_for_scoring(trained.detector, both[1])
    assert not (told_apart and np.allclose(*results[0][1])), (
        "states of two seeds differ, and their scores do not: name in `transient` what scoring does not need"
    )


def numbers_for_scoring(detector, state):
    """What a seed may change, and a score by it. What is fitted in closed form need not depend on it."""
    leaves = jax.tree.leaves(with_fields(state, dict.fromkeys(detector.transient)))
    return [np.asarray(leaf).tobytes() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
