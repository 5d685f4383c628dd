"""What a report shows of a detector belongs to the images that it shows."""

import numpy as np
import pytest

from jaxad.data import Split, Task
from jaxad.metrics import thresholds
from jaxad.runs import runner
from jaxad.runs.evaluation import EXAMPLES, Evaluation, pictures
from jaxad.types import Detector

RNG = np.random.default_rng(0)


def split(labels):
    images = RNG.integers(0, 256, (len(labels), 4, 5, 3), dtype=np.uint8)
    return Split(images, np.array(labels, np.int32), None, np.array([f"{len(labels)}-{i}" for i in range(len(labels))]))


TASK = Task("noise", split([0] * 3), split([0, 1]), split([1, 0] * 4 + [0] * 4), {})
SCORES = np.arange(12, dtype=np.float32)
EVALUATION = Evaluation(np.zeros(2, np.float32), SCORES, thresholds.fixed(0.5), {})
CHOSEN = [1, 3, 5, 7, 8, 9, 0, 2, 4, 6]  # the first normal images, then the anomalous ones


def brighter(images):
    return images + 0.5


def shown(score_map):
    detector = Detector(None, None, None, None, score_map)
    return pictures(detector, np.float32(2), TASK, EVALUATION, brighter)


def test_notes_say_what_figures_do_not():
    def notes(test_scores, low):
        test = {"auroc": {"value": 1.0, "low": low, "high": 1.0}, "prevalence": 0.3}
        found = EVALUATION._replace(test_scores=test_scores, test=test)
        return runner.task_results(TASK, found, seed=0, notes=["mine"])["notes"]

    assert notes(SCORES, 0.9) == ["mine"]
    assert "interval without width" in notes(SCORES, 1.0)[1]
    assert "All scores are equal" in notes(0 * SCORES, 1.0)[1]


@pytest.mark.parametrize("score_map", [None, lambda state, images: state * images[..., 0]], ids=["none", "maps"])
def test_images_scores_and_labels_belong_together(score_map):
    found = shown(score_map)
    images = TASK.test.images[CHOSEN].astype(np.float32) / 255
    assert TASK.test.labels[CHOSEN].tolist() == [0] * EXAMPLES + [1] * 4
    np.testing.assert_array_equal(found["example_labels"], TASK.test.labels[CHOSEN])
    np.testing.assert_array_equal(found["example_scores"], SCORES[CHOSEN])
    np.testing.assert_allclose(found["inputs"], images, rtol=1e-6)
    np.testing.assert_allclose(found["reconstructions"], np.minimum(images + 0.5, 1), rtol=1e-6)


def test_errors_are_the_anomaly_maps_of_the_detector():
    found = shown(lambda state, images: state * images[..., 0])
    np.testing.assert_allclose(found["error_maps"], 2 * found["inputs"][..., 0], rtol=1e-6)


def test_without_maps_errors_are_absolute_differences():
    found = shown(None)
    assert found["error_maps"].shape == (10, 4, 5)
    np.testing.assert_allclose(found["error_maps"], 0.5, rtol=1e-5)  # of what the detector makes, not of what is drawn
