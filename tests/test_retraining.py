"""Validation chooses among retrained detectors, whatever their order and however often they were interrupted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.data import Split, Task
from jaxad.methods.autoencoder import AutoencoderConfig, autoencoder
from jaxad.methods.common.patch_features import FeatureConfig
from jaxad.nas.loop import Trial
from jaxad.nn.architecture import Architecture, Layer
from jaxad.nn.objectives.child import ChildConfig
from jaxad.runs import retraining
from jaxad.runs.retraining import cut_short, retrain

CHILD = ChildConfig(optimiser="sgd", learning_rate=0.03)  # fewer arrays to save than Adam has
LAYER = Layer(channels=2, kernel=3, pool="max", pool_kernel=3, norm="none", activation="tanh")
TINY = Architecture(hypothesis="reconstruction", distance="l2", layers=(LAYER,))
SEEDS, LOOKS = 2, (10, 20)
STEPS = SEEDS * LOOKS[-1]  # of one candidate

detector_of = functools.cache(autoencoder)  # programs are kept by detector: all tests share one compilation


def split(rng, normal, anomalous):
    """Stripes are normal, noise is not."""
    stripes = np.tile(rng.random((normal, 1, 8, 1)), (1, 8, 1, 1))
    images = np.concatenate([stripes, rng.random((anomalous, 8, 8, 1))]).astype(np.float32)
    labels = np.repeat(np.array([0, 1], np.int32), (normal, anomalous))
    return Split(images, labels, None, np.array([f"{normal}-{i}" for i in range(len(images))]))


RNG = np.random.default_rng(0)
TASK = Task("stripes", split(RNG, 32, 0), split(RNG, 24, 8), split(RNG, 5, 1), {})


def trial(number, **fields):
    fields = {"population": 0, "tokens": [number], "architecture": TINY.to_json(), "reward": number / 16} | fields
    rest = {"status": "ok", "reason": None, "loss": 0.1, "params": 1, "flops": 1, "seconds": 0.1, "elapsed": 0.1}
    return Trial(trial=number, **fields, **rest)


TRIALS = [trial(3), trial(11), trial(5)]


def run(folder, trials=TRIALS, **options):
    usual = {"seeds": SEEDS, "steps": LOOKS[-1], "batch_size": 8, "criterion": "auroc", "child": CHILD}
    usual |= {"features": FeatureConfig(backbone="random")}
    return retrain(TASK, trials, key=jax.random.key(4), folder=folder, **usual | options)


@pytest.fixture(scope="module", autouse=True)
def kept_programs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retraining, "autoencoder", detector_of)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A retraining of all trials without interruption: winner, records, steps told, folder."""
    told, folder = [], tmp_path_factory.mktemp("whole")
    return *run(folder, on_steps=told.append), told, folder


def same(a, b):
    """Bitwise, but for the detector, which is made of functions."""
    assert (a.trial, a.config, a.step, a.value) == (b.trial, b.config, b.step, b.value)
    jax.tree.map(np.testing.assert_array_equal, (a.state, a.valid_scores), (b.state, b.valid_scores))


def test_the_winner_has_the_highest_validation_value(whole):
    winner, records, *_ = whole
    by_trial = {record["trial"]: max(record["valid"]) for record in records}
    assert len(set(by_trial.values())) == len(TRIALS)  # or there would be nothing to choose
    assert winner.value == max(by_trial.values()) == by_trial[winner.trial.trial]
    assert winner.trial in TRIALS


def test_the_order_of_the_trials_decides_nothing(whole, tmp_path):
    winner, records, *_ = whole
    again, reversed_records = run(tmp_path, TRIALS[::-1])
    same(again, winner)
    assert reversed_records == records[::-1]


