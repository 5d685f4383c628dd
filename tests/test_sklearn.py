"""The scikit-learn estimator: its manners are scikit-learn's, its numbers are those of the detector beneath."""

import pickle

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from jaxad.data import digits
from jaxad.methods.ama import AMAConfig
from jaxad.methods.classical.neighbours import NearestNeighboursConfig
from jaxad.methods.classical.pca import PCAConfig, pca
from jaxad.methods.classifier import ClassifierConfig
from jaxad.methods.devnet import DevNetConfig
from jaxad.metrics.image import auroc
from jaxad.sklearn import AnomalyDetector
from jaxad.training.loop import fit
from jaxad.training.scoring import score_images

IMAGES, LABELS = digits().images, digits().labels
ZEROS, OTHERS = IMAGES[LABELS == 0], IMAGES[LABELS != 0][:60]
ONE_COLOUR = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 8, 8))
SMALL_PCA = PCAConfig(memory=200, components=6)


@pytest.fixture(scope="module")
def model():
    return AnomalyDetector(SMALL_PCA, random_state=0).fit(ZEROS[:140])


def test_signs_are_those_of_scikit_learn(model):
    normal, anomalous = model.score_samples(ZEROS[140:]), model.score_samples(OTHERS)
    assert np.median(normal) > np.median(anomalous)
    both = np.concatenate([ZEROS[140:], OTHERS])
    decisions = model.decision_function(both)
    np.testing.assert_allclose(decisions, model.score_samples(both) - model.offset_, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(both), np.where(decisions < 0, -1, 1))
    assert (model.predict(OTHERS) == -1).mean() > 0.8
    assert (model.predict(ZEROS[140:]) == 1).mean() > 0.7
    assert auroc(-model.score_samples(both), np.repeat([0, 1], [len(ZEROS) - 140, 60])) > 0.95


def test_numbers_are_those_of_training_called_directly(model):
    held = -np.sort(-model.held_out_scores_)
    seed = np.random.RandomState(0).randint(2**31)
    chosen = np.random.default_rng(seed).choice(140, 28, replace=False)
    train = ZEROS[np.setdiff1d(np.arange(140), chosen)]
    detector = pca(SMALL_PCA)
    state, _ = fit(detector, jax.random.key(seed), train, steps=4, batch_size=32)
    state = jax.jit(detector.calibrate)(state, train)
    np.testing.assert_allclose(model.score_samples(OTHERS), -score_images(detector, state, OTHERS), rtol=1e-4)
    np.testing.assert_allclose(held, -np.sort(score_images(detector, state, ZEROS[chosen])), rtol=1e-4)


def test_contamination_may_change_after_the_fit():
    model = AnomalyDetector(SMALL_PCA, target_fpr=0.1, holdout=0.5, random_state=1).fit(ZEROS)
    held = model.held_out_scores_
    flagged = {}
    for target_fpr in (0.0, 0.01, 0.1, 0.3, 0.5):
        model.set_params(target_fpr=target_fpr)
        flagged[target_fpr] = (held < model.offset_).mean()
        assert flagged[target_fpr] <= target_fpr
        assert target_fpr - flagged[target_fpr] < 0.03
    assert model.set_params(target_fpr=0.0).offset_ == held.min()
    assert model.set_params(target_fpr="auto").threshold_.details["target"] == 0.05
    assert model.threshold_.n == 89


