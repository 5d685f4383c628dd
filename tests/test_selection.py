"""The moment that validation likes best is kept, and a stopped selection goes on as if it had not stopped."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxad.training.early_stopping import Selection, best_values, eval_steps, fit_selected, spread_evals, value_of
from jaxad.training.resumable import fit_selected_saved
from jaxad.types import Batch, Detector

LABELS = np.array([0] * 6 + [1] * 6)
VALID = np.linspace(0, 1, 12, dtype=np.float32).reshape(12, 1, 1, 1)
TRAIN = np.zeros((8, 1, 1, 1), np.float32)
EVALS = (1, 2, 4, 6)
SEEDS = 6


class Count(NamedTuple):
    steps: jax.Array
    seed: jax.Array
    calibrated: jax.Array


def wave(unusable_after: int = 99) -> Detector:
    """Scores that rank best near step 4 (or a step earlier, by seed), known in closed form."""

    def init(key, images):
        return Count(jnp.int32(0), jax.random.randint(key, (), 0, 2), jnp.bool_(False))

    def step(key, state, batch: Batch):
        return state._replace(steps=state.steps + 1, calibrated=jnp.bool_(False)), jnp.float32(0)

    def calibrate(state, images):
        return state._replace(calibrated=jnp.bool_(True))

    def score(state, images):
        x = images.reshape(images.shape[0])
        distance = jnp.abs(state.steps + state.seed - 4)
        scores = jnp.where(distance == 0, x, jnp.sin(x * (5.0 + distance)))
        return jnp.where(state.steps > unusable_after, jnp.nan, scores)

    return Detector(init, step, calibrate, score, None)


def run(detector, fit=fit_selected, **options):
    keys = jax.vmap(jax.random.key)(np.arange(SEEDS))
    return fit(detector, keys, TRAIN, VALID, LABELS, **{"evals": EVALS, "batch_size": 4} | options)


def test_every_seed_keeps_its_own_best_moment():
    selection = run(wave())
    assert set(np.asarray(selection.best.seed)) == {0, 1}  # or the test would say less than it seems
    for p in range(SEEDS):
        seed = int(selection.best.seed[p])
        for index, step in enumerate(EVALS):
            distance, x = abs(step + seed - 4), VALID.ravel()
            expected = roc_auc_score(LABELS, x if distance == 0 else np.sin(x * (5.0 + distance)))
            np.testing.assert_allclose(selection.values[p, index], expected, atol=1e-6)
        assert selection.best.steps[p] == EVALS[int(selection.values[p].argmax())]
    assert bool(selection.best.calibrated.all())
    assert not bool(selection.state.calibrated.any())  # training goes on from the state that was not calibrated
    assert list(selection.state.steps) == [6] * SEEDS


def test_unusable_moments_never_win():
    assert np.isnan(run(wave(unusable_after=0)).values).all()
    assert (best_values(run(wave(unusable_after=0)).values) == -1).all()
    selection = run(wave(unusable_after=2))
    assert np.isnan(selection.values[:, 2:]).all()
    assert (selection.best.steps <= 2).all()


def test_a_stopped_selection_goes_on(tmp_path):
    detector, seen = wave(), []
    whole = run(detector, on_eval=lambda selection, _: seen.append(int(selection.num_evals)))
    assert seen == [1, 2, 3, 4]

    def stop(selection, history):
        if selection.num_evals == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(detector, fit_selected_saved, path=tmp_path / "file", on_eval=stop)
    seen.clear()
    options = {"path": tmp_path / "file", "on_eval": lambda selection, _: seen.append(int(selection.num_evals))}
    again = run(detector, fit_selected_saved, **options)
    assert seen == [3, 4]
    jax.tree.map(np.testing.assert_array_equal, again.selection, whole)
    assert isinstance(again.selection, Selection)
    np.testing.assert_array_equal(again.steps, np.arange(EVALS[-1]) + 1)
    with pytest.raises(ValueError, match="does not fit"):
        run(wave(), fit_selected_saved, path=tmp_path / "file", evals=(1, 6))


def test_labelled_anomalies_train_and_do_not_calibrate():
    seen = []

    class Kept(NamedTuple):
        labels: jax.Array
        calibrated: jax.Array

    def step(key, state, batch):
        return state._replace(labels=state.labels + jnp.sum(batch.labels)), jnp.float32(0)

    def calibrate(state, images):
        seen.append(images.shape[0])
        return state._replace(calibrated=jnp.mean(images))

    detector = Detector(
        lambda key, images: Kept(jnp.int32(0), jnp.float32(0)), step, calibrate,
        lambda state, images: images[:, 0, 0, 0], None, labels="anomalies",
    )  # fmt: skip
    train = np.array([0, 0, 1, 0, 1, 0], np.float32).reshape(6, 1, 1, 1)
    selection = fit_selected(
        detector, jax.vmap(jax.random.key)(np.arange(2)), train, VALID, LABELS, evals=(2, 5), batch_size=4,
        train_labels=train.ravel().astype(int), anomalies_per_batch=1,
    )  # fmt: skip
    np.testing.assert_array_equal(selection.state.labels, [5, 5])
    np.testing.assert_array_equal(selection.best.calibrated, [0, 0])
    assert set(seen) == {4}


def test_maps_can_choose_the_moment():
    masks = np.zeros((12, 1, 1), np.uint8)
    masks[6:] = 1
    detector = wave()
    detector = detector._replace(score_map=lambda state, images: detector.score(state, images)[:, None, None])
    by_pixels = run(detector, criterion="pixel_auroc", valid_masks=masks)
    np.testing.assert_allclose(by_pixels.values, run(detector).values, atol=1e-6)  # an image is one pixel here
    with pytest.raises(ValueError, match="criterion is rpro, which needs masks"):
        run(detector, criterion="rpro")


def test_progress_counts_the_steps_of_all_seeds():
    told = []
    run(wave(), on_chunk=lambda done, info: told.append(done))
    assert told == sorted(told)
    assert told[-1] == SEEDS * EVALS[-1]


def test_evaluations_double_and_end_with_the_training():
    assert eval_steps(200) == (10, 20, 40, 80, 160, 200)
    assert eval_steps(20) == (10, 20)
    assert eval_steps(7) == (7,)


def test_values_are_those_of_scores_that_can_rank():
    assert value_of(np.arange(12.0), LABELS, "auroc") == 1.0
    assert np.isnan(value_of(np.ones(12), LABELS, "auroc"))
    assert np.isnan(value_of(np.full(12, np.inf), LABELS, "auroc"))


@pytest.mark.parametrize("options", [{"criterion": "luck"}, {"evals": ()}, {"evals": (2, 2)}, {"evals": (0, 3)}])
def test_nonsense_is_refused(options):
    keys = jax.vmap(jax.random.key)(np.arange(1))
    with pytest.raises(ValueError, match=r"choose one of auroc|give ascending numbers of steps"):
        fit_selected(wave(), keys, TRAIN, VALID, LABELS, **({"evals": (1,), "batch_size": 4} | options))


def test_evaluations_are_spread_from_the_first_to_the_last_step():
    assert spread_evals(1000, 4) == (250, 500, 750, 1000)
    assert spread_evals(1000, 1, first=0.3) == (1000,)
    assert spread_evals(1000, 80, first=0.21) == tuple(range(210, 1001, 10))
    assert spread_evals(3, 3) == (1, 2, 3)
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"{count} evaluations do not fit into 3 steps; give 1 to 3"):
            spread_evals(3, count)
