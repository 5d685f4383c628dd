"""Training that is saved on the way: as if it had never been interrupted."""

import jax
import numpy as np
import pytest
from test_training import IMAGES, RECORDER, recorder

from jaxad.training import checkpoint
from jaxad.training.loop import fit_population
from jaxad.training.resumable import fit_saved, train_saved


def train(path, *, detector=RECORDER, steps=10, checkpoints=3, names=("a", "b"), **options):
    keys = jax.vmap(jax.random.key)(np.array([3, 4]))
    options = {"batch_size": 4, "chunk": 5} | options
    return fit_saved(detector, keys, IMAGES, path=path, names=names, steps=steps, checkpoints=checkpoints, **options)


def alone(steps=10):
    keys = jax.vmap(jax.random.key)(np.array([3, 4]))
    return fit_population(RECORDER, keys, IMAGES, steps=steps, batch_size=4, chunk=5)


def test_saving_changes_nothing(tmp_path):
    trained = train(tmp_path / "state")
    state, history = alone()
    jax.tree.map(np.testing.assert_array_equal, trained.state, state)
    np.testing.assert_array_equal(trained.steps, np.arange(1, 11))
    assert trained.curves.keys() == {"loss"}  # rows are more than a number for each step
    np.testing.assert_array_equal(trained.curves["loss"].astype(np.float32), history.info.loss)


def test_killed_between_saves_it_ends_where_it_would_have(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", points=4)
    saved, save = [], checkpoint.save

    def save_once(path, *args, **options):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, *args, **options)

    monkeypatch.setattr(checkpoint, "save", save_once)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", points=4)
    monkeypatch.undo()
    begun = []
    resumed = train(tmp_path / "killed", points=4, on_chunk=lambda done, info: begun.append(done))
    assert min(begun) > 2 * 3  # of both members together, those before the first save included
    jax.tree.map(np.testing.assert_array_equal, (resumed.state, resumed.curves), (whole.state, whole.curves))
    assert resumed.steps.tolist() == [1, 4, 7, 10]
    assert resumed.seconds > 0


def test_the_file_of_another_training_is_not_used(tmp_path):
    train(tmp_path / "state", names=("c", "d"))
    trained = train(tmp_path / "state")
    jax.tree.map(np.testing.assert_array_equal, trained.state, alone()[0])
    assert checkpoint.read_metadata(tmp_path / "state")["names"] == ["a", "b"]


def test_divergence_ends_it(tmp_path):
    with pytest.raises(ValueError, match="a: training diverged between steps 3 and 7: lower its learning rate"):
        train(tmp_path / "state", detector=recorder(break_at=5))
    assert checkpoint.read_metadata(tmp_path / "state")["steps"] == 3


def test_no_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="steps is 0 and checkpoints 3; the least of both is 1"):
        train(tmp_path / "state", steps=0)


@pytest.mark.parametrize("length", [0, 40, -1])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, length):
    path = tmp_path / "state.safetensors"
    options = {"path": path, "stops": [1, 2], "like": lambda: np.zeros(2), "names": ["a"]}
    advance = lambda state, start, stop: (np.zeros(2) + stop, {})  # noqa: E731
    train_saved(advance, **options)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="remove that file, and its training begins anew") as error:
        train_saved(advance, **options)
    assert str(path) in str(error.value)
    path.unlink()
    np.testing.assert_array_equal(train_saved(advance, **options).state, [2, 2])
