"""Tasks whose images are brought to the size of a network."""

import numpy as np
import pytest

from jaxad.data import load_task, task_from_arrays
from jaxad.data.fitting import fit_size
from jaxad.data.images import resize


@pytest.fixture
def task(rng):
    images = rng.integers(0, 256, (12, 6, 4, 1), dtype=np.uint8)
    masks = rng.integers(0, 2, (4, 6, 4), dtype=np.uint8)
    labels = np.array([0, 0, 1, 1])
    return task_from_arrays(images[:4], (images[4:8], labels, masks), (images[8:], labels, masks))


def test_resizing_changes_every_part_and_says_so(task):
    fitted = fit_size(task, 8)
    for before, after in ((task.train, fitted.train), (task.valid, fitted.valid), (task.test, fitted.test)):
        np.testing.assert_array_equal(after.images, resize(before.images, 8))
        np.testing.assert_array_equal(after.labels, before.labels)
        assert after.masks is None
    assert fitted.details["shape"] == [8, 8, 1]
    assert fitted.details["fitted_from"] == [6, 4, "resize"]


def test_padding_keeps_pixels_and_masks_in_the_middle(task):
    fitted = fit_size(task, 8, how="pad")
    np.testing.assert_array_equal(fitted.test.images[:, 1:7, 2:6], task.test.images)
    np.testing.assert_array_equal(fitted.test.masks[:, 1:7, 2:6], task.test.masks)
    assert fitted.test.images.sum(dtype=int) == task.test.images.sum(dtype=int)
    assert fitted.train.masks is None


def test_a_task_that_fits_is_left_alone_and_nonsense_refused(task):
    digits = load_task("digits")
    assert fit_size(digits, 8) is digits
    with pytest.raises(ValueError, match="choose one of resize, pad"):
        fit_size(task, 8, how="crop")
    with pytest.raises(ValueError, match="6x4 do not fit into 4x4"):
        fit_size(task, 4, how="pad")