def test_the_winner_is_the_detector_that_was_seen(whole):
    winner, records, *_ = whole
    assert winner.config == AutoencoderConfig(architecture=TINY, child=CHILD, steps=LOOKS[-1])
    scores = jax.jit(winner.detector.score)(winner.state, TASK.valid.images)
    np.testing.assert_allclose(winner.valid_scores, scores, rtol=1e-5)
    assert winner.valid_scores.dtype == np.float32
    normal, anomalous = (winner.valid_scores[TASK.valid.labels == label] for label in (0, 1))
    assert winner.value == pytest.approx(np.mean(anomalous[:, None] > normal[None]), abs=1e-6)  # AUROC
    (record,) = [record for record in records if record["trial"] == winner.trial.trial]
    curve = record["curves"][int(np.argmax(record["valid"]))]
    assert int(winner.state.step) == winner.step == LOOKS[int(np.argmax(curve))]


def test_records_hold_what_was_seen(whole):
    _, records, *_ = whole
    assert [(record["trial"], record["search_reward"]) for record in records] == [(t.trial, t.reward) for t in TRIALS]
    for record in records:
        assert set(record) == {"trial", "search_reward", "steps", "evals", "curves", "valid"}
        assert record["evals"] == list(LOOKS)
        assert np.shape(record["curves"]) == (SEEDS, len(LOOKS))
        assert record["valid"] == np.max(record["curves"], axis=1).tolist()
        assert len(set(map(tuple, record["curves"]))) == SEEDS  # every seed trains weights of its own


def test_progress_counts_the_steps_of_all(whole):
    _, _, told, _ = whole
    assert told == sorted(told)
    assert told[-1] == len(TRIALS) * STEPS


@pytest.mark.parametrize("stop", [STEPS + 10, STEPS + 30])  # before and after the second candidate's first look
def test_an_interrupted_retraining_ends_as_if_it_had_not_been(whole, tmp_path, stop):
    def interrupt(done):
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_steps=interrupt)
    told = []
    winner, records = run(tmp_path, on_steps=told.append)
    same(winner, whole[0])
    assert records == whole[1]
    assert told[:2] == [STEPS, stop]  # what was seen is not trained again


def test_unusable_detectors_never_win(whole, tmp_path, monkeypatch):
    """One trial's scores are NaN: it is recorded and left out, and where there is no other, none is chosen."""
    best = whole[0].trial
    other = next(t for t in TRIALS if t != best)
    broken = trial(best.trial, architecture=TINY.to_json() | {"distance": "l1"})

    def sometimes_broken(config):
        detector = detector_of(dataclasses.replace(config, architecture=TINY))
        return detector if config.architecture == TINY else detector._replace(score=unusable)

    def unusable(state, images):
        return jnp.full(images.shape[0], jnp.nan)

    monkeypatch.setattr(retraining, "autoencoder", sometimes_broken)
    winner, records = run(tmp_path, [broken, other])
    assert winner.trial == other
    assert records[0]["valid"] == [-1.0] * SEEDS
    assert np.isnan(records[0]["curves"]).all()
    with pytest.raises(ValueError, match="gives scores that are not finite: lower learning_rate"):
        run(tmp_path, [broken])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "luck"}, "criterion is 'luck'; choose one of auroc"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"steps": 0}, "steps is 0; the least is 1"),
        ({"trials": [trial(1, architecture={"layers": []})]}, "architecture has fields"),
    ],
)
def test_nonsense_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"seeds": 3}, {"steps": 40}])
def test_a_folder_of_other_settings_is_refused(whole, options):
    *_, folder = whole
    with pytest.raises(ValueError, match="retrained-3"):
        run(folder, **options)


def test_short_of_time_every_trial_is_seen_once_and_it_is_said(whole, tmp_path):
    _, records, *_ = whole
    winner, cut = run(tmp_path, seconds=1e-9)
    assert [record["evals"] for record in cut] == [[LOOKS[0]]] * len(TRIALS)
    assert [record["curves"] for record in cut] == [[curve[:1] for curve in r["curves"]] for r in records]
    assert winner.step == LOOKS[0]
    (said,) = cut_short(cut)
    assert f"of {LOOKS[-1]} steps" in said
    assert cut_short(records) == []
    assert run(tmp_path, seconds=3600)[1] == records  # with time, the same files go on