def test_it_can_be_cloned_pickled_and_put_into_a_pipeline(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(OTHERS)
    with pytest.raises(NotFittedError):
        _ = copy.offset_
    np.testing.assert_array_equal(copy.fit(ZEROS[:140]).score_samples(OTHERS), model.score_samples(OTHERS))
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.score_samples(OTHERS), model.score_samples(OTHERS))
    assert loaded.offset_ == model.offset_
    brightened = FunctionTransformer(lambda images: images / np.float32(255))
    pipeline = Pipeline([("scale", brightened), ("detect", clone(model))]).fit(ZEROS[:140])
    np.testing.assert_allclose(pipeline.score_samples(OTHERS), model.score_samples(OTHERS), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(pipeline.predict(OTHERS), model.predict(OTHERS))
    assert pipeline.set_params(detect__target_fpr=0.2)["detect"].target_fpr == 0.2


def test_images_may_come_without_channels(model):
    flat = AnomalyDetector(SMALL_PCA, random_state=0).fit(ZEROS[:140, ..., 0])
    np.testing.assert_array_equal(flat.score_samples(OTHERS[..., 0]), model.score_samples(OTHERS))
    assert model.anomaly_maps(OTHERS[:5]).shape == (5, 8, 8)
    assert set(model.fit_predict(ZEROS[:30])) <= {-1, 1}
    model.fit(ZEROS[:140])


@pytest.mark.slow
def test_a_grid_search_chooses_by_any_score():
    def separation(model, images, y):
        return float(auroc(-model.score_samples(images), y == -1))

    images = np.concatenate([ZEROS[:60], OTHERS[:30]])
    y = np.repeat([1, -1], [60, 30])
    grid = {"detector": [PCAConfig(memory=60, components=1), PCAConfig(memory=60, components=6)]}
    options = {"scoring": separation, "cv": StratifiedKFold(2), "error_score": "raise"}
    search = GridSearchCV(AnomalyDetector(random_state=0), grid, **options)
    search.fit(images, y)
    assert search.best_score_ > 0.9


def test_known_anomalies_are_kept_from_methods_that_cannot_use_them(model):
    images = np.concatenate([ZEROS[:140], OTHERS])
    told = AnomalyDetector(SMALL_PCA, random_state=0).fit(images, np.repeat([1, -1], [140, len(OTHERS)]))
    np.testing.assert_array_equal(told.score_samples(OTHERS), model.score_samples(OTHERS))


def test_known_anomalies_reach_methods_that_learn_from_them(monkeypatch):
    class Called(Exception):
        pass

    def fit(detector, key, images, **options):
        raise Called(images, options)

    monkeypatch.setattr("jaxad.sklearn.fit", fit)
    images, y = np.concatenate([ZEROS[:40], OTHERS[:10]]), np.repeat([1, -1], [40, 10])
    with pytest.raises(Called) as called:
        AnomalyDetector(AMAConfig(steps=4), batch_size=16, random_state=0).fit(images, y)
    shown, options = called.value.args
    assert (len(shown), options["steps"], options["batch_size"]) == (42, 4, 16)  # 8 normal ones are held out
    np.testing.assert_array_equal(options["labels"], np.repeat([0, 1], [32, 10]))
    np.testing.assert_array_equal(shown[options["labels"] == 1], OTHERS[:10])


def test_batches_have_as_many_known_anomalies_as_the_method_wants(monkeypatch):
    found = {}

    def fit(detector, key, images, **options):
        found.update(options)
        raise InterruptedError

    monkeypatch.setattr("jaxad.sklearn.fit", fit)
    images, y = np.concatenate([ZEROS[:40], OTHERS[:10]]), np.repeat([1, -1], [40, 10])
    wanted = {"devnet": (8, 1000), "agad": (4, 1000), "deep_sad": (None, 1000), "ama": (None, 1000)}
    for name, (anomalies, steps) in wanted.items():
        with pytest.raises(InterruptedError):
            AnomalyDetector(name, batch_size=16, random_state=0).fit(images, y)
        assert (found["anomalies_per_batch"], found["steps"]) == (anomalies, steps)
        assert found["labels"].sum() == 10


@pytest.mark.slow
def test_the_deviation_network_flags_what_it_was_shown_the_like_of():
    images, y = np.concatenate([ZEROS[:100], OTHERS[:30]]), np.repeat([1, -1], [100, 30])
    model = AnomalyDetector(DevNetConfig(widths=(8, 16)), steps=60, random_state=0).fit(images, y)
    both = np.concatenate([ZEROS[140:], OTHERS[30:]])
    assert auroc(-model.score_samples(both), np.repeat([0, 1], [len(ZEROS) - 140, len(OTHERS) - 30])) > 0.8


def test_a_classifier_is_given_classes():
    config = ClassifierConfig(widths=(4,), steps=3)
    model = AnomalyDetector(config, random_state=0).fit(IMAGES[:100], LABELS[:100])
    assert model.history_.accuracy.shape == (3,)
    assert model.predict(OTHERS).shape == (60,)


@pytest.mark.parametrize(
    ("settings", "images", "y", "message"),
    [
        ({"detector": "pcaa"}, ZEROS, None, "there is no detector 'pcaa'; choose one of agad"),
        ({"detector": "autoencoder"}, ZEROS, None, "has no default settings; give a AutoencoderConfig"),
        ({"target_fpr": 0.6}, ZEROS, None, "target_fpr is 0.6"),
        ({"target_fpr": "some"}, ZEROS, None, "target_fpr is 'some'"),
        ({"holdout": 0.0}, ZEROS, None, "holdout is 0.0"),
        ({"holdout": "half"}, ZEROS, None, "holdout is 'half'"),
        ({"batch_size": 0}, ZEROS, None, "batch_size is 0"),
        ({"steps": 0}, ZEROS, None, "steps is 0"),
        ({"steps": 1.5}, ZEROS, None, "steps is 1.5; give a whole number of at least 1"),
        ({"batch_size": 8.0}, ZEROS, None, "batch_size is 8.0; give a whole number of at least 1"),
        ({"batch_size": None}, ZEROS, None, "batch_size is None; give a whole number"),
        ({"batch_size": True}, ZEROS, None, "batch_size is True; give a whole number"),
        ({}, np.full((40, 8, 8), 7, np.uint8), None, "all 32 training images are equal"),
        ({}, ONE_COLOUR, None, "each of 32 training images has one colour throughout"),
        ({"detector": "isolation_forest"}, ONE_COLOUR[:1].repeat(9, 0), None, "all 7 training images are equal"),
        ({}, ZEROS[:1], None, "there are 1 normal images"),
        ({}, ZEROS.reshape(-1, 64), None, r"give X.reshape\(-1, 8, 8\)"),
        ({}, ZEROS.astype(np.float32), None, "divide by 255"),
        ({}, np.zeros((9, 3, 8, 8), np.uint8), None, r"looks like \[N, C, H, W\]: move the channels last"),
        ({}, ZEROS, np.zeros(len(ZEROS)), "give 1 for normal images and -1"),
        ({}, ZEROS, np.ones(3), "give one label for each"),
        ({"detector": "devnet"}, ZEROS, None, "y is None; devnet learns from labelled anomalies: give y with some -1"),
        ({"detector": "devnet"}, ZEROS, np.ones(len(ZEROS)), "y holds no -1; devnet learns from labelled anomalies"),
        ({"detector": "classifier"}, ZEROS, None, "needs the class of every normal image"),
        ({"detector": "classifier"}, ZEROS, np.full(len(ZEROS), 10), "integers from 0 to 9"),
    ],
)
def test_errors_say_what_to_do(settings, images, y, message):
    with pytest.raises(ValueError, match=message):
        AnomalyDetector(**settings).fit(images, y)


def test_other_images_than_those_of_the_fit_are_refused(model):
    with pytest.raises(ValueError, match=r"images are \(4, 8, 1\), those of fit \(8, 8, 1\)"):
        model.predict(ZEROS[:, :4])


def test_settings_are_not_touched_by_the_fit():
    config = NearestNeighboursConfig(memory=50)
    model = AnomalyDetector(config, steps=2, random_state=np.random.RandomState(3))
    before = dict(model.get_params())
    model.fit(ZEROS[:50])
    assert model.get_params() == before
